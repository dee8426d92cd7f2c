"""The tests of tests/simt/test_simt_payoffs.py on the kernels' PTX."""

from test_simt_payoffs import *  # noqa: F403
