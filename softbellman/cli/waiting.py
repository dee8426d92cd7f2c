"""How OpenMP's threads wait for each other: by default they spin, which on a machine that others use stops everybody."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""What a user may have chosen; then nothing is set."""

SPINS = "1000"
"""Rounds before a waiting thread sleeps, a few microseconds (docs/reliability.md has the times)."""


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Let waiting threads sleep soon, in this process and those it starts.

    Args:
        environment: where the variables are set.

    Returns:
        Whether they were set: not where the user chose, nor where torch, which reads them once, was imported before.
    """
    if "torch" in sys.modules or any(name in environment for name in CHOICES):
        return False
    environment["GOMP_SPINCOUNT"] = SPINS
    environment["KMP_BLOCKTIME"] = "1"
    return True
