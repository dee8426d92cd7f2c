"""Files of this folder in two processes, as `torchrun` starts them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

MOST_SECONDS = 240


def in_two_processes(file: str, place: Path, **variables: str) -> list[dict[str, Any]]:
    """What each process wrote into `place`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    names = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
        "WORLD_SIZE": "2",
    }
    command = [sys.executable, str(Path(__file__).parent / file), str(place)]
    jobs = []
    for rank in range(2):
        environment = {**os.environ, **names, **variables, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        jobs.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    try:
        errors = [job.communicate(timeout=MOST_SECONDS)[1] for job in jobs]
    finally:
        for job in jobs:
            job.kill()
    assert [job.returncode for job in jobs] == [0, 0], "\n".join(errors)[-3000:]
    return [torch.load(place / f"{rank}.pt") for rank in range(2)]
