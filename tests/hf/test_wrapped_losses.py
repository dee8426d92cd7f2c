"""A loss inside the wrapped forward pass: DDP, FSDP2, torch.compile, gradient checkpointing, autocast, each with LoRA."""

from __future__ import annotations

from typing import Any

import pytest
import torch

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

import distributed_losses as shared  # noqa: E402
import hf_models  # noqa: E402
from hf_jobs import in_two_processes  # noqa: E402

from softbellman.hf import WithLoss, head_of  # noqa: E402

CASES = [f"{name}{lora}" for name in shared.NAMES for lora in ("", "-lora")]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found."""
    return in_two_processes("distributed_losses.py", tmp_path_factory.mktemp("job"))


def alone(name: str, *, lora: bool) -> dict[str, torch.Tensor]:
    """The update of one process with the whole batch; two processes take the mean of their losses."""
    module: Any = shared.build(name, lora=lora)
    return shared.updated(lambda *batch: module(*batch) / 2, module, slice(None))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("wrapper", ["ddp", "fsdp"])
def test_two_processes_make_the_update_of_one(found: list[dict[str, Any]], wrapper: str, case: str) -> None:
    name, _, lora = case.partition("-")
    wanted = alone(name, lora=bool(lora))
    before = dict(shared.build(name, lora=bool(lora)).named_parameters())
    assert all(not torch.equal(wanted[key], before[key]) for key in wanted)
    for own in (one[f"{wrapper}-{case}"] for one in found):
        assert len(own) == len(wanted)
        for key, parameter in wanted.items():
            torch.testing.assert_close(own[key], parameter, rtol=1e-4, atol=1e-4, msg=key)


def test_an_output_layer_that_is_sharded_by_itself_is_gathered(found: list[dict[str, Any]]) -> None:
    for key, parameter in alone("llama", lora=False).items():
        torch.testing.assert_close(found[0]["fsdp-apart"][key], parameter, rtol=1e-4, atol=1e-4, msg=key)


def test_a_sharded_weight_outside_of_the_forward_pass_is_gathered_without_gradients_and_refused_with_them(
    found: list[dict[str, Any]],
) -> None:
    hidden = torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    wanted = head_of(hf_models.make("llama"), hidden).logits()
    for own in (one["outside"] for one in found):
        torch.testing.assert_close(own["logits"], wanted)
        assert "DTensor" in own["sentence"] and "WithLoss" in own["sentence"]


def test_tensor_parallel_processes_with_the_same_rows_get_the_gradient(found: list[dict[str, Any]]) -> None:
    model = hf_models.make("llama")
    inputs, labels = shared.inputs_of(model)
    value = WithLoss(model, shared.loss)(inputs, labels)
    value.backward()
    for own in (one["tensor_parallel"] for one in found):
        torch.testing.assert_close(own["loss"], value.detach())
        torch.testing.assert_close(own["gradient"], model.lm_head.weight.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lora", [False, True], ids=["", "lora"])
@pytest.mark.parametrize("name", shared.NAMES)
def test_a_compiled_forward_pass_has_the_same_loss_and_update(name: str, lora: bool) -> None:
    torch.compiler.reset()
    module = shared.build(name, lora=lora)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    ours = shared.updated(lambda *batch: compiled(*batch) / 2, module, slice(None))
    for key, parameter in alone(name, lora=lora).items():
        torch.testing.assert_close(ours[key], parameter, rtol=1e-4, atol=1e-4, msg=key)


@pytest.mark.parametrize("lora", [False, True], ids=["", "lora"])
@pytest.mark.parametrize("name", shared.NAMES)
def test_gradient_checkpointing_changes_nothing(name: str, lora: bool) -> None:
    module: Any = shared.build(name, lora=lora)
    module.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    ours = shared.updated(lambda *batch: module(*batch) / 2, module, slice(None))
    for key, parameter in alone(name, lora=lora).items():
        torch.testing.assert_close(ours[key], parameter, rtol=1e-4, atol=1e-4, msg=key)


@pytest.mark.parametrize("lora", [False, True], ids=["", "lora"])
@pytest.mark.parametrize("name", shared.NAMES)
def test_autocast_within_a_forward_pass_keeps_float32_gradients(name: str, lora: bool) -> None:
    module: Any = shared.build(name, lora=lora)
    inputs, labels = shared.inputs_of(module.model)
    exact = module(inputs, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = module(inputs, labels)
    rounded.backward()
    assert 0 < (rounded - exact).abs() <= 2e-2 * exact
    gradients = [parameter.grad for parameter in module.parameters() if parameter.requires_grad]
    assert all(gradient is not None and gradient.dtype == torch.float32 for gradient in gradients)
