"""How the fuzz tests draw: a fixed number of examples, the same in every run, unless more are asked for.

`SOFTBELLMAN_FUZZ=20000 pytest tests/fuzz` draws so many random examples of each test, and keeps those that fail.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

ASKED = os.environ.get("SOFTBELLMAN_FUZZ")

settings.register_profile(
    "fuzz",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=40,
    suppress_health_check=list(HealthCheck),
)
settings.register_profile(
    "fuzz more", deadline=None, max_examples=int(ASKED or 1), suppress_health_check=list(HealthCheck)
)

fuzz = settings(settings.get_profile("fuzz more" if ASKED else "fuzz"))
