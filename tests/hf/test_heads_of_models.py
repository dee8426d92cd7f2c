"""A head has the loss and the gradients of the model itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

import hf_models  # noqa: E402

from softbellman import token_cross_entropy  # noqa: E402
from softbellman.hf import head_of, hidden_of, verify_head  # noqa: E402
from softbellman.hf.known import ARCHITECTURES  # noqa: E402


def own_loss(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    loss: torch.Tensor = model(**inputs).loss
    return loss


def head_loss(model: Any, inputs: dict[str, torch.Tensor], **options: Any) -> torch.Tensor:
    head = head_of(model, hidden_of(model, **inputs), **options)
    labels = inputs["labels"]
    if not model.config.is_encoder_decoder:
        head, labels = head[:, :-1], labels[:, 1:]
    return token_cross_entropy(head, labels, ignore_index=-100, reduction="mean")


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def assert_same(model: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Loss and gradients of a float32 model and its head agree; returns the gradients."""
    torch.manual_seed(0)  # dropout
    own = own_loss(model, inputs)
    wanted = gradients(model, own)
    torch.manual_seed(0)
    ours = head_loss(model, inputs)
    found = gradients(model, ours)
    torch.testing.assert_close(ours, own, rtol=1e-5, atol=1e-5)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        size = gradient.abs().max().item()
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5 * max(size, 1e-3), msg=name)
    return found


def with_lora(model: Any, **options: Any) -> Any:
    settings = {
        "r": 3,
        "lora_alpha": 12,
        "target_modules": ["lm_head"],
        "init_lora_weights": False,
        **options,
    }
    return peft.get_peft_model(model, peft.LoraConfig(**settings)).eval()


@pytest.mark.parametrize("name", hf_models.MODELS)
def test_a_head_has_loss_and_gradients_of_the_model(name: str) -> None:
    model = hf_models.make(name)
    assert_same(model, hf_models.batch(model))


@pytest.mark.parametrize("name", hf_models.MODELS)
def test_lora_on_the_output_layer_is_part_of_the_head(name: str) -> None:
    model = hf_models.make(name)
    inputs = hf_models.batch(model)
    plain = own_loss(model, inputs).item()
    adapted = with_lora(model)
    assert abs(own_loss(adapted, inputs).item() - plain) > 1e-2  # the adapter shows
    found = assert_same(adapted, inputs)
    assert {name.split(".")[-3] for name in found} == {"lora_A", "lora_B"}
    assert all(gradient.abs().max() > 0 for gradient in found.values())


@pytest.mark.parametrize("name", ["qwen3", "marian", "t5_tied"])
def test_lora_below_the_output_layer_needs_nothing_of_the_head(name: str) -> None:
    model = hf_models.make(name)
    targets = ["q"] if name == "t5_tied" else ["q_proj"]
    assert_same(with_lora(model, target_modules=targets), hf_models.batch(model))


@pytest.mark.parametrize(
    "options",
    [
        {"use_rslora": True},
        {"lora_dropout": 0.5},
        {"lora_bias": True},
        {"target_modules": ["lm_head", "embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["cohere", "gptj"])
def test_forms_of_lora_are_right(name: str, options: dict[str, Any]) -> None:
    model = hf_models.make(name)
    if name == "gptj" and "embed_tokens" in options.get("target_modules", ()):
        options = {"target_modules": ["lm_head", "wte"]}
    if options.get("lora_bias") and model.get_output_embeddings().bias is None:
        model.lm_head = torch.nn.Linear(32, hf_models.VOCABULARY)
    adapted = with_lora(model, **options)
    adapted.train()
    assert_same(adapted, hf_models.batch(model))


def test_a_shared_adapter_of_tied_embeddings_is_right() -> None:
    model = hf_models.make("qwen3_tied")
    adapted = with_lora(model, target_modules=["lm_head", "embed_tokens"], ensure_weight_tying=True)
    assert_same(adapted, hf_models.batch(model))


def test_several_adapters_merged_ones_and_disabled_ones_are_right() -> None:
    model = hf_models.make("granite")
    inputs = hf_models.batch(model)
    plain = own_loss(model, inputs).item()
    adapted = with_lora(model)
    other = peft.LoraConfig(r=2, lora_alpha=2, target_modules=["lm_head"], init_lora_weights=False)
    adapted.add_adapter("other", other)
    adapted.base_model.set_adapter(["default", "other"])
    assert_same(adapted, inputs)

    def compared() -> float:
        with torch.no_grad():
            own, ours = own_loss(adapted, inputs).item(), head_loss(adapted, inputs).item()
        assert ours == pytest.approx(own, rel=1e-5)
        return ours

    assert compared() != pytest.approx(plain, abs=1e-3)
    with adapted.disable_adapter():
        assert compared() == pytest.approx(plain, rel=1e-5)
    adapted.merge_adapter()
    assert compared() != pytest.approx(plain, abs=1e-3)
    with (
        torch.no_grad(),
        adapted.disable_adapter(),
    ):  # peft takes a merged adapter out again; so does the head
        assert head_loss(adapted, inputs).item() == pytest.approx(plain, rel=1e-4)


def test_an_adapter_put_into_the_model_itself_is_right() -> None:
    model = hf_models.make("llama")
    settings = peft.LoraConfig(r=3, target_modules=["lm_head", "q_proj"], init_lora_weights=False)
    assert_same(peft.inject_adapter_in_model(settings, model), hf_models.batch(model))


def test_a_bfloat16_model_with_a_float32_adapter_is_right_within_rounding() -> None:
    model = hf_models.make("granite").to(torch.bfloat16)
    inputs = hf_models.batch(model)
    adapted = with_lora(model)
    exact = with_lora(hf_models.make("granite"))
    exact.load_state_dict(adapted.state_dict())
    wanted, own, ours = own_loss(exact, inputs), own_loss(adapted, inputs), head_loss(adapted, inputs)
    found = gradients(adapted, ours)
    assert abs(ours - wanted) <= 2 * abs(own - wanted) + 8e-3 * wanted  # a bfloat16 has 8 bits
    for name, gradient in gradients(exact, wanted).items():
        assert found[name].dtype == torch.float32
        assert (found[name] - gradient).norm() <= 0.05 * gradient.norm()


def test_padding_of_the_vocabulary_is_left_out() -> None:
    model = hf_models.make("qwen3")
    inputs = hf_models.batch(model)
    tokens = 57
    inputs["labels"] = torch.where(inputs["labels"] >= tokens, -100, inputs["labels"])
    logits = model(**inputs).logits[:, :-1, :tokens].transpose(1, 2)
    wanted = torch.nn.functional.cross_entropy(logits, inputs["labels"][:, 1:], ignore_index=-100)
    ours = head_loss(model, inputs, vocabulary=tokens)
    torch.testing.assert_close(ours, wanted)
    ours.backward()
    assert not model.lm_head.weight.grad[tokens:].any()


@pytest.mark.parametrize("name", hf_models.MODELS)
def test_what_is_known_of_an_architecture_is_what_it_does(name: str) -> None:
    model = hf_models.make(name)
    assert verify_head(model) == ARCHITECTURES[type(model).__name__]
    assert not model.training


def test_autocast_casts_a_head_as_it_casts_the_model() -> None:
    model = hf_models.make("gemma2")
    inputs = hf_models.batch(model)
    adapted = with_lora(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        own, ours = own_loss(adapted, inputs), head_loss(adapted, inputs)
        assert head_of(adapted, hidden_of(adapted, **inputs)).dtype == torch.bfloat16
    torch.testing.assert_close(ours, own, rtol=2e-2, atol=2e-2)
    ours.backward()
    assert all(parameter.grad is not None for parameter in adapted.parameters() if parameter.requires_grad)
