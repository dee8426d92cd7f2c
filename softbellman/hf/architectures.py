"""What the architectures of transformers do around their output layer, read from their forward functions and run.

An architecture is known by the name of the class whose `forward` runs. Notation: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from softbellman.hf.known import ARCHITECTURES


@dataclass(frozen=True)
class Surroundings:
    """`logits = cap(output_scale * layer(input_scale * hidden) + added_bias)`, of which the first `vocabulary` are tokens.

    Attributes:
        input_scale, output_scale: factors before and behind the output layer.
        softcap: of `softcap * tanh(logits / softcap)`; None leaves the logits as they are.
        added_bias: `[V]`, added behind the scale; None adds nothing.
        vocabulary: how many rows of the output layer are tokens; None: all.
        casts: whether hidden states are cast to the dtype of the output layer.
    """

    input_scale: float = 1.0
    output_scale: float = 1.0
    softcap: float | None = None
    added_bias: Tensor | None = None
    vocabulary: int | None = None
    casts: bool = False


Rule = Callable[[Any], Surroundings]


def _field(model: Any, name: str) -> Any:
    """A field of the configuration of a model's text part."""
    return getattr(model.config.get_text_config(decoder=True), name)


def _plain(model: Any) -> Surroundings:
    return Surroundings()


def _cast(model: Any) -> Surroundings:
    return Surroundings(casts=True)


def _final_logits_bias(model: Any) -> Surroundings:
    return Surroundings(added_bias=model.final_logits_bias.view(-1))


def _final_logit_softcapping(model: Any) -> Surroundings:
    return Surroundings(softcap=_field(model, "final_logit_softcapping"))


def _logits_soft_cap(model: Any) -> Surroundings:
    return Surroundings(softcap=_field(model, "logits_soft_cap"))


def _output_logit_soft_cap(model: Any) -> Surroundings:
    return Surroundings(softcap=_field(model, "output_logit_soft_cap"), casts=True)


def _divided_by_logits_scaling(model: Any) -> Surroundings:
    return Surroundings(output_scale=1.0 / _field(model, "logits_scaling"))


def _times_logits_scaling(model: Any) -> Surroundings:
    return Surroundings(output_scale=float(_field(model, "logits_scaling")))


def _hidden_divided_by_logits_scaling(model: Any) -> Surroundings:
    return Surroundings(input_scale=1.0 / _field(model, "logits_scaling"))


def _logit_scale(model: Any) -> Surroundings:
    scale = model.logit_scale
    return Surroundings(output_scale=1.0 if scale is None else float(scale))


def _lm_head_multiplier(model: Any) -> Surroundings:
    return Surroundings(output_scale=float(model.model.lm_head_multiplier))


def _scale_decoder_outputs(model: Any) -> Surroundings:
    return Surroundings(input_scale=model.model_dim**-0.5 if model.config.scale_decoder_outputs else 1.0)


def _scaled_where_tied(model: Any) -> Surroundings:
    return Surroundings(input_scale=model.config.d_model**-0.5 if model.config.tie_word_embeddings else 1.0)


def _output_multiplier_and_softcap(model: Any) -> Surroundings:
    scale = float(_field(model, "output_multiplier"))
    return Surroundings(output_scale=scale, softcap=_field(model, "final_logit_softcapping"))


def _mup_width_and_padding(model: Any) -> Surroundings:
    scale = 1.0 / _field(model, "logits_mup_width_multiplier")
    return Surroundings(input_scale=scale, vocabulary=_field(model, "unpadded_vocab_size"))


RULES: dict[str, Rule] = {
    rule.__name__.strip("_"): rule
    for rule in (
        _final_logits_bias,  # before `plain`, which a bias that is still 0 would follow too
        _plain,
        _cast,
        _final_logit_softcapping,
        _logits_soft_cap,
        _output_logit_soft_cap,
        _divided_by_logits_scaling,
        _times_logits_scaling,
        _hidden_divided_by_logits_scaling,
        _logit_scale,
        _lm_head_multiplier,
        _scale_decoder_outputs,
        _scaled_where_tied,
        _output_multiplier_and_softcap,
        _mup_width_and_padding,
    )
}
"""How logits follow from an output layer, by name."""

_VERIFIED: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
"""The rule of each model that `verify_head` asked."""


def architecture(model: Any) -> str | None:
    """The name of transformers' class whose `forward` a model runs; None where it is another's."""
    for kind in type(model).__mro__:
        if "forward" in vars(kind) and not issubclass(kind, FSDPModule):
            return kind.__name__ if kind.__module__.startswith("transformers.models.") else None
    return None


def surroundings(model: Any) -> Surroundings:
    """What a model does around its output layer.

    Raises:
        ValueError: its architecture is not known, and `verify_head` has not asked it.
    """
    name = _VERIFIED.get(model) or ARCHITECTURES.get(architecture(model) or "")
    if name is None:
        raise ValueError(
            f"{type(model).__name__} is not among the architectures whose logits are known to follow from their output layer; "
            "call softbellman.hf.verify_head(model) once, which compares them with the model's own"
        )
    return RULES[name](model)


def candidates(model: Any) -> Iterator[tuple[str, Surroundings]]:
    """The rules that a model may follow: its architecture's alone where that is known, else all that its fields allow."""
    known = ARCHITECTURES.get(architecture(model) or "")
    for name, rule in RULES.items() if known is None else [(known, RULES[known])]:
        try:
            yield name, rule(model)
        except (AttributeError, TypeError):  # a field that this model does not have
            continue


def remember(model: Any, rule: str) -> None:
    """Have `surroundings` take a rule for one model."""
    _VERIFIED[model] = rule
