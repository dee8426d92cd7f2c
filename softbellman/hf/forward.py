"""The output layer of a causal model, used inside the model's forward pass.

Inside: so that DistributedDataParallel and FSDP see one forward pass with the layer's parameters gathered.

Notation: B sequences, L positions, M chosen positions, V vocabulary.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from softbellman.core.head import Head
from softbellman.hf.heads import head_of
from softbellman.hf.hidden import hidden_of
from softbellman.hf.layers import transformers_model
from softbellman.hf.verification import verify_head
from softbellman.losses import token_statistics

IGNORED = -100
"""The label of transformers for positions without a target."""


_BEFORE = "forward_before"
"""How the attributes of a model begin that hold a replaced `forward`."""


class TokenOutput(NamedTuple):
    """What a model with `add_token_statistics` returns; the fields TRL's trainers read.

    Attributes:
        log_probs: `log pi(label)`, nats, `[B, L - 1]`; 0 where the label is -100.
        entropy: `H(pi)`, nats, `[B, L - 1]`, differentiable; 0 there too.
        aux_loss: None; models with experts are refused.
    """

    log_probs: Tensor
    entropy: Tensor
    aux_loss: None = None


def tempered(head: Head, temperature: float) -> Head:
    """The head of `logits / temperature`; the logits are capped before, as in generation."""
    if temperature == 1.0:
        return head
    return replace(
        head,
        scale=head.scale / temperature,
        bias=None if head.bias is None else head.bias / temperature,
        softcap=None if head.softcap is None else head.softcap / temperature,
    )


def add_head(model: nn.Module) -> None:
    """Let `model(..., on_head=function, rows=mask)` return `function(head)`, the head of the positions where mask is True.

    Every other call is the model's own. The head has the shape `[M, V]`; `rows` is bool `[B, L]`. An encoder-decoder model
    takes labels `[B * repeats, L]`, the repeats of a source one behind the other, and encodes each source once.

    Args:
        model: a causal model of transformers, plain or with adapters; its `forward` is replaced on the instance, after
            `verify_head`.
    """
    verify_head(model)
    target = transformers_model(model)
    if any(name.startswith(f"{_BEFORE}_on_head") for name in vars(target)) and not _is_restored(target):
        return

    def on_head_forward(
        self: Any, before: Any, *args: Any, on_head: Any = None, rows: Any = None, **options: Any
    ) -> Any:
        if on_head is None:
            return before(*args, **options)
        return on_head(_head_at(self, rows, **options))

    _replace_forward(target, on_head_forward)


def add_token_statistics(model: nn.Module, *, temperature: float = 1.0) -> None:
    """Answer TRL's `model(..., labels=labels, fused_lm_head=True)` with this package's operator.

    It takes the place of what `trl.trainer.add_fused_lm_head` puts there: log-probabilities and entropies of
    `softmax(logits / temperature)`, both differentiable, from one matmul a chunk of rows and no stored logits.

    Args:
        model: a causal model of transformers, plain or with adapters; its `forward` is replaced on the instance, after
            `verify_head`.
        temperature: what the logits are divided by.
    """
    verify_head(model)

    def statistics_forward(
        self: Any, before: Any, *args: Any, fused_lm_head: bool = False, **options: Any
    ) -> Any:
        if not fused_lm_head:
            return before(*args, **options)
        if options.get("output_router_logits"):
            raise ValueError("a model with experts needs the losses of TRL's own head: pass backend='trl'")
        labels = options.pop("labels")[:, 1:]
        real = labels != IGNORED
        rows = nn.functional.pad(real, (0, 1))  # the last position has no label
        head = tempered(_head_at(self, rows, **options), temperature)
        found = token_statistics(head, labels[real], outputs=("log_prob", "entropy"))
        # masked_scatter keeps the graph where no label is real, so that a masked batch has gradient 0
        log_probs, entropies = (part.new_zeros(real.shape).masked_scatter(real, part) for part in found)
        return TokenOutput(log_probs, entropies)

    _replace_forward(transformers_model(model), statistics_forward)


def _is_restored(target: Any) -> bool:
    """Whether `forward` is the class's again, as after pickling, though a replaced one was kept."""
    return getattr(target.forward, "__func__", None) is type(target).forward


def _replace_forward(target: Any, function: Callable[..., Any]) -> None:
    """Let `target.forward(...)` be `function(target, the forward before, ...)`.

    What was there before is kept on the model, not in a closure: then a deep copy of the model calls itself.
    """
    name = f"{_BEFORE}_{function.__name__}"
    while name in vars(target):
        name += "_"
    setattr(target, name, target.forward)

    # The signature stays: `generate` compares its arguments with it.
    @functools.wraps(type(target).forward)
    def forward(self: Any, *args: Any, **options: Any) -> Any:
        return function(self, getattr(self, name), *args, **options)

    target.forward = types.MethodType(forward, target)


def _head_at(model: Any, rows: Tensor, *, repeats: int = 1, **options: Any) -> Head:
    """Run the model below its output layer, and take the head of the positions `rows` [B, L]."""
    if repeats > 1:
        mask = options["attention_mask"]
        encoded = model.get_encoder()(input_ids=options.pop("input_ids"), attention_mask=mask)
        options["encoder_outputs"] = BaseModelOutput(
            last_hidden_state=encoded.last_hidden_state.repeat_interleave(repeats, dim=0)
        )
        options["attention_mask"] = mask.repeat_interleave(repeats, dim=0)
    hidden = hidden_of(model, **options)  # (B, L, H)
    place = model.get_output_embeddings().weight.device
    return head_of(model, hidden.to(place)[rows.to(place)])  # (M, H) -> [M, V]


def completion_rows(prompt_ids: Tensor, completion_mask: Tensor) -> Tensor:
    """Positions whose next token is a real one of the completion, bool `[B, P + C]`, for prompts of P tokens."""
    before = prompt_ids.shape[1] - 1
    return nn.functional.pad(completion_mask != 0, (before, 1))
