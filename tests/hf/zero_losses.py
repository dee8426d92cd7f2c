"""What each of two processes of DeepSpeed finds when a loss is computed inside ZeRO-3's forward pass."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import deepspeed
import distributed_losses as shared
import hf_models
import torch

from softbellman.hf import WithLoss, head_of

CONFIG: dict[str, Any] = {
    "train_micro_batch_size_per_gpu": 2,
    "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
    "optimizer": {"type": "SGD", "params": {"lr": 0.1}},
    "zero_force_ds_cpu_optimizer": False,
    "zero_allow_untested_optimizer": True,
}


def find(folder: Path) -> None:
    """Write what this process found: loss and full gradient of the output layer."""
    # DeepSpeed compiles an operator for processes of one machine here, in minutes, which gloo does without.
    sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]
    deepspeed.init_distributed(dist_backend="gloo")
    rank = torch.distributed.get_rank()
    found = {}
    for name in ("llama", "qwen3_tied"):
        module = WithLoss(hf_models.make(name).train(), shared.loss)
        engine, *_ = deepspeed.initialize(
            model=module, model_parameters=list(module.parameters()), config=CONFIG
        )
        weight = module.model.lm_head.weight
        inputs, labels = shared.inputs_of(module.model)
        rows = slice(2 * rank, 2 * rank + 2)
        value = engine({key: part[rows] for key, part in inputs.items()}, labels[rows])
        engine.backward(value)
        gradient = deepspeed.utils.safe_get_full_grad(weight)
        try:
            head_of(module.model, torch.zeros(2, 32))
            sentence = "none"
        except ValueError as error:
            sentence = str(error)
        found[name] = {"elements": weight.numel(), "gradient": gradient, "sentence": sentence}
    torch.save(found, folder / f"{rank}.pt")


if __name__ == "__main__":
    find(Path(sys.argv[1]))
