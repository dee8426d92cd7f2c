"""The tests of tests/simt/test_simt_bleu.py on the kernels' PTX."""

from test_simt_bleu import *  # noqa: F403
