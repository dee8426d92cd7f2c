"""Importance weights by hand, at their edges, and as estimators of RAML's gradient."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

import softbellman
from payoffs.edits_cases import every_sequence, row, weighted_batch
from softbellman import (
    bleu_rewards,
    edit_log_density,
    importance_weights,
    reference,
    sample_edits,
)

INFINITY = math.inf


def test_by_hand() -> None:
    payoff, log_q = torch.tensor([[0.5, 1.0]]).double(), torch.tensor([[0.25, 0.75]]).double().log()
    weights, size, log_normalizer = importance_weights(payoff, log_q, tau=0.5)
    first, second = math.e / 0.25, math.e**2 / 0.75
    assert weights[0].tolist() == pytest.approx([first / (first + second), second / (first + second)])
    assert size.item() == pytest.approx((first + second) ** 2 / (first**2 + second**2))
    assert log_normalizer.item() == pytest.approx(math.log((first + second) / 2))


def test_the_published_weights() -> None:
    """softmax of BLEU in [0, 1] over the samples."""
    payoff = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    for log_q in (None, torch.full((5, 4), math.nan)):
        weights = importance_weights(payoff, log_q, tau=1.0, corrected=False).weights
        torch.testing.assert_close(weights, payoff.softmax(-1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_against_reference(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    payoff = (torch.randn(7, 5, generator=generator) * 3).to(dtype)
    log_q = -20 * torch.rand(7, 5, generator=generator, dtype=torch.float64)
    payoff[1, 2] = payoff[2] = -INFINITY
    log_q[3, 1] = log_q[4] = -INFINITY
    payoff[5, 1:3] = INFINITY
    for corrected in (True, False):
        ours = importance_weights(payoff, log_q, tau=0.3, corrected=corrected)
        expected = reference.importance_weights(payoff, log_q, tau=0.3, corrected=corrected)
        assert ours.weights.dtype == dtype
        for one, other in zip(ours, expected, strict=True):
            assert not one.isnan().any()
            torch.testing.assert_close(one, other)


def test_edges() -> None:
    none = -INFINITY
    payoff = torch.tensor(
        [[none, none], [0.0, none], [INFINITY, 5.0], [INFINITY, INFINITY], [1e300, -1e300]],
        dtype=torch.float64,
    )
    weights, size, log_normalizer = importance_weights(payoff, torch.zeros(5, 2), tau=1e-5)
    assert weights.tolist() == [[0, 0], [1, 0], [1, 0], [0.5, 0.5], [1, 0]]
    assert size.tolist() == [0, 1, 1, 2, 1]
    assert log_normalizer.tolist() == [none, -math.log(2), INFINITY, INFINITY, pytest.approx(1e305)]
    assert importance_weights(torch.zeros(3, 0), torch.zeros(3, 0), tau=1.0).weights.shape == (3, 0)
    empty = importance_weights(torch.zeros(3, 0), None, tau=1.0, corrected=False)
    assert empty.effective_sample_size.tolist() == [0] * 3 and (empty.log_normalizer == none).all()
    alone = importance_weights(torch.tensor([[3.0]]), torch.tensor([[-2.0]]), tau=2.0)
    assert [value.item() for value in alone] == [1.0, 1.0, 3.5]
    many = importance_weights(torch.zeros(1, 1000), torch.zeros(1, 1000), tau=1.0)
    assert many.effective_sample_size.item() == pytest.approx(1000)


def test_a_nan_stays_visible() -> None:
    payoff = torch.tensor([[0.0, math.nan], [0.0, 1.0]])
    weights = importance_weights(payoff, torch.zeros(2, 2), tau=1.0).weights
    assert weights[0].isnan().all() and not weights[1].isnan().any()


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "payoff must be a tensor, got list", ([[1.0]], None, 1.0)),
        (
            TypeError,
            "payoff must be a floating tensor, got torch.int64",
            (torch.zeros(1, 1).long(), None, 1.0),
        ),
        (ValueError, r"payoff must have 2 dimensions, got shape \(1,\)", (torch.zeros(1), None, 1.0)),
        (
            TypeError,
            "log_q must be a tensor unless corrected is False, got None",
            (torch.zeros(1, 2), None, 1.0),
        ),
        (
            ValueError,
            r"log_q must have the shape of payoff, \(1, 2\)",
            (torch.zeros(1, 2), torch.zeros(1, 3), 1.0),
        ),
        (ValueError, "tau must be a finite number above 0, got 0", (torch.zeros(1, 2), torch.zeros(1, 2), 0)),
    ],
)
def test_refusals(error: type[Exception], message: str, arguments: tuple[Any, ...]) -> None:
    payoff, log_q, tau = arguments
    with pytest.raises(error, match=message):
        importance_weights(payoff, log_q, tau=tau)


def features(tokens: Tensor, lengths: Tensor) -> Tensor:
    """grad log pi(y) of a policy softmax(theta_t) over 4 tokens and the end at each position, theta at random: [..., F]."""
    width, vocabulary = 6, 4
    theta = torch.randn(width + 1, vocabulary + 1, generator=torch.Generator().manual_seed(7)).double()
    policy = theta.softmax(-1)
    padded = torch.full((*tokens.shape[:-1], width + 1), vocabulary)
    padded[..., : tokens.shape[-1]] = tokens
    position = torch.arange(width + 1)
    chosen = torch.where(position < lengths[..., None], padded, vocabulary)
    gradient = torch.nn.functional.one_hot(chosen, vocabulary + 1).double() - policy
    return (gradient * (position <= lengths[..., None])[..., None]).flatten(-2)


def payoffs(tokens: Tensor, lengths: Tensor, x: Tensor) -> Tensor:
    return bleu_rewards(tokens, x, hypothesis_lengths=lengths, max_order=2, dtype=torch.float64).sum(-1)


@pytest.mark.parametrize("keep_gold", [False, True])
@pytest.mark.parametrize(
    ("proposal", "options"),
    [
        ("hamming", {"temperature": 1.5}),
        ("corrupt", {"rate": 0.6}),
        ("ngram", {}),
        ("edit", {"max_distance": 3, "temperature": 2.0}),
    ],
)
def test_unbiased_estimates_of_the_gradient_of_raml(
    proposal: str, options: dict[str, Any], keep_gold: bool
) -> None:
    """E[sum_k w_k exp(log_normalizer - log Z) grad log pi(y_k)] is the gradient under the payoff distribution.

    Z and the gradient are summed over every sequence the proposal can reach. The published weights stand for
    another distribution: their estimates miss by far more than their error.
    """
    tau, samples, batches = 0.7, 4, 30_000
    x = row((0, 1, 3))
    scoring: dict[str, Any] = {"proposal": proposal, "vocabulary": 4, "special_ids": (), **options}
    edited, lengths = every_sequence(6 if proposal == "edit" else 3)
    reachable = edit_log_density(x, edited, None, lengths, **scoring)[0] > -INFINITY
    edited, lengths = edited[:, reachable], lengths[:, reachable]
    log_mass = payoffs(edited.clamp(min=0), lengths, x)[0] / tau
    log_z = log_mass.logsumexp(-1)
    exact = (log_mass.softmax(-1)[:, None] * features(edited, lengths)[0]).sum(0)

    drawn = sample_edits(
        x.expand(batches, -1), samples=samples, seed=1 + len(proposal), keep_gold=keep_gold, **scoring
    )
    payoff = payoffs(drawn.tokens, drawn.lengths, x.expand(batches, -1))
    gradient = features(drawn.tokens, drawn.lengths)  # [batches, samples, F]

    def z_scores(weights: Tensor) -> Tensor:
        estimate = (weights[..., None] * gradient).sum(1)
        deviation = estimate.std(0) / math.sqrt(batches)
        return ((estimate.mean(0) - exact).abs() / deviation)[deviation > 0]

    corrected = importance_weights(payoff, drawn.log_density, tau=tau)
    scale = (corrected.log_normalizer - log_z).exp()
    assert z_scores(corrected.weights * scale[:, None]).max() < 4.5
    assert abs(scale.mean() - 1) < 4.5 * scale.std() / math.sqrt(batches)
    published = importance_weights(payoff, None, tau=tau, corrected=False)
    assert z_scores(published.weights).max() > 25
    mean_published = published.log_normalizer.exp().mean()
    assert abs(mean_published / log_z.exp() - 1) > 0.3


def test_a_weighted_batch_is_that_of_the_reference() -> None:
    """Edits, their prefix payoffs and their weights: a training batch of RAML or VAML."""
    tokens = torch.randint(3, 12, (4, 7), generator=torch.Generator().manual_seed(2))
    lengths = torch.tensor([7, 5, 2, 0])
    references = torch.randint(3, 12, (4, 2, 8), generator=torch.Generator().manual_seed(3))
    reference_lengths = torch.tensor([[8, 3], [4, 0], [1, 2], [0, 0]])
    edits: dict[str, Any] = {
        "samples": 5, "proposal": "edit", "vocabulary": 12, "seed": 9, "special_ids": (0, 1), "keep_gold": True,
        "max_distance": 3,
    }  # fmt: skip
    payoff: dict[str, Any] = {
        "max_order": 2, "smoothing": "floor", "smooth_value": 0.2, "unmatched_id": 4, "scale": "none",
        "dtype": torch.float64,
    }  # fmt: skip
    for compared in ((tokens, lengths), (references, reference_lengths)):
        arguments: dict[str, Any] = {"edits": edits, "payoff": payoff, "tau": 0.4, "compared": compared}
        ours = weighted_batch(softbellman, tokens, lengths, **arguments)
        expected = weighted_batch(reference, tokens, lengths, **arguments)
        for one, other in zip(ours, expected, strict=True):
            assert one.dtype == other.dtype
            torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)
        if compared[0] is tokens:
            assert ours.rewards.sum(-1)[0].argmax() == 0  # the reference itself


def test_a_sentence_is_worth_the_sum_of_its_rewards() -> None:
    """The payoff that weights need: `sentence_bleu`, or the sum of `bleu_rewards`."""
    tokens = torch.randint(3, 12, (4, 7), generator=torch.Generator().manual_seed(2))
    edited = sample_edits(tokens, samples=5, proposal="ngram", vocabulary=12, seed=1)
    arguments: dict[str, Any] = {"hypothesis_lengths": edited.lengths, "dtype": torch.float64}
    summed = bleu_rewards(edited.tokens, tokens, scale="none", **arguments).sum(-1)
    torch.testing.assert_close(
        softbellman.sentence_bleu(edited.tokens, tokens, **arguments), summed, rtol=1e-14, atol=1e-14
    )


def test_the_support_is_what_the_proposal_reaches() -> None:
    """Hamming and corruption reach all sequences of the length; ngram and edit only those near the reference."""
    x = row((0, 1, 3, 0))
    everything = torch.tensor([list(product(range(4), repeat=4))])
    reached = {
        proposal: int(
            (edit_log_density(x, everything, proposal=proposal, vocabulary=4, **options) > -INFINITY).sum()
        )
        for proposal, options in (
            ("hamming", {}), ("corrupt", {}), ("ngram", {"max_order": 1}), ("edit", {"max_distance": 1}),
        )
    }  # fmt: skip
    assert reached == {"hamming": 256, "corrupt": 256, "ngram": 13, "edit": 13}
