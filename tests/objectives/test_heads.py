"""The objectives of heads equal those of stored logits in value, diagnostics and gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from softbellman import Head, objectives
from softbellman.core.head import Rows
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


def head(leaves: list[Tensor]) -> Head:
    return Head(*leaves, chunk_rows=64)


CASES: dict[str, Callable[[Rows, Rows], Objective]] = {
    "maximum likelihood": lambda logits, q: objectives.maximum_likelihood(logits, LABELS, sequences=4),
    "weighted likelihood": lambda logits, q: objectives.weighted_likelihood(
        logits, LABELS, WEIGHTS, sources=4
    ),
    "distillation": lambda logits, q: objectives.oracle_distillation(logits, q, sources=4, tau=0.7),
    "distillation of a mixture": lambda logits, q: objectives.oracle_distillation(
        logits, q, WEIGHTS, sources=4, tau=0.7, labels=LABELS, oracle_share=SHARE
    ),
    "distillation of known values": lambda logits, _: objectives.known_distillation(
        logits, lambda part: q()[part], sources=4, tau=0.7
    ),
    "soft Q": lambda logits, q: objectives.soft_q_objective(
        logits, LABELS, REWARDS, sequences=4, tau=0.7, terminal=LAST
    ),
    "soft Q of some rows": lambda logits, q: objectives.soft_q_objective(
        logits, LABELS, REWARDS, sequences=4, tau=0.7, terminal=LAST, counted=COUNTED
    ),
    **{
        f"actor, {entropy} entropy": lambda logits, q, entropy=entropy: objectives.actor_objective(  # type: ignore[misc]
            logits, q, sequences=4, tau=0.7, entropy=entropy
        )
        for entropy in ("exact", "normalized", "none")
    },
    **{
        f"critic, {penalty} penalty": lambda logits, q, penalty=penalty: objectives.critic_objective(  # type: ignore[misc]
            logits, LABELS, REWARDS, sequences=4, smoothness=0.3, penalty=penalty
        )
        for penalty in ("mean", "sum", "published")
    },
}


@pytest.mark.parametrize("name", CASES)
def test_heads_as_stored_logits(name: str) -> None:
    leaves = [tensor.clone().requires_grad_() for tensor in ACTOR]
    found = CASES[name](head(leaves), head(CRITIC))
    expected = CASES[name](head(leaves).logits(), q())
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
    hidden, weight, bias = (tensor.clone().requires_grad_() for tensor in ACTOR)
    found = objectives.known_distillation(
        Head(hidden[:0], weight, bias), lambda part: q()[:0][part], sources=4, tau=0.7
    )
    assert float(found.loss.detach()) == float(found.diagnostics["weight"]) == 0.0
