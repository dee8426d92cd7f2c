"""What a head cannot express is refused in a sentence, never ignored."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

import hf_models  # noqa: E402

from softbellman.hf import head_of, hidden_of, verify_head  # noqa: E402
from softbellman.hf.architectures import RULES, Surroundings  # noqa: E402
from softbellman.hf.heads import build  # noqa: E402
from softbellman.hf.known import ARCHITECTURES  # noqa: E402

HIDDEN = torch.zeros(2, 3, 32)


class Quantised(nn.Linear):
    """As bitsandbytes' layers, a subclass."""


class Doubled(transformers.LlamaForCausalLM):
    """A forward pass of its own: twice the logits."""

    def forward(self, *args: Any, **options: Any) -> Any:
        found = super().forward(*args, **options)
        found.logits = found.logits * 2
        return found


class Renamed(transformers.LlamaForCausalLM):
    """Runs the forward pass of transformers."""


class OwnSoftcap(transformers.LlamaForCausalLM):
    """A forward pass of its own, which a rule describes."""

    def forward(self, *args: Any, **options: Any) -> Any:
        found = super().forward(*args, **options)
        cap = self.config.final_logit_softcapping
        found.logits = cap * torch.tanh(found.logits / cap)
        return found


def llama(kind: type = transformers.LlamaForCausalLM, **changes: Any) -> Any:
    return kind(transformers.LlamaConfig(**{**hf_models.MODELS["llama"][2], **changes})).eval()


def adapted(config: Any, name: str = "llama") -> Any:
    return peft.get_peft_model(hf_models.make(name), config)


@pytest.mark.parametrize(
    ("config", "error", "sentence"),
    [
        (peft.LoraConfig(target_modules=["lm_head"], use_dora=True), ValueError, "variant of LoRA, Dora"),
        (peft.LoHaConfig(target_modules=["lm_head"]), TypeError, "merge the adapter"),
        (peft.IA3Config(target_modules=["lm_head"], feedforward_modules=[]), TypeError, "merge the adapter"),
        (peft.TrainableTokensConfig(target_modules=["lm_head"], token_indices=[1]), TypeError, "merge the adapter"),
    ],
    ids=["dora", "loha", "ia3", "tokens"],
)  # fmt: skip
def test_other_adapters_on_the_output_layer_are_refused_unless_merged(config, error, sentence) -> None:
    model = adapted(config)
    with pytest.raises(error, match=sentence):
        head_of(model, HIDDEN)


def test_a_merged_dora_is_the_layer_that_it_became() -> None:
    model = adapted(
        peft.LoraConfig(target_modules=["lm_head"], use_dora=True, init_lora_weights=False)
    ).eval()
    inputs = hf_models.batch(model)
    model.merge_adapter()
    with torch.no_grad():
        wanted, head = model(**inputs).logits, head_of(model, hidden_of(model, **inputs))
        torch.testing.assert_close(head.logits(), wanted, rtol=1e-4, atol=1e-4)


def test_prompts_and_mixed_batches_are_refused() -> None:
    ids = torch.ones(1, 3, dtype=torch.long)
    prompts = adapted(peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(ValueError, match="changes the inputs in peft's own forward pass"):
        hidden_of(prompts, input_ids=ids)
    mixed = adapted(peft.LoraConfig(target_modules=["lm_head"]))
    with pytest.raises(ValueError, match="adapter_names mixes adapters"):
        hidden_of(mixed, input_ids=ids, adapter_names=["default"])
    with pytest.raises(ValueError, match="logits_to_keep concerns logits"):
        hidden_of(mixed, input_ids=ids, logits_to_keep=1)


def test_quantised_output_layers_are_refused() -> None:
    model = llama()
    model.lm_head = Quantised(32, 61)
    with pytest.raises(TypeError, match=r"must be torch.nn.Linear.*got .*Quantised.*not quantised"):
        head_of(model, HIDDEN)
    model.lm_head = nn.Linear(32, 61)
    model.lm_head.weight = nn.Parameter(torch.ones(61, 32, dtype=torch.int8), requires_grad=False)
    with pytest.raises(TypeError, match=r"must be floating, got torch\.int8"):
        head_of(model, HIDDEN)


def test_a_shard_that_is_not_gathered_is_refused() -> None:
    model = llama()
    model.lm_head.weight = nn.Parameter(torch.empty(0))
    with pytest.raises(ValueError, match=r"shape \(0,\): it is sharded.*WithLoss"):
        head_of(model, HIDDEN)


@pytest.mark.parametrize("how", ["hook", "pre_hook", "forward"])
def test_a_changed_output_layer_is_refused(how: str) -> None:
    model = llama()
    if how == "hook":
        model.lm_head.register_forward_hook(lambda layer, given, found: found * 2)
    elif how == "pre_hook":
        model.lm_head.register_forward_pre_hook(lambda layer, given: (given[0] * 2,))
    else:
        model.lm_head.forward = lambda hidden: hidden
    with pytest.raises(ValueError, match="forward hooks, which a Head does not run"):
        head_of(model, HIDDEN)


def test_an_unknown_forward_pass_is_asked_and_refused_where_no_rule_fits() -> None:
    model = llama(Doubled)
    with pytest.raises(ValueError, match=r"Doubled is not among the architectures.*verify_head"):
        head_of(model, HIDDEN)
    with pytest.raises(ValueError, match="logits of Doubled do not follow"):
        verify_head(model)
    assert head_of(llama(Renamed), HIDDEN).shape == (2, 3, 61)


def test_an_unknown_forward_pass_that_a_rule_describes_is_known_for_this_model() -> None:
    model = llama(OwnSoftcap, final_logit_softcapping=20.0)
    assert verify_head(model) == "final_logit_softcapping"
    assert head_of(model, HIDDEN).softcap == 20.0
    with pytest.raises(ValueError, match="OwnSoftcap is not among"):
        head_of(llama(OwnSoftcap, final_logit_softcapping=20.0), HIDDEN)


def test_a_bias_that_is_still_zero_is_found() -> None:
    class Own(transformers.BartForConditionalGeneration):
        def forward(self, *args: Any, **options: Any) -> Any:
            return super().forward(*args, **options)

    model = Own(transformers.BartConfig(**hf_models.MODELS["bart"][2]))
    assert verify_head(model) == "final_logits_bias"


@pytest.mark.parametrize("name", ["BertLMHeadModel", "RobertaForCausalLM"])
def test_output_layers_behind_further_layers_are_refused(name: str) -> None:
    settings = {
        key: value for key, value in hf_models.MODELS["llama"][2].items() if key != "num_key_value_heads"
    }
    kind = getattr(transformers, name)
    model = kind(kind.config_class(**settings, is_decoder=True))
    with pytest.raises(ValueError, match="not among the architectures"):
        head_of(model, HIDDEN)
    with pytest.raises(ValueError, match="do not follow from its output layer"):
        verify_head(model)


def test_a_wrapper_and_a_body_are_refused() -> None:
    with pytest.raises(TypeError, match="got Linear; pass the model inside"):
        head_of(nn.Linear(2, 2), HIDDEN)
    with pytest.raises(ValueError, match=r"LlamaModel tells no output layer|LlamaModel is not among"):
        head_of(llama().model, HIDDEN)


def test_more_tokens_than_the_model_gives_logits_of_are_refused() -> None:
    model = llama()
    with pytest.raises(ValueError, match="vocabulary must be"):
        head_of(model, HIDDEN, vocabulary=62)
    around = Surroundings(vocabulary=45)
    assert build(model, HIDDEN, around).vocabulary == 45
    with pytest.raises(ValueError, match="vocabulary must be at most 45"):
        build(model, HIDDEN, around, vocabulary=46)


def test_an_encoder_decoder_model_needs_what_its_decoder_reads() -> None:
    model = hf_models.make("t5_tied")
    with pytest.raises(ValueError, match="needs decoder_input_ids, or labels"):
        hidden_of(model, input_ids=torch.ones(1, 2, dtype=torch.long))
    with pytest.raises(TypeError, match="does not know the inputs"):
        hidden_of(
            model, input_ids=torch.ones(1, 2, dtype=torch.long), labels=torch.ones(1, 2).long(), colour=1
        )


def test_the_hidden_states_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match="like the last dimension of hidden"):
        head_of(llama(), torch.zeros(2, 3, 16))


def test_verification_does_not_change_the_model() -> None:
    model = llama().train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    state: dict[str, Tensor] = {name: value.clone() for name, value in model.state_dict().items()}
    verify_head(model)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert head_of(model, HIDDEN) is not None  # its hook is gone


def test_the_table_names_rules_and_classes_of_transformers() -> None:
    assert set(ARCHITECTURES.values()) <= set(RULES)
    known = [name for name in ARCHITECTURES if hasattr(transformers, name)]
    assert len(known) > 100  # another version of transformers has other classes
