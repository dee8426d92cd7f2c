"""The output layer of a model of transformers as a `Head`.

Notation: V vocabulary, H hidden units.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from softbellman.core.head import Head
from softbellman.hf.architectures import Surroundings, surroundings
from softbellman.hf.layers import linear_parts, output_layer, transformers_model
from softbellman.hf.lora import adapter_columns, without_adapter


def head_of(
    model: Any,
    hidden: Tensor,
    *,
    vocabulary: int | None = None,
    chunk_rows: int | None = None,
    same_rows: bool = False,
) -> Head:
    """The logits that a model of transformers makes of its last hidden states, as a `Head` that never stores them.

    Scales, caps and biases around the output layer are those of the model's architecture. LoRA on the output layer becomes
    further columns: `Head(cat([h, s A h]), cat([W, B]))`, with gradients to A and B. A weight that is sharded is gathered.

    Args:
        model: a model of transformers with an output layer, or a model of peft around one.
        hidden: its last hidden states `[..., H]`, as `hidden_of` returns them.
        vocabulary: how many rows of the output layer are tokens, `len(tokenizer)` where it is padded; None: all that the
            model gives logits of.
        chunk_rows: as of `Head`.
        same_rows: True where all processes over which the weight is sharded have the same hidden states (tensor
            parallelism): outside of FSDP's forward pass its gradient is right only then.

    Raises:
        TypeError, ValueError: what cannot be done exactly: an unknown architecture (see `verify_head`), quantised output
            layers, other adapters than LoRA, hooks, a shard that is not gathered.

    Example:
        >>> hidden = hidden_of(model, input_ids=ids, attention_mask=mask)  # doctest: +SKIP
        >>> head = head_of(model, hidden[:, :-1])  # doctest: +SKIP
        >>> token_cross_entropy(head, ids[:, 1:], reduction="mean").backward()  # doctest: +SKIP
    """
    found = transformers_model(model)
    around = surroundings(found)
    return build(found, hidden, around, vocabulary=vocabulary, chunk_rows=chunk_rows, same_rows=same_rows)


def build(
    model: Any,
    hidden: Tensor,
    around: Surroundings,
    *,
    vocabulary: int | None = None,
    chunk_rows: int | None = None,
    same_rows: bool = False,
) -> Head:
    """The head of a model whose surroundings of the output layer are said; the other arguments are those of `head_of`."""
    if vocabulary is not None and around.vocabulary is not None and vocabulary > around.vocabulary:
        raise ValueError(
            f"vocabulary must be at most {around.vocabulary}, of which the model gives logits, got {vocabulary}"
        )
    layer, adapted = without_adapter(output_layer(model))
    weight, bias = linear_parts(layer, same_rows=same_rows)
    if around.casts:
        hidden = hidden.to(weight.dtype)
    if around.input_scale != 1.0:
        hidden = hidden * around.input_scale
    if adapted is not None:
        hidden, weight, bias = _beside(adapted, hidden, weight, bias, same_rows=same_rows)
    if bias is not None and around.output_scale != 1.0:
        bias = bias * around.output_scale
    if around.added_bias is not None:
        added = around.added_bias.to(weight.dtype)
        bias = added if bias is None else bias + added
    return Head(
        hidden,
        weight,
        bias,
        scale=around.output_scale,
        softcap=around.softcap,
        chunk_rows=chunk_rows,
        vocabulary=around.vocabulary if vocabulary is None else vocabulary,
    )


def _beside(
    layer: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, *, same_rows: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Hidden states, weight and bias with the columns of adapters beside them, in the dtypes that they had."""
    columns = list(adapter_columns(layer, hidden, same_rows=same_rows))
    for column in columns:
        if column.bias is not None:
            added = column.bias.to(weight.dtype)
            bias = added if bias is None else bias + added
    if columns:
        hidden = torch.cat([hidden, *(column.inputs.to(hidden.dtype) for column in columns)], dim=-1)
        weight = torch.cat([weight, *(column.weight.to(weight.dtype) for column in columns)], dim=-1)
    return hidden, weight, bias
