"""The tests of tests/simt/test_simt.py on the kernels' PTX."""

from test_simt import *  # noqa: F403
