"""Waiting threads sleep soon unless the user chose otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from softbellman.cli.waiting import CHOICES, SPINS, wait_briefly

PROBE = "import os, softbellman.cli.main; print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"


def probe(**own: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in CHOICES}
    found = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, env={**environment, **own}
    )
    return found.stdout.strip()


def test_commands_set_it_before_torch_is_imported() -> None:
    assert probe() == f"{SPINS} None"


@pytest.mark.parametrize("name", CHOICES)
def test_the_users_choice_wins(name: str) -> None:
    assert SPINS not in probe(**{name: "active" if name == "OMP_WAIT_POLICY" else "7"})


def test_too_late_is_said() -> None:
    import torch  # noqa: F401

    environment: dict[str, str] = {}
    assert not wait_briefly(environment) and not environment
