"""The tests of tests/simt/test_simt_sampling.py on the kernels' PTX."""

from test_simt_sampling import *  # noqa: F403
