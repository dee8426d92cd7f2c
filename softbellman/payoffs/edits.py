"""Random edits of references with their exact densities, and importance weights: the sampler of RAML and VAML.

RAML and VAML train on sequences near the reference y*, weighted so that they stand for the payoff
distribution `P_R(y) = exp(R(y; y*) / tau) / Z`, Eq. (1). A sample y of a proposal q carries the weight
`exp(R(y) / tau) / q(y)`, so q(y) must be known exactly, whichever way y was reached. Four proposals:

| proposal | draws |
|---|---|
| "ngram" | an order m uniform in 1..min(max_order, length) and one of its windows; its touchable tokens become any of the A |
| "corrupt" | each touchable token becomes another with probability `rate` |
| "hamming" | a distance d with `P(d) ~ C(n,d) (A-1)^d exp(-d / temperature)`, d positions, other tokens there |
| "edit" | a number of operations e with `P(e) ~ exp(-e / temperature) W(n,e)`, a script of so many by its weight |

Their densities, each the sum over all ways to reach y:

    ngram    log sum over the windows that cover every change of P(m) / (length - m + 1) * A^-(touchable inside)
    corrupt  d log(rate / (A-1)) + (n-d) log(1 - rate)
    hamming  -d / temperature - log Z_n
    edit     log sum_e exp(-e / temperature) F_e(x, y) - log Z_n

W(n,e) is the total weight of the scripts of e operations, F_e that of those which lead to y, times the
probabilities of their tokens.

Notation: B references, K samples each, L padded length, W width of the results, V vocabulary, A the alphabet
of substitutes (the ids of the vocabulary that are not special), n the tokens of a row that are not special, d
the positions that changed. docs/payoffs.md derives the densities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from softbellman.core.checks import check_counter, check_dense, check_integer, check_positive
from softbellman.payoffs.batches import check_lengths, check_tokens
from softbellman.payoffs.proposals import LARGEST_LENGTH, edit_density, edit_samples, proposal_arguments


class Edits(NamedTuple):
    """Edited `tokens` `[B, K, W]`, `pad_id` behind their `lengths` `[B, K]`; `log_density` `[B, K]` in nats, float64."""

    tokens: Tensor
    lengths: Tensor
    log_density: Tensor


class ImportanceWeights(NamedTuple):
    """`weights` `[B, K]` that sum to 1, `effective_sample_size` `[B]` and `log_normalizer` `[B]`, both float64."""

    weights: Tensor
    effective_sample_size: Tensor
    log_normalizer: Tensor


def sample_edits(
    tokens: Tensor,
    lengths: Tensor | None = None,
    *,
    samples: int,
    proposal: str,
    vocabulary: int,
    seed: int,
    offset: int = 0,
    special_ids: Sequence[int] = (),
    max_order: int = 4,
    rate: float = 0.2,
    temperature: float = 1.0,
    max_distance: int | None = None,
    operation_weights: Sequence[float] = (1.0, 1.0, 1.0),
    keep_gold: bool = False,
    pad_id: int = 0,
) -> Edits:
    """K random edits of every reference, with the exact log density of each.

    Tokens and densities are a pure function of seed, offset, row and settings (Philox4x32-10 and arithmetic
    in exact steps): the same bits on CPU and GPU and for any number of threads. Choices use 62 and 64 random
    bits: in rows of up to 4,096 tokens no probability is off by more than 2^-40. Nothing is differentiable.

    Args:
        tokens: int64 references `[B, L]`, without eos unless it is special.
        lengths: tokens that count, `[B]`; None: all L.
        samples: K.
        proposal: "ngram", "corrupt", "hamming" or "edit"; see the head of this module.
        vocabulary: V, 1 to 2**24.
        seed, offset: from 0 to 2**63 - 1; give every call its own offset.
        special_ids: at most 16 ids that are never changed, removed or produced.
        max_order: longest window of "ngram", 1 to 16.
        rate: of "corrupt", in [0, 1].
        temperature: of "hamming" and "edit", above 0: larger is farther from the reference.
        max_distance: largest d of "hamming" (None: n) and number E of operations of "edit" (None: min(L, 16);
            at most 64).
        operation_weights: of a substitution, an insertion and a deletion of "edit", at least 0, not all 0.
            (A-1, A, 1) makes W(n,e) the number of scripts.
        keep_gold: sample 0 is the reference itself, and `log_density` that of the mixture for which the K
            samples stand: `1/K [y = y*] + (K-1)/K q(y)`. Weights stay unbiased (deterministic mixture: Veach
            and Guibas 1995, Owen and Zhou 2000). With K = 1 the log density is 0.
        pad_id: what stands behind the length.

    Returns:
        tokens int64 `[B, K, W]` with W = L, for "edit" L + E; lengths int64 `[B, K]`; log_density float64 `[B, K]`
        in nats. A row without touchable tokens stays as it is, with density 1.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or range. Lengths outside their
            range and tokens outside the vocabulary raise on the CPU; on a CUDA device, where reading them
            would wait, lengths are clamped and such tokens stay as they are.

    Example:
        >>> edits = sample_edits(torch.tensor([[5, 6, 7]]), samples=1, proposal="hamming", vocabulary=9, seed=3)
        >>> edits.tokens, edits.log_density
        (tensor([[[5, 4, 7]]]), tensor([[-5.1159]], dtype=torch.float64))
    """
    lengths = _check_references(tokens, lengths)
    check_integer("samples", samples, 0, 2**31 - 1)
    check_counter("seed", seed)
    check_counter("offset", offset)
    check_integer("pad_id", pad_id, -(2**63), 2**63 - 1)
    arguments = proposal_arguments(
        tokens.shape[1], proposal, vocabulary, special_ids,
        max_order, rate, temperature, max_distance, operation_weights,
    )  # fmt: skip
    return Edits(*edit_samples(tokens, lengths, samples, pad_id, seed, offset, *arguments, bool(keep_gold)))


def edit_log_density(
    tokens: Tensor,
    edited: Tensor,
    lengths: Tensor | None = None,
    edited_lengths: Tensor | None = None,
    *,
    proposal: str,
    vocabulary: int,
    special_ids: Sequence[int] = (),
    max_order: int = 4,
    rate: float = 0.2,
    temperature: float = 1.0,
    max_distance: int | None = None,
    operation_weights: Sequence[float] = (1.0, 1.0, 1.0),
    keep_gold: bool = False,
) -> Tensor:
    """The log density of any sequences under a proposal, float64 `[B, K]` in nats.

    What `sample_edits` returns beside its samples, for sequences from elsewhere: another proposal (so that
    several can be mixed), a model, a decoder. `-inf` where the proposal cannot produce the sequence.

    Args:
        tokens, lengths: int64 references `[B, L]` and `[B]`, as in `sample_edits`.
        edited: int64 sequences `[B, K, W]`, of any width W.
        edited_lengths: tokens that count, `[B, K]`; None: all W.
        keep_gold: the density of the mixture with the reference for K samples.
        proposal and the others: as in `sample_edits`.

    Raises:
        TypeError, ValueError: as `sample_edits`.

    Example:
        >>> tokens, edited = torch.tensor([[5, 6, 7]]), torch.tensor([[[5, 6, 7], [5, 5, 5]]])
        >>> edit_log_density(tokens, edited, proposal="corrupt", vocabulary=9, rate=0.5)
        tensor([[-2.0794, -6.2383]], dtype=torch.float64)
    """
    lengths = _check_references(tokens, lengths)
    check_tokens("edited", edited, (3,), longest=LARGEST_LENGTH)
    if edited.shape[0] != tokens.shape[0]:
        raise ValueError(f"edited must have {tokens.shape[0]} references like tokens, got {edited.shape[0]}")
    if edited.device != tokens.device:
        raise ValueError(f"edited must be on the device of tokens, {tokens.device}, got {edited.device}")
    edited_lengths = check_lengths("edited_lengths", edited_lengths, "edited", edited)
    arguments = proposal_arguments(
        tokens.shape[1], proposal, vocabulary, special_ids,
        max_order, rate, temperature, max_distance, operation_weights,
    )  # fmt: skip
    result: Tensor = edit_density(tokens, lengths, edited, edited_lengths, *arguments, bool(keep_gold))
    return result


def importance_weights(
    payoff: Tensor, log_q: Tensor | None, *, tau: float, corrected: bool = True
) -> ImportanceWeights:
    """Self-normalised weights of K samples that stand for the payoff distribution `exp(R / tau) / Z`.

    With `log w = R / tau - log q`, computed in float64: `weights = softmax(log w)`, the effective sample size
    is `1 / sum weights^2`, and `exp(log_normalizer) = mean w` estimates Z without bias. A mean under the
    weights is a ratio of estimates, hence biased by O(1/K); `weights * exp(log_normalizer - log Z)` is not.
    Without the correction, `log w = R / tau`: with tau = 1 and R a BLEU in [0, 1] the published weights, which
    stand for `q(y) exp(R / tau)`, not for the payoff distribution.

    Args:
        payoff: R of each sample, floating `[B, K]`.
        log_q: log density of each sample under what it was drawn from, floating `[B, K]` in nats; None or
            anything where `corrected` is False.
        tau: temperature of the payoff distribution, above 0.
        corrected: divide by the density.

    Returns:
        weights `[B, K]` in the type of `payoff`; effective_sample_size and log_normalizer float64 `[B]`. A payoff
        of `-inf` and an infinite log density give weight 0; a row of such samples, and one without samples,
        gives weights and effective size 0 and log_normalizer `-inf`. Samples of payoff `+inf` share the whole
        weight. NaN comes out only where NaN went in. Nothing here is differentiable.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or device, tau not above 0.

    Example:
        >>> importance_weights(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, -1.0986]]), tau=1.0)[:2]
        (tensor([[0.2500, 0.7500]]), tensor([1.6000], dtype=torch.float64))
    """
    _check_payoff("payoff", payoff)
    check_positive("tau", tau)
    log_weight = payoff.detach().double() / tau
    if corrected:
        if log_q is None:
            raise TypeError("log_q must be a tensor unless corrected is False, got None")
        _check_payoff("log_q", log_q)
        if log_q.shape != payoff.shape:
            raise ValueError(
                f"log_q must have the shape of payoff, {tuple(payoff.shape)}, got {tuple(log_q.shape)}"
            )
        if log_q.device != payoff.device:
            raise ValueError(f"log_q must be on the device of payoff, {payoff.device}, got {log_q.device}")
        density = log_q.detach().double()
        weightless = (log_weight == -math.inf) | density.isinf()
        log_weight = (log_weight - density).masked_fill(weightless, -math.inf)
    samples = payoff.shape[1]
    if samples == 0:
        sizes = log_weight.new_zeros(payoff.shape[0])
        return ImportanceWeights(payoff.detach().clone(), sizes, sizes - math.inf)
    largest = log_weight.amax(-1, keepdim=True)
    # The largest is 1 by comparison: inf - inf would be NaN.
    scaled = (log_weight - largest).masked_fill(log_weight == largest, 0.0).exp()
    scaled = scaled.masked_fill(log_weight == -math.inf, 0.0)
    total = scaled.sum(-1, keepdim=True)  # at least 1, or 0
    weights = scaled / total.clamp(min=1.0)
    size = total.squeeze(-1).square() / scaled.square().sum(-1).clamp(min=1.0)
    log_normalizer = (largest + total.log()).squeeze(-1) - math.log(samples)
    return ImportanceWeights(weights.to(payoff.dtype), size, log_normalizer)


def _check_references(tokens: Tensor, lengths: Tensor | None) -> Tensor | None:
    check_tokens("tokens", tokens, (2,), longest=LARGEST_LENGTH)
    return check_lengths("lengths", lengths, "tokens", tokens)


def _check_payoff(name: str, values: Tensor) -> None:
    check_dense(name, values)
    if not values.is_floating_point():
        raise TypeError(f"{name} must be a floating tensor, got {values.dtype}")
    if values.dim() != 2:
        raise ValueError(f"{name} must have 2 dimensions, got shape {tuple(values.shape)}")
