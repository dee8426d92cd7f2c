"""The published payoff and edits in plain PyTorch and Python: what the authors' way costs, written anew.

Prefix BLEU compares every n-gram of a hypothesis with every one of its own and of its reference in dense
tensors, one order after the other, with one added to the counts of all orders. References are edited one after
the other.

Notation: B sources, K samples per source, T and L padded lengths.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor

from softbellman.data import PAD


def dense_prefix_bleu(
    hypotheses: Tensor, lengths: Tensor, references: Tensor, reference_lengths: Tensor
) -> Tensor:
    """BLEU in [0, 1] of every prefix; that of the whole hypothesis behind its end.

    Args:
        hypotheses: [B, K, T], padded with PAD; `lengths` [B, K], EOS not counted.
        references: [B, L], padded with PAD; `reference_lengths` [B].

    Returns:
        [B, K, T]; 0 for a hypothesis without any token.
    """
    steps = hypotheses.shape[-1]
    prefix = torch.arange(1, steps + 1, device=hypotheses.device).expand(hypotheses.shape)
    prefix = torch.minimum(prefix, lengths[..., None])  # tokens of the hypothesis in each prefix
    log_precision = torch.zeros(hypotheses.shape, device=hypotheses.device)
    for order in range(1, 5):
        if order <= min(steps, references.shape[-1]):
            matches = _matches(hypotheses, references, prefix, order)
        else:
            matches = torch.zeros_like(log_precision)
        totals = (prefix - order + 1).clamp(min=0)
        log_precision += ((matches + 1) / (totals + 1)).log()
    brevity = (1 - reference_lengths[:, None, None] / prefix.clamp(min=1)).clamp(max=0)
    return (brevity + log_precision / 4).exp().masked_fill(prefix == 0, 0.0)


def _matches(hypotheses: Tensor, references: Tensor, prefix: Tensor, order: int) -> Tensor:
    """Clipped matches of the n-grams within each prefix. Shape: [B, K, T]."""
    windows = hypotheses.unfold(-1, order, 1)  # [B, K, T', n]
    targets = references.unfold(-1, order, 1)[:, None]  # [B, 1, L', n]
    whole = (targets != PAD).all(-1)
    equal = (windows[:, :, :, None] == windows[:, :, None]).all(-1)  # [B, K, T', T']
    clip = ((windows[:, :, :, None] == targets[:, :, None]).all(-1) & whole[:, :, None]).sum(-1)  # [B, K, T']
    # occurrences of window j among the first p + 1 windows; 0 where j lies beyond p
    occurrences = equal.float().cumsum(2).tril()  # [B, K, p, j]
    matches = (torch.minimum(occurrences, clip[:, :, None].float()) / occurrences.clamp(min=1)).sum(-1)
    matches = torch.nn.functional.pad(matches, (order - 1, 0))  # [B, K, T]
    last = (prefix - 1).clamp(min=0)  # behind the end, what the last token has reached
    return matches.gather(-1, last)


def replace_ngrams(
    references: list[list[int]], samples: int, vocabulary: int, generator: random.Random
) -> list[list[int]]:
    """Each reference, then `samples` - 1 copies with one n-gram (n <= 4) replaced by random words."""
    edited = []
    for tokens in references:
        edited.append(tokens)
        for _ in range(samples - 1):
            order = generator.randint(1, min(4, len(tokens)))
            start = generator.randint(0, len(tokens) - order)
            words = [generator.randrange(4, vocabulary) for _ in range(order)]
            edited.append([*tokens[:start], *words, *tokens[start + order :]])
    return edited


def corrupt(
    references: list[list[int]], samples: int, vocabulary: int, generator: random.Random
) -> list[list[int]]:
    """Each reference, then `samples` - 1 copies whose tokens are replaced with probability 0.2."""
    edited = []
    for tokens in references:
        edited.append(tokens)
        for _ in range(samples - 1):
            edited.append(
                [
                    generator.randrange(4, vocabulary) if generator.random() < 0.2 else token
                    for token in tokens
                ]
            )
    return edited
