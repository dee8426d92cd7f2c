"""ZeRO-3 of DeepSpeed: reading the output layer's weight inside the wrapped forward pass gathers it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("peft")
pytest.importorskip("deepspeed")

import distributed_losses as shared
import hf_models
from hf_jobs import in_two_processes

from softbellman.hf import WithLoss


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found."""
    return in_two_processes("zero_losses.py", tmp_path_factory.mktemp("zero"), DS_ACCELERATOR="cpu")


@pytest.mark.parametrize("name", ["llama", "qwen3_tied"])
def test_two_processes_have_the_gradient_of_one(found: list[dict[str, Any]], name: str) -> None:
    module: Any = WithLoss(hf_models.make(name), shared.loss)
    inputs, labels = shared.inputs_of(module.model)
    (module(inputs, labels) / 2).backward()
    for own in (one[name] for one in found):
        assert own["elements"] == 0  # the weight is not here but within the forward and the backward pass
        torch.testing.assert_close(own["gradient"], module.model.lm_head.weight.grad, rtol=1e-4, atol=1e-5)
        assert "not gathered here" in own["sentence"]
