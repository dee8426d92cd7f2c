"""`softbellman info`: the facts are those of this machine, and the CUDA verdict gives the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from softbellman.cli.info import cuda_verdict

RunCommand = Callable[..., Any]


def test_lines_and_json_tell_the_same(softbellman: RunCommand) -> None:
    code, out, err = softbellman("info")
    facts = json.loads(softbellman("info", "--json").out)
    assert code == 0 and not err
    assert facts["versions"]["torch"] == torch.__version__ and torch.__version__ in out
    assert f"{torch.get_num_threads()} threads" in facts["devices"]["cpu"]
    assert facts["devices"]["cuda_kernels"] in out
    assert "compiler" in facts["native core"]
    for group in facts:
        assert f"{group}:" in out


@pytest.mark.parametrize(
    ("build", "torch_cuda", "visible", "capability", "usable", "reason"),
    [
        (False, "12.8", 1, (9, 0), False, "built without nvcc"),
        (True, None, 0, None, False, "CPU build"),
        (True, "12.8", 0, None, False, "sees no GPU"),
        (True, "12.8", 1, (7, 5), False, "sm_75"),
        (True, "12.8", 1, (8, 0), True, "1 GPU"),
        (True, "12.8", 2, (9, 0), True, "2 GPUs"),
    ],
)
def test_verdict(
    build: bool, torch_cuda: str | None, visible: int, capability: Any, usable: bool, reason: str
) -> None:
    verdict = cuda_verdict({"cuda": build}, torch_cuda=torch_cuda, visible=visible, capability=capability)
    assert verdict[0] is usable and reason in verdict[1]
