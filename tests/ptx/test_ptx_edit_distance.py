"""The tests of tests/simt/test_simt_edit_distance.py on the kernels' PTX."""

from test_simt_edit_distance import *  # noqa: F403
