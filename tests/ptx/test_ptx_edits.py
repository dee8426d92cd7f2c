"""The tests of tests/simt/test_simt_edits.py on the kernels' PTX."""

from test_simt_edits import *  # noqa: F403
