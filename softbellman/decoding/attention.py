"""What a model attended to along a hypothesis, and the coverage of the source that follows from it.

A model says so by a method `attention_weights(source [B, S...], prefix [N, T]) -> [N, T, S]`.

Notation: B sources, R hypotheses of each, N = B*R rows, T steps, S source positions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from softbellman.data.vocabulary import RESERVED, SpecialTokens
from softbellman.decoding.stepwise import inner_modules


@torch.no_grad()
def attention_of(
    model: object, source: Tensor, tokens: Tensor, *, special: SpecialTokens = RESERVED
) -> Tensor:
    """Attention before each token of some hypotheses; of an ensemble the mean of its models'.

    Args:
        model: what was decoded with.
        source: [B, ...].
        tokens: [N, T], rows b*R .. b*R+R-1 of source b.
        special: its `bos` is what the decoder reads first.

    Returns:
        [N, T, S]; what stands behind the end of a hypothesis means nothing.

    Raises:
        ValueError: a model that does not say what it attends to.
    """
    prefix = torch.cat([torch.full_like(tokens[:, :1], special.bos), tokens[:, :-1]], dim=1)
    found = [_asked(module, source, prefix) for module in inner_modules(model)]
    return torch.stack(found).mean(dim=0)


def _asked(module: nn.Module, source: Tensor, prefix: Tensor) -> Tensor:
    weights = getattr(module, "attention_weights", None)
    if weights is None:
        raise ValueError(
            f"{type(module).__name__} does not say what it attends to: it has no attention_weights"
        )
    found: Tensor = weights(source, prefix)
    return found


def coverage(attention: Tensor, lengths: Tensor, real: Tensor) -> Tensor:
    """sum_s log min(sum_t attention[t, s], 1): 0 where every position was attended to, below it elsewhere.

    Wu et al., "Google's Neural Machine Translation System", 2016, Eq. (14) without its weight.

    Args:
        attention: [N, T, S].
        lengths: [N], of the hypotheses, the end included.
        real: bool [N, S], the positions that count.

    Returns:
        [N] float64.
    """
    steps = torch.arange(attention.shape[1], device=attention.device) < lengths[:, None]  # [N, T]
    total = (attention.double() * steps[:, :, None]).sum(dim=1)  # [N, S]
    smallest = math.exp(-50.0)  # a position that was never looked at costs 50
    return total.clamp(smallest, 1.0).log().masked_fill(~real, 0.0).sum(dim=1)
