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
| add-k-length | as add-k, and `smooth_value` added to the reference length in the brevity penalty | count k/k = 1 |
| add-one-all | 1 added to matches and totals of all orders, unigrams too (the published code's) | count 1/1 |

Without one matching token the score is 0, but for add-one-all. The default is add-k: it gives every prefix
with a matching token a payoff. Under none, floor and exp without `effective_order` every prefix shorter than
`max_order` scores 0, and the reward of the first tokens falls on a later one; with it the orders averaged
change while the prefix grows. `effective_order` makes no difference to add-k, add-k-length and add-one-all,
whose totals are never 0.

Added counts are worth more to short hypotheses, so add-k makes them shorter than the references where BLEU is
learnt; add-k-length takes that back [1]. Under it a copy of a reference of L tokens scores `exp(-k / L)`.

[1] Nakov, Guzman and Vogel, "Optimizing for sentence-level BLEU+1 yields short translations", COLING 2012.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from softbellman.core import native
from softbellman.core.checks import check_choice, check_integer
from softbellman.core.launch import CODES
from softbellman.core.operator import register
from softbellman.payoffs.batches import (
    BATCH_SCHEMA,
    LARGEST_ORDER,
    PREFIX,
    REWARD,
    SENTENCE,
    TokenBatch,
    check_batch,
    check_float_type,
    check_scale,
    new_scores,
    run_batch,
)

SMOOTHINGS = (
    "none",
    "floor",
    "add-k",
    "exp",
    "add-one-all",
    "add-k-length",
)  # BleuSmoothing of csrc/payoffs/bleu.h
_ADJUSTABLE = ("floor", "add-k", "add-k-length")
_DEFAULT_VALUES = {"floor": 0.1, "add-k": 1.0, "add-one-all": 1.0, "add-k-length": 1.0}


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
        hypotheses: int64 tokens `[B, T]` or `[B, K, T]`.
        references: int64 tokens `[B, L]` or `[B, R, L]`, shared by the K hypotheses of a source.
        hypothesis_lengths: tokens that count, `[B]` or `[B, K]`; None: all T.
        reference_lengths: tokens that count, `[B]` or `[B, R]`, 0 where a reference is absent; None: all L. A
            source without any reference scores 0.
        max_order: longest n-gram, 1 to 8.
        smoothing: "none", "floor", "add-k", "exp", "add-one-all" or "add-k-length"; see the head of this module.
        smooth_value: of "floor", "add-k" and "add-k-length" alone; 0 or between 1e-30 and 1e30. None: 0.1 and 1.
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
    check_integer("max_order", max_order, 1, LARGEST_ORDER)
    batch = check_batch(hypotheses, references, hypothesis_lengths, reference_lengths, eos_id, unmatched_id)
    scores: Tensor = bleu_scores(*batch, max_order, *scoring, PREFIX, False, check_float_type(dtype))
    return scores


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

    Takes what `prefix_bleu` takes and returns its score at the last token, `[B]` or `[B, K]`; 0 for an empty
    hypothesis.

    Example:
        >>> sentence_bleu(torch.tensor([[5, 6, 7]]), torch.tensor([[5, 6, 8]]), max_order=2)
        tensor([0.6667])
    """
    scoring = scoring_arguments(smoothing, smooth_value, effective_order)
    check_integer("max_order", max_order, 1, LARGEST_ORDER)
    batch = check_batch(hypotheses, references, hypothesis_lengths, reference_lengths, eos_id, unmatched_id)
    scores: Tensor = bleu_scores(*batch, max_order, *scoring, SENTENCE, False, check_float_type(dtype))
    return scores


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
    """Incremental payoffs `r_t = R(y_1..t) - R(y_1..t-1)`; Eq. (13).

    R is the BLEU of the prefix, times the length of the references where `scale` says so; R of the empty
    prefix is 0, so the rewards of a hypothesis add up to its payoff. The token `eos_id` gets reward 0: the
    payoff of a partial sequence is that of the sequence ended there, Eq. (4).

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
    scaled = check_scale(scale)
    scoring = scoring_arguments(smoothing, smooth_value, effective_order)
    check_integer("max_order", max_order, 1, LARGEST_ORDER)
    batch = check_batch(hypotheses, references, hypothesis_lengths, reference_lengths, eos_id, unmatched_id)
    rewards: Tensor = bleu_scores(*batch, max_order, *scoring, REWARD, scaled, check_float_type(dtype))
    return rewards


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
        int64 `[2 * max_order + 2]`: clipped matches of the orders 1..n, n-grams of the orders 1..n, tokens of
        the hypotheses, tokens of their closest references.
    """
    check_integer("max_order", max_order, 1, LARGEST_ORDER)
    batch = check_batch(hypotheses, references, hypothesis_lengths, reference_lengths, eos_id, unmatched_id)
    counts: Tensor = bleu_counts(*batch, max_order, False)
    return counts.flatten(0, -2).sum(0)


def corpus_bleu(
    statistics: Tensor,
    *,
    smoothing: str = "exp",
    smooth_value: float | None = None,
    effective_order: bool = False,
) -> float:
    """Corpus BLEU, 0 to 100 and with the defaults of sacrebleu, from `corpus_bleu_statistics`.

    Args:
        statistics: int64 `[2 * max_order + 2]`, on any device; a CUDA tensor is waited for.
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
    code, value, effective = scoring_arguments(smoothing, smooth_value, effective_order)
    counts = statistics.cpu().contiguous()
    score: float = native.cpu.corpus_bleu(
        counts=(counts.data_ptr(), counts.numel(), CODES[counts.dtype]),
        smoothing=code,
        smooth_value=value,
        effective_order=effective,
    )
    return 100.0 * score


def scoring_arguments(
    smoothing: str, smooth_value: float | None, effective_order: bool
) -> tuple[int, float, bool]:
    """How precisions are smoothed, checked, as the operator takes it."""
    code = check_choice("smoothing", smoothing, SMOOTHINGS)
    if smooth_value is None:
        return code, _DEFAULT_VALUES.get(smoothing, 0.0), bool(effective_order)
    if smoothing not in _ADJUSTABLE:
        raise ValueError(
            f"smooth_value belongs to {', '.join(map(repr, _ADJUSTABLE))}, got {smooth_value} with {smoothing!r}"
        )
    if isinstance(smooth_value, bool) or not isinstance(smooth_value, (int, float)):
        raise TypeError(f"smooth_value must be a Python number, got {type(smooth_value).__name__}")
    if smooth_value != 0 and not 1e-30 <= smooth_value <= 1e30:
        raise ValueError(f"smooth_value must be 0 or between 1e-30 and 1e30, got {smooth_value}")
    return code, float(smooth_value), bool(effective_order)


def _run_scores(*arguments: Any) -> Tensor:
    batch, (max_order, smoothing, smooth_value, effective_order, output, scaled, float64) = (
        TokenBatch(*arguments[:6]),
        arguments[6:],
    )
    return run_batch(
        "bleu_scores",
        "bleu_workspace",
        batch,
        new_scores(batch.hypotheses, output, float64),
        max_order=max_order,
        smoothing=smoothing,
        smooth_value=smooth_value,
        effective_order=effective_order,
        output=output,
        scaled=scaled,
        float64=float64,
    )


def _new_counts(hypotheses: Tensor, max_order: int, every_prefix: bool) -> Tensor:
    shape = hypotheses.shape if every_prefix else hypotheses.shape[:-1]
    return hypotheses.new_empty(*shape, 2 * max_order + 2)


def _run_counts(*arguments: Any) -> Tensor:
    batch, (max_order, every_prefix) = TokenBatch(*arguments[:6]), arguments[6:]
    out = _new_counts(batch.hypotheses, max_order, every_prefix)
    return run_batch(
        "bleu_counts", "bleu_workspace", batch, out, max_order=max_order, every_prefix=every_prefix
    )


bleu_scores = register(
    "bleu_scores",
    f"({BATCH_SCHEMA}, int max_order, int smoothing, float smooth_value, bool effective_order, int output, "
    "bool scaled, bool float64) -> Tensor",
    kernel=_run_scores,
    fake=lambda *arguments: new_scores(arguments[0], arguments[10], arguments[12]),
)
bleu_counts = register(
    "bleu_counts",
    f"({BATCH_SCHEMA}, int max_order, bool every_prefix) -> Tensor",
    kernel=_run_counts,
    fake=lambda *arguments: _new_counts(arguments[0], arguments[6], arguments[7]),
)
