"""The tests of tests/simt/test_simt_token_statistics.py on the kernels' PTX."""

from test_simt_token_statistics import *  # noqa: F403
