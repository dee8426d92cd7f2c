"""What each next token of an update's sequences is worth where a suffix of a reference follows it.

Notation: B sources, K sequences per source, N = B*K sequences, T steps, V vocabulary.
"""

from __future__ import annotations

from torch import Tensor

from softbellman.data import Batch
from softbellman.payoffs import BleuCompletions
from softbellman.payoffs.payoff import Payoff


def complete(
    payoff: Payoff, tokens: Tensor, mask: Tensor, batch: Batch, *, vocabulary: int
) -> BleuCompletions:
    """Completion values in every state of the sequences; padding and `<bos>` are never produced.

    Args:
        payoff: sentence BLEU, as the run has it.
        tokens: sequences with their ends, `[N, T]`.
        mask: True at real tokens, `[N, T]`.
        batch: B sources with their references.
        vocabulary: V.
    """
    sources, steps = len(batch), tokens.shape[1]
    return payoff.completions(
        tokens.reshape(sources, -1, steps),  # (N, T) -> (B, K, T)
        batch.references,
        hypothesis_lengths=mask.sum(1).view(sources, -1),
        reference_lengths=batch.reference_lengths,
        vocabulary=vocabulary,
        special_ids=batch.special.unspoken,
    )
