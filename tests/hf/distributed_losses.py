"""What each of two processes finds when a loss is computed inside the forward pass that a wrapper has."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hf_models
import peft
import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from softbellman.hf import WithLoss, head_of, hidden_of
from softbellman.losses import token_cross_entropy

NAMES = ("llama", "qwen3_tied", "gemma2", "marian")
LEARNING_RATE = 0.5


def loss(head: Any, labels: Tensor) -> Tensor:
    """The sum over tokens, so that processes with different numbers of tokens add up."""
    return token_cross_entropy(head, labels, ignore_index=-100, reduction="sum")


def build(name: str, *, lora: bool) -> nn.Module:
    model = hf_models.make(name)
    if lora:
        settings = peft.LoraConfig(r=3, target_modules=["lm_head"], init_lora_weights=False)
        model = peft.get_peft_model(model, settings)
    return WithLoss(model.train(), loss)


def inputs_of(model: Any) -> tuple[dict[str, Tensor], Tensor]:
    inputs = hf_models.batch(model, rows=4)
    labels = inputs.pop("labels")
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = labels.clamp(min=0)
    return inputs, labels


def updated(trained: Callable[..., Tensor], module: nn.Module, rows: slice) -> dict[str, Tensor]:
    """The parameters after one update with the mean over two processes."""
    inputs, labels = inputs_of(module.model)
    value = trained({key: part[rows] for key, part in inputs.items()}, labels[rows])
    value.backward()
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    torch.optim.SGD(trainable, lr=LEARNING_RATE).step()
    full = {
        name: parameter.detach() for name, parameter in module.named_parameters() if parameter.requires_grad
    }
    return {name: part.full_tensor() if isinstance(part, DTensor) else part for name, part in full.items()}


def _layers(model: Any) -> list[nn.Module]:
    """The layers of a model, as they are sharded one by one."""
    kinds = ("DecoderLayer", "EncoderLayer")
    return [part for part in model.modules() if type(part).__name__.endswith(kinds)]


def sharded(module: Any, *, head_apart: bool) -> nn.Module:
    for layer in _layers(module.model):
        fully_shard(layer)
    if head_apart:
        fully_shard(module.model.get_output_embeddings())
    return fully_shard(module)


def find(folder: Path) -> None:
    """Write what this process found."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    rows = slice(2 * rank, 2 * rank + 2)
    found: dict[str, Any] = {}
    for name in NAMES:
        for lora in (False, True):
            key = f"{name}{'-lora' if lora else ''}"
            module = build(name, lora=lora)
            found[f"ddp-{key}"] = updated(DistributedDataParallel(module), module, rows)
            module = sharded(build(name, lora=lora), head_apart=False)
            found[f"fsdp-{key}"] = updated(module, module, rows)
    module = sharded(build("llama", lora=False), head_apart=True)
    found["fsdp-apart"] = updated(module, module, rows)
    found["outside"] = outside()
    found["tensor_parallel"] = tensor_parallel()
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def outside() -> dict[str, Any]:
    """A head of a sharded weight outside of the forward pass: with and without a gradient."""
    module: Any = sharded(build("llama", lora=False), head_apart=False)
    hidden = torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = head_of(module.model, hidden).logits()
    try:
        head_of(module.model, hidden)
    except ValueError as error:
        return {"logits": logits, "sentence": str(error)}
    return {"logits": logits, "sentence": "none"}


def tensor_parallel() -> dict[str, Tensor]:
    """Loss and gradient of an output layer whose rows are spread over two processes with the same hidden states."""
    model = hf_models.make("llama")
    mesh = init_device_mesh("cpu", (2,))
    model.lm_head.weight = nn.Parameter(distribute_tensor(model.lm_head.weight.detach(), mesh, [Shard(0)]))
    inputs, labels = inputs_of(model)
    hidden = hidden_of(model, **inputs)
    value = loss(head_of(model, hidden, same_rows=True), labels)
    value.backward()
    return {"loss": value.detach(), "gradient": model.lm_head.weight.grad.full_tensor()}


if __name__ == "__main__":
    find(Path(sys.argv[1]))
