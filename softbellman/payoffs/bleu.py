"""BLEU of every prefix, of sentences and of corpora, from integer tokens (the payoff of the paper).

Each hypothesis is read once: a token adds at most one n-gram for each order, and the clipped matches and the
brevity penalty of the new prefix follow from those of the last one. Memory is O(T + R * L) for a hypothesis;
n-grams are compared token by token, so the counts are exact. The counts are integers: nothing here has a
gradient.

Notation: B sources, K samples per source, R references per source, T and L padded lengths. A sequence is its
first `length` tokens, cut before the first `eos_id`; a reference of length 0 is absent. A prefix is compared
with the closest reference length, the shorter one on a tie; an n-gram is clipped at its largest count within
one reference.

Smoothing, by name (the first four are sacrebleu's, to rounding):

| name | orders without a match | orders longer than the hypothesis |
|---|---|---|
| none | the score is 0 | the score is 0, or they are left out with `effective_order` |
| floor | `smooth_value` (0.1) matches | as none |
| exp | 1/2 match, 1/4 for the next such order, ... | as none |
| add-k | `smooth_value` (1) added to matches and totals of the orders 2, 3, ... | count k/k = 1 |
| add-one-all | 1 added to matches and totals of all orders, unigrams too (the published code's) | count 1/1 |

Without one matching token the score is 0, but for add-one-all. The default is add-k: it gives every prefix
with a matching token a payoff. Under none, floor and exp without `effective_order` every prefix shorter than
`max_order` scores 0, and the reward of the first tokens falls on a later one; with it the orders averaged
change while the prefix grows. `effective_order` makes no difference to add-k and add-one-all, whose totals
are never 0."""

from __future__ import annotations

import torch
from torch import Tensor

from softbellman.core import native
from softbellman.core.checks import check_choice
from softbellman.payoffs.bleu_kernel import (
    LARGEST_ORDER,
    PREFIX,
    REWARD,
    SENTENCE,
    batch_arguments,
    bleu_counts,
    bleu_scores,
    is_float64,
    scoring_arguments,
)


def prefix_bleu(
    hypotheses: Tensor,
    references: Tensor,
    *,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    max_order: int = 4,
    smoothing: str = "add-k",
    smooth_value: float | None = None,
    effective_order: bool = False,
    unmatched_id: int | None = None,
    eos_id: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """BLEU in [0, 1] of every prefix of every hypothesis.

    Args:
        hypotheses: int64 tokens [B, T] or [B, K, T].
        references: int64 tokens [B, L] or [B, R, L], shared by the K hypotheses of a source.
        hypothesis_lengths: tokens that count, [B] or [B, K]; None: all T.
        reference_lengths: tokens that count, [B] or [B, R], 0 where a reference is absent; None: all L. A
            source without any reference scores 0.
        max_order: longest n-gram, 1 to 8.
        smoothing: "none", "floor", "add-k", "exp" or "add-one-all"; see the head of this module.
        smooth_value: of "floor" and "add-k" alone; 0 or between 1e-30 and 1e30. None: 0.1 and 1.
        effective_order: leave out the orders longer than the prefix.
        unmatched_id: a token, such as UNK, that matches nothing: n-grams that hold it count as misses.
        eos_id: the token that ends a sequence, in hypotheses and references; neither it nor what follows is
            read.
        dtype: of the result, float32 or float64; scores are computed in float64.

    Returns:
        Scores of the shape of `hypotheses`: entry t is that of the first t + 1 tokens, 0 at and beyond the
        length.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or range. Lengths outside their
            range raise for CPU tensors; for CUDA tensors, where reading them would wait for the device, they
            are clamped.

    Example:
        >>> prefix_bleu(torch.tensor([[5, 6, 7]]), torch.tensor([[5, 6, 8]]), max_order=2)
        tensor([[0.1353, 0.6065, 0.6667]])
    """
    scoring = scoring_arguments(smoothing, smooth_value, effective_order)
    batch = batch_arguments(
        hypotheses, references, hypothesis_lengths, reference_lengths, max_order, eos_id, unmatched_id
    )
    scores: Tensor = bleu_scores(*batch, *scoring, PREFIX, False, is_float64(dtype))
    return scores.view_as(hypotheses)


def sentence_bleu(
    hypotheses: Tensor,
    references: Tensor,
    *,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    max_order: int = 4,
    smoothing: str = "add-k",
    smooth_value: float | None = None,
    effective_order: bool = False,
    unmatched_id: int | None = None,
    eos_id: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """BLEU in [0, 1] of whole hypotheses.

    Takes what `prefix_bleu` takes and returns its score at the last token, [B] or [B, K]; 0 for an empty
    hypothesis.

    Example:
        >>> sentence_bleu(torch.tensor([[5, 6, 7]]), torch.tensor([[5, 6, 8]]), max_order=2)
        tensor([0.6667])
    """
    scoring = scoring_arguments(smoothing, smooth_value, effective_order)
    batch = batch_arguments(
        hypotheses, references, hypothesis_lengths, reference_lengths, max_order, eos_id, unmatched_id
    )
    scores: Tensor = bleu_scores(*batch, *scoring, SENTENCE, False, is_float64(dtype))
    return scores.view(*hypotheses.shape[:-1])


def bleu_rewards(
    hypotheses: Tensor,
    references: Tensor,
    *,
    eos_id: int | None = None,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    max_order: int = 4,
    smoothing: str = "add-k",
    smooth_value: float | None = None,
    effective_order: bool = False,
    unmatched_id: int | None = None,
    scale: str = "reference_length",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Incremental payoffs `r_t = R(y_1..t) - R(y_1..t-1)` (equation 13).

    R is the BLEU of the prefix, times the length of the references where `scale` says so; R of the empty
    prefix is 0, so the rewards of a hypothesis add up to its payoff. The token `eos_id` gets reward 0: the
    payoff of a partial sequence is that of the sequence ended there (equation 4).

    Args:
        scale: "reference_length" multiplies by the mean length, without eos, of the source's references that
            are present, so that one step's reward does not shrink with the length; "none" leaves R in [0, 1].
        hypotheses, references and the others: as in `prefix_bleu`.

    Returns:
        Rewards of the shape of `hypotheses`, in tokens or, for scale "none", in BLEU; 0 at eos and beyond the
        length. Each is a difference in float64, rounded once to `dtype`.

    Raises:
        TypeError, ValueError: as `prefix_bleu`.

    Example:
        >>> bleu_rewards(torch.tensor([[5, 6, 3, 0]]), torch.tensor([[5, 6, 3, 0]]), eos_id=3, max_order=2)
        tensor([[0.7358, 1.2642, 0.0000, 0.0000]])
    """
    scaled = check_choice("scale", scale, ("none", "reference_length")) == 1
    scoring = scoring_arguments(smoothing, smooth_value, effective_order)
    batch = batch_arguments(
        hypotheses, references, hypothesis_lengths, reference_lengths, max_order, eos_id, unmatched_id
    )
    rewards: Tensor = bleu_scores(*batch, *scoring, REWARD, scaled, is_float64(dtype))
    return rewards.view_as(hypotheses)


def corpus_bleu_statistics(
    hypotheses: Tensor,
    references: Tensor,
    *,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    max_order: int = 4,
    unmatched_id: int | None = None,
    eos_id: int | None = None,
) -> Tensor:
    """The counts that corpus BLEU is made of, summed over all hypotheses.

    Takes what `prefix_bleu` takes. Add the results of several batches, then call `corpus_bleu`.

    Returns:
        int64 [2 * max_order + 2]: clipped matches of the orders 1..n, n-grams of the orders 1..n, tokens of
        the hypotheses, tokens of their closest references.
    """
    batch = batch_arguments(
        hypotheses, references, hypothesis_lengths, reference_lengths, max_order, eos_id, unmatched_id
    )
    counts: Tensor = bleu_counts(*batch, False)
    return counts.sum((0, 1))


def corpus_bleu(
    statistics: Tensor,
    *,
    smoothing: str = "exp",
    smooth_value: float | None = None,
    effective_order: bool = False,
) -> float:
    """Corpus BLEU, 0 to 100 and with the defaults of sacrebleu, from `corpus_bleu_statistics`.

    Args:
        statistics: int64 [2 * max_order + 2], on any device; a CUDA tensor is waited for.
        smoothing, smooth_value, effective_order: as in `prefix_bleu`.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or range.

    Example:
        >>> tokens = torch.tensor([[5, 6, 7, 8]])
        >>> corpus_bleu(corpus_bleu_statistics(tokens, tokens))
        100.0
    """
    if not isinstance(statistics, Tensor) or statistics.dtype != torch.int64:
        raise TypeError(
            f"statistics must be an int64 tensor, got {getattr(statistics, 'dtype', type(statistics))}"
        )
    orders, odd = divmod(statistics.numel() - 2, 2)
    if statistics.dim() != 1 or odd or not 1 <= orders <= LARGEST_ORDER:
        raise ValueError(f"statistics must have shape (2 * max_order + 2,), got {tuple(statistics.shape)}")
    scoring = scoring_arguments(smoothing, smooth_value, effective_order)
    score: float = native.cpu.bleu_corpus_score(statistics.tolist(), *scoring)
    return 100.0 * score
