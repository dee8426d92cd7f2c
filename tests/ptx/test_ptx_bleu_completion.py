"""The tests of tests/simt/test_simt_bleu_completion.py on the kernels' PTX."""

from test_simt_bleu_completion import *  # noqa: F403
