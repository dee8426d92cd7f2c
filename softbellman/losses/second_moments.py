"""The critic's loss from the second moments of an output layer, its action values never computed.

With `Q(w) = h . W_w + b_w`, Eq. (18) needs of a row only the value of the drawn token and the spread over the
vocabulary, and the spread is a quadratic form in `h`:

    sum_w [Q_w - mean_w Q]^2  =  h' G h + 2 h' k + c,   G = Z' Z,   k = Z' z,   c = z' z,

where `Z = W - mean_w W` and `z = b - mean_w b` over the tokens whose bias is not `-inf`. Nothing cancels: both are
centred first.

Notation: M rows, V vocabulary, H hidden units.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding

from softbellman.core.checks import statistic_dtype
from softbellman.core.head import Head
from softbellman.core.operator import register, register_backward


def moments_pay(head: Head) -> bool:
    """Whether second moments, `2 V H^2` operations, cost less than the values, `2 M V H`, and give the same."""
    exact = head.softcap is None and head.vocabulary is None and head.shards is None
    return exact and head.hidden.shape[:-1].numel() > head.hidden.shape[-1]


def moments_terms(
    head: Head, actions: Tensor, targets: Tensor, mask: Tensor | None, *, needs_spread_gradient: bool
) -> tuple[Tensor, Tensor]:
    """`q(a) - target` and the spread of every row `[...]`, differentiable in the head; 0 in masked rows.

    Sums run in the statistic type, under autocast too. Second derivatives in the weights raise.
    """
    with torch.autocast(head.hidden.device.type, enabled=False):
        return _terms(head, actions, targets, mask, needs_spread_gradient)


def _terms(
    head: Head, actions: Tensor, targets: Tensor, mask: Tensor | None, needs_spread_gradient: bool
) -> tuple[Tensor, Tensor]:
    dtype = statistic_dtype(head.hidden.dtype)
    hidden, weight = head.hidden.to(dtype) * head.scale, head.weight.to(dtype)
    bias = weight.new_zeros(len(weight)) if head.bias is None else head.bias.to(dtype)
    if mask is not None:
        hidden = hidden.masked_fill(~mask.unsqueeze(-1), 0.0)
        actions = actions.masked_fill(~mask, 0)
    try:
        chosen = embedding(actions, weight)
    except IndexError:  # the CPU's; a device does not look
        raise _id_error(actions, len(weight)) from None
    taken = (hidden * chosen).sum(-1) + embedding(actions, bias.unsqueeze(1)).squeeze(-1)
    error = taken - targets.to(dtype)
    if needs_spread_gradient:
        spread = vocabulary_spread(hidden, weight, bias)
    else:
        with torch.no_grad():
            spread = vocabulary_spread(hidden, weight, bias)
    if mask is not None:
        error, spread = error.masked_fill(~mask, 0.0), spread.masked_fill(~mask, 0.0)
    return error, spread


def _id_error(actions: Tensor, vocabulary: int) -> ValueError:
    flat = actions.reshape(-1)
    row = int(((flat < 0) | (flat >= vocabulary)).nonzero()[0])
    return ValueError(
        f"actions must be ids in [0, {vocabulary}), got {int(flat[row])} in row {row} of {len(flat)}"
    )


def vocabulary_spread(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`sum_w [Q_w - mean_w Q]^2` of every row. `[..., H], [V, H], [V] -> [...]`."""
    possible = (bias.detach() != -torch.inf).to(weight.dtype)
    count = possible.sum().clamp(min=1)
    level = bias.masked_fill(possible == 0, 0.0)
    # The spread does not change with the means: their gradient is 0.
    mean = possible @ weight.detach() / count  # (H,)
    centred: Tensor = _centre(weight, mean, possible)  # (V, H)
    mean_level = (possible @ level.detach()) / count
    centred_level: Tensor = _centre(level.unsqueeze(1), mean_level.unsqueeze(0), possible).squeeze(1)
    # The gradient with respect to G is symmetric, so one of its two equal products is enough: in the first derivative alone,
    # which is why `_centre` has no second one.
    half = centred.detach().t() @ centred  # (H, H)
    moments = 2.0 * half - half.detach()
    cross = centred.t() @ centred_level  # (H,)
    return ((hidden @ moments) * hidden).sum(-1) + 2.0 * (hidden @ cross) + centred_level.square().sum()


_centre_backward = register_backward(
    "centred_backward",
    "(Tensor grad, Tensor weight, Tensor possible) -> Tensor",
    kernel=lambda grad, _, possible: grad * possible.unsqueeze(1),
    fake=lambda grad, _, possible: torch.empty_like(grad),
)

# `(weight - mean) * possible`, [V, H], [H], [V] -> [V, H]; the weight's derivative alone is taken, and once.
_centre = register(
    "centred",
    "(Tensor weight, Tensor mean, Tensor possible) -> Tensor",
    kernel=lambda weight, mean, possible: (weight - mean) * possible.unsqueeze(1),
    fake=lambda weight, mean, possible: torch.empty_like(weight),
    backward=lambda ctx, grad: (_centre_backward(grad, *ctx.saved_tensors), None, None),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0], inputs[2]),
)
