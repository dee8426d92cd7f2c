"""The tests of tests/simt/test_simt_prior.py on the kernels' PTX."""

from test_simt_prior import *  # noqa: F403
