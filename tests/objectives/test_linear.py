"""The objectives from features equal those from logits in value, diagnostics and gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from softbellman import objectives
from softbellman.objectives import Objective

ROWS, VOCABULARY = 150, 9  # three chunks


def numbers(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


ACTOR = [numbers(ROWS, 5, seed=1), numbers(VOCABULARY, 5, seed=2), numbers(VOCABULARY, seed=3)]
CRITIC = [numbers(ROWS, 3, seed=4), numbers(VOCABULARY, 3, seed=5), numbers(VOCABULARY, seed=6)]
LABELS = torch.arange(ROWS) % VOCABULARY
WEIGHTS = numbers(ROWS, seed=7).abs()
SHARE = WEIGHTS.clamp(max=1.0)
REWARDS = numbers(ROWS, seed=8)
LAST = LABELS == VOCABULARY - 1
COUNTED = LABELS != 3


def q() -> Tensor:
    return CRITIC[0] @ CRITIC[1].t() + CRITIC[2]


PAIRS: dict[str, tuple[Callable[..., Objective], Callable[[Tensor], Objective]]] = {
    "maximum likelihood": (
        lambda *head: objectives.linear_maximum_likelihood(*head, LABELS, sequences=4),
        lambda logits: objectives.maximum_likelihood(logits, LABELS, sequences=4),
    ),
    "weighted likelihood": (
        lambda *head: objectives.linear_weighted_likelihood(*head, LABELS, WEIGHTS, sources=4),
        lambda logits: objectives.weighted_likelihood(logits, LABELS, WEIGHTS, sources=4),
    ),
    "distillation": (
        lambda *head: objectives.linear_oracle_distillation(*head, *CRITIC, sources=4, tau=0.7),
        lambda logits: objectives.oracle_distillation(logits, q(), sources=4, tau=0.7),
    ),
    "distillation of a mixture": (
        lambda *head: objectives.linear_oracle_distillation(
            *head, *CRITIC, WEIGHTS, sources=4, tau=0.7, labels=LABELS, oracle_share=SHARE
        ),
        lambda logits: objectives.oracle_distillation(
            logits, q(), WEIGHTS, sources=4, tau=0.7, labels=LABELS, oracle_share=SHARE
        ),
    ),
    "distillation of known values": (
        lambda *head: objectives.linear_known_distillation(*head, lambda part: q()[part], sources=4, tau=0.7),
        lambda logits: objectives.oracle_distillation(logits, q(), sources=4, tau=0.7),
    ),
    "soft Q": (
        lambda *head: objectives.linear_soft_q_objective(
            *head, LABELS, REWARDS, sequences=4, tau=0.7, terminal=LAST
        ),
        lambda logits: objectives.soft_q_objective(
            logits, LABELS, REWARDS, sequences=4, tau=0.7, terminal=LAST
        ),
    ),
    "soft Q of some rows": (
        lambda *head: objectives.linear_soft_q_objective(
            *head, LABELS, REWARDS, sequences=4, tau=0.7, terminal=LAST, counted=COUNTED
        ),
        lambda logits: objectives.soft_q_objective(
            logits, LABELS, REWARDS, sequences=4, tau=0.7, terminal=LAST, counted=COUNTED
        ),
    ),
    **{
        f"actor, {entropy} entropy": (
            lambda *head, entropy=entropy: objectives.linear_actor_objective(
                *head, *CRITIC, sequences=4, tau=0.7, entropy=entropy
            ),
            lambda logits, entropy=entropy: objectives.actor_objective(
                logits, q(), sequences=4, tau=0.7, entropy=entropy
            ),
        )
        for entropy in ("exact", "normalized", "none")
    },
}


@pytest.mark.parametrize("name", PAIRS)
def test_from_features_as_from_logits(name: str) -> None:
    linear, whole = PAIRS[name]
    leaves = [tensor.clone().requires_grad_() for tensor in ACTOR]
    features, weight, bias = leaves
    found, expected = linear(*leaves), whole(features @ weight.t() + bias)
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-12, atol=0)
    assert found.diagnostics.keys() == expected.diagnostics.keys()
    for key, value in expected.diagnostics.items():
        assert not found.diagnostics[key].requires_grad
        torch.testing.assert_close(found.diagnostics[key], value, rtol=1e-12, atol=0)
    for one, other in zip(
        torch.autograd.grad(found.loss, leaves), torch.autograd.grad(expected.loss, leaves), strict=True
    ):
        assert other.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_no_rows_are_no_loss() -> None:
    features, weight, bias = (tensor.clone().requires_grad_() for tensor in ACTOR)
    found = objectives.linear_known_distillation(
        features[:0], weight, bias, lambda part: q()[:0][part], sources=4, tau=0.7
    )
    assert float(found.loss) == float(found.diagnostics["weight"]) == 0.0
