"""The tests of tests/simt/test_simt_split.py on the kernels' PTX."""

from test_simt_split import *  # noqa: F403
