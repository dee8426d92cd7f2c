"""float32 errors against float64, beside those of the plain expressions: small temperatures, large values, cancellation.

Where a plain expression keeps its digits, both err by the rounding of results and of exponents, and neither is better. Where it
loses them, the operator must not: its error is at most a quarter of the plain one's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.contenders import Inputs, Operator

ROOT = Path(__file__).resolve().parents[2]
ROUNDING = 8e-7  # root mean square, relative: a dozen roundings of 2^-24, as an exponent of size ten has
ROWS, VOCABULARY, STEPS = 64, 5003, 16
# Standard deviation and mean of q (and of the target critic's), and of the logits.
VALUES = {
    "plain": (1.0, 0.0, 3.0, 0.0),
    "large": (1e4, 0.0, 300.0, 0.0),
    "clustered": (0.03, 30.0, 0.1, 50.0),
}
NAMES = (
    "soft_value", "soft_bellman_residual", "policy_value", "critic_loss", "erac_critic_loss", "actor_loss",
    "soft_target_cross_entropy", "token_cross_entropy", "token_statistics",
)  # fmt: skip


@pytest.mark.parametrize("tau", [0.5, 0.01])
@pytest.mark.parametrize("kind", list(VALUES))
@pytest.mark.parametrize("name", NAMES)
def test_no_digit_is_lost_that_the_plain_expression_loses(
    monkeypatch: pytest.MonkeyPatch, name: str, kind: str, tau: float
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import contenders

    monkeypatch.setattr(contenders, "TAU", tau)
    operator = contenders.OPERATORS[name]
    data = make(contenders.Inputs, kind)
    exact = run(operator, operator.plain, data, torch.float64)
    ours = run(operator, operator.ours, data, torch.float32)
    plain = run(operator, operator.plain, data, torch.float32)
    for own, theirs, truth in zip(ours, plain, exact, strict=True):
        assert own.isfinite().all()
        assert error(own, truth) <= max(error(theirs, truth) / 4, ROUNDING)


def make(inputs: type[Inputs], kind: str) -> Inputs:
    generator = torch.Generator().manual_seed(5)
    spread, mean, of_logits, centre = VALUES[kind]
    logits, q, target_q = torch.randn(3, ROWS, VOCABULARY, generator=generator)
    numbers, upstream = torch.randn(2, ROWS, generator=generator)
    return inputs(
        logits=centre + of_logits * logits,
        q=mean + spread * q,
        target_q=mean + spread * target_q,
        actions=torch.randint(VOCABULARY, (ROWS,), generator=generator),
        numbers=numbers,
        upstream=upstream,
        steps=STEPS,
    )


def run(
    operator: Operator, function: Callable[[Inputs], tuple[Tensor, ...]], data: Inputs, dtype: torch.dtype
) -> list[Tensor]:
    """Results and gradients in float64, computed in `dtype` from the same float32 numbers."""
    floating = {name: getattr(data, name).to(dtype) for name in ("target_q", "numbers", "upstream")}
    leaves = {name: getattr(data, name).to(dtype).requires_grad_() for name in ("logits", "q")}
    data = data._replace(**floating, **leaves)
    results = function(data)
    arriving = [data.upstream.view(result.shape) for result in results]
    gradients = torch.autograd.grad(results, [getattr(data, name) for name in operator.gradients], arriving)
    return [part.detach().double().flatten() for part in (*results, *gradients)]


def error(actual: Tensor, exact: Tensor) -> float:
    """Root mean square error, relative to the root mean square."""
    return float((actual - exact).norm() / exact.norm().clamp(min=1e-300))
