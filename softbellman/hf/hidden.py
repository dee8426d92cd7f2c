"""The last hidden states of a model of transformers, without logits.

Notation: B sequences, T tokens, H hidden units.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor

from softbellman.hf.layers import transformers_model


def hidden_of(model: Any, **inputs: Any) -> Tensor:
    """What the output layer of a model reads, `[B, T, H]`; no logits are made.

    Args:
        model: as of `head_of`.
        **inputs: what the model's own forward pass takes, but for what concerns logits. An encoder-decoder model needs
            `decoder_input_ids`, or `labels`, of which it makes them; others ignore `labels`.

    Raises:
        TypeError, ValueError: the model keeps its last hidden states to itself, or peft changes more than layers.

    Example:
        >>> hidden = hidden_of(model, input_ids=ids, attention_mask=mask)  # doctest: +SKIP
    """
    found = transformers_model(model)
    _check_adapters(model, inputs)
    inputs = _with_decoder_inputs(found, inputs)
    inputs.setdefault("use_cache", False)
    body = _body(found)
    outputs = body(**_known(body, inputs)) if body is not found else _encoder_decoder(found, inputs)
    states = getattr(outputs, "last_hidden_state", None)
    if not isinstance(states, Tensor):
        raise TypeError(
            f"{type(found).__name__} keeps its last hidden states to itself: {type(body).__name__} returns no "
            "last_hidden_state; take them from output_hidden_states and give them to head_of"
        )
    return states


def _body(model: Any) -> Any:
    """The part of a model below its output layer; the model itself where it has none that is one module."""
    places = [model.base_model]
    if not model.config.is_encoder_decoder:
        places += [model.get_decoder(), getattr(model, "model", model)]
    return next((place for place in places if place is not model), model)


def _with_decoder_inputs(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    inputs = dict(inputs)
    labels = inputs.pop("labels", None)
    if "logits_to_keep" in inputs:
        raise ValueError("logits_to_keep concerns logits; index the hidden states instead: hidden[:, -1:]")
    if not model.config.is_encoder_decoder:
        return inputs
    if inputs.get("decoder_input_ids") is None and inputs.get("decoder_inputs_embeds") is None:
        if labels is None:
            raise ValueError(f"{type(model).__name__} needs decoder_input_ids, or labels to make them of")
        inputs["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(labels)
    return inputs


def _known(part: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs without `use_cache=False` where a part does not know it."""
    known = inspect.signature(part.forward).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    return {key: value for key, value in inputs.items() if key != "use_cache" or takes_any or key in known}


def _encoder_decoder(model: Any, inputs: dict[str, Any]) -> Any:
    """What the decoder returns, of a model without a body of its own (T5)."""
    if not model.config.is_encoder_decoder:
        raise TypeError(f"{type(model).__name__} has no body (base_model) without an output layer")
    own = ("input_ids", "inputs_embeds", "attention_mask", "encoder_outputs")
    of_decoder = {
        "decoder_input_ids": "input_ids",
        "decoder_inputs_embeds": "inputs_embeds",
        "decoder_attention_mask": "attention_mask",
    }
    unknown = sorted(set(inputs) - {*own, *of_decoder, "use_cache"})
    if unknown:
        raise TypeError(f"{type(model).__name__}: hidden_of does not know the inputs {unknown}")
    encoded = inputs.get("encoder_outputs")
    if encoded is None:
        encoded = model.get_encoder()(**{key: inputs[key] for key in own[:3] if inputs.get(key) is not None})
    asked = {to: inputs[key] for key, to in of_decoder.items() if inputs.get(key) is not None}
    return model.get_decoder()(
        **asked,
        encoder_hidden_states=encoded[0],
        encoder_attention_mask=inputs.get("attention_mask"),
        use_cache=False,
    )


def _check_adapters(model: Any, inputs: dict[str, Any]) -> None:
    """Refuse what a model of peft does outside of the layers that it replaced."""
    if "adapter_names" in inputs:
        raise ValueError("adapter_names mixes adapters within a batch, which a Head does not express")
    for name, config in (getattr(model, "peft_config", None) or {}).items():
        outside = type(config).__name__ in ("XLoraConfig", "PolyConfig")
        outside = outside or getattr(config, "is_prompt_learning", False)
        if outside or getattr(config, "alora_invocation_tokens", None):
            raise ValueError(
                f"adapter {name!r} ({type(config).__name__}) changes the inputs in peft's own forward pass, which hidden_of "
                "does not run; give head_of the hidden states of model(..., output_hidden_states=True)"
            )
