"""The tests of tests/simt/test_simt_divergence.py on the kernels' PTX."""

from test_simt_divergence import *  # noqa: F403
