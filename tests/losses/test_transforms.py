"""What PyTorch's transforms get of the operators: reverse mode, or a sentence. And what registered operators refuse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

import softbellman as sb

IDS, NUMBERS = torch.tensor([0, 2, 1]), torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
OTHER = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
WEIGHT = torch.randn(5, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    "soft_value": lambda rows: sb.soft_value(rows, tau=0.7),
    "soft_bellman_residual": lambda rows: sb.soft_bellman_residual(
        rows[None], IDS[None], NUMBERS[None], tau=0.7
    ),
    "policy_value": lambda rows: sb.policy_value(rows, OTHER, tau=0.7).value,
    "actor_loss": lambda rows: sb.actor_loss(rows, OTHER, tau=0.7).loss,
    "critic_loss": lambda rows: sb.critic_loss(rows, IDS, NUMBERS, smoothness=0.1).loss,
    "erac_critic_loss": lambda rows: sb.erac_critic_loss(OTHER, OTHER, rows, IDS, NUMBERS, tau=0.7).loss,
    "token_cross_entropy": lambda rows: sb.token_cross_entropy(rows, IDS),
    "soft_target_cross_entropy": lambda rows: sb.soft_target_cross_entropy(rows, OTHER, tau=0.7),
    "divergence": lambda rows: sb.divergence(rows, OTHER),
    "a head": lambda rows: sb.token_cross_entropy(sb.Head(rows, WEIGHT), IDS),
    "a reduced head": lambda rows: sb.token_cross_entropy(sb.Head(rows, WEIGHT), IDS, reduction="mean"),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def rows() -> Tensor:
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@every_call
def test_torch_func_grad_and_vjp_are_backward(call: Callable[[Tensor], Tensor]) -> None:
    leaf = rows().requires_grad_()
    result = call(leaf)
    (expected,) = torch.autograd.grad(result.sum(), leaf)
    torch.testing.assert_close(torch.func.grad(lambda x: call(x).sum())(rows()), expected)
    value, pull = torch.func.vjp(call, rows())
    torch.testing.assert_close(value, result.detach())
    torch.testing.assert_close(pull(torch.ones_like(value))[0], expected)


@every_call
def test_forward_mode_is_refused_by_name(call: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(NotImplementedError, match=r"softbellman::.* has no forward-mode derivative"):
        torch.func.jvp(call, (rows(),), (torch.ones(3, 4, dtype=torch.float64),))
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="has no forward-mode derivative"):
        call(forward_ad.make_dual(rows(), torch.ones(3, 4, dtype=torch.float64)))


def test_a_tangent_of_a_constant_is_no_matter() -> None:
    """The critic of an actor is detached, which forward mode honours too."""
    with forward_ad.dual_level():
        q = forward_ad.make_dual(OTHER, torch.ones_like(OTHER))
        loss = sb.actor_loss(rows(), q, tau=0.7).loss
        assert forward_ad.unpack_dual(loss).tangent is None  # type: ignore[no-untyped-call]


@every_call
def test_second_derivatives_of_transforms_are_refused(call: Callable[[Tensor], Tensor]) -> None:
    def squared(x: Tensor) -> Tensor:
        return call(x).square().sum()

    with pytest.raises(RuntimeError, match="cannot be differentiated a second time"):
        torch.func.grad(lambda x: torch.func.grad(squared)(x).sum())(rows())


@every_call
def test_a_batched_call_is_refused_not_cut_from_its_graph(call: Callable[[Tensor], Tensor]) -> None:
    batch = rows()[None].expand(2, -1, -1)
    with pytest.raises(RuntimeError, match="vmap"):
        torch.func.vmap(call)(batch)
    with pytest.raises(RuntimeError, match="vmap"):
        torch.func.grad(lambda x: torch.func.vmap(call)(x).sum())(batch)


SHORT = torch.ones(1, dtype=torch.bool)


def _form(value):
    """An argument in a word, the same in every process."""
    return "x".join(map(str, value.shape)) or "scalar" if isinstance(value, torch.Tensor) else str(value)


@pytest.mark.parametrize(
    ("name", "arguments"),
    (
        ("soft_value", (torch.randn(1000, 7), None, 1.0, SHORT)),
        ("action_soft_value", (torch.randn(1000, 7), 1.0, torch.zeros(1, dtype=torch.int64), None)),
        ("policy", (torch.randn(1000, 7), torch.randn(999, 7), None, 1.0, 0, None)),
        ("policy", (torch.randn(1000, 7), torch.randn(1000, 6), None, 1.0, 0, None)),
        ("policy", (torch.randn(1000, 7), torch.randn(1000, 7).double(), None, 1.0, 0, None)),
        (
            "critic_loss",
            (torch.randn(1000, 7), torch.zeros(1000, dtype=torch.int64), torch.zeros(1), 0.0, None),
        ),
        ("critic_loss", (torch.randn(1000, 7), torch.full((1000,), 7), torch.zeros(1000), 0.0, None)),
        (
            "soft_bellman_residual",
            (torch.randn(10, 10, 7), torch.zeros(100, dtype=torch.int64), torch.zeros(100), SHORT, 1.0, None),
        ),
        ("cross_entropy", (torch.randn(1000, 7), None, 1.0, torch.zeros(9, dtype=torch.int64), None, None)),
        ("divergence", (torch.randn(1000, 7), torch.randn(1000, 7), 0, 0.5, 1.0, 1.0, SHORT)),
        ("sample_tokens", (torch.randn(1000, 7), 0, 0, 1.0, SHORT, None)),
        ("sample_tokens", (torch.randn(1000, 7), 0, 0, 1.0, None, SHORT)),
        (
            "soft_value_backward",
            (torch.ones(1), torch.randn(1000, 7), None, 1.0, None, *torch.ones(2, 1000), True),
        ),
        (
            "soft_value_backward",
            (torch.ones(1000), torch.randn(1000, 7), None, 1.0, None, *torch.ones(2, 9), True),
        ),
    ),
    ids=lambda value: value if isinstance(value, str) else ",".join(_form(one) for one in value),
)
def test_registered_operators_refuse_what_they_would_read_beyond(
    name: str, arguments: tuple[object, ...]
) -> None:
    with pytest.raises((ValueError, RuntimeError), match=r"must|sizes|got"):
        getattr(torch.ops.softbellman, name)(*arguments)


@pytest.mark.parametrize("tau", (1e-300, 1e300, 0.0, float("nan")))
def test_temperatures_without_a_float32_inverse_are_refused(tau: float) -> None:
    for call in (
        lambda: sb.soft_value(rows(), tau=tau),
        lambda: sb.soft_target_cross_entropy(rows(), OTHER, tau=tau),
        lambda: sb.sample_tokens(rows(), seed=1, temperature=tau),
        lambda: sb.divergence(rows(), OTHER, temperature=tau),
    ):
        with pytest.raises(ValueError, match="must be between 1e-30 and 1e30"):
            call()


@pytest.mark.parametrize("bad", (float("nan"), float("inf")))
def test_draws_from_undefined_logits_are_refused(bad: float) -> None:
    logits = torch.zeros(4, 9)
    logits[2, 5] = bad
    with pytest.raises(ValueError, match=r"logits are not finite \(NaN or \+inf\) in row 2 of 4"):
        sb.sample_tokens(logits, seed=3)
    mask = torch.tensor([True, True, False, True])
    assert sb.sample_tokens(logits, seed=3, mask=mask).tokens[2] == 0
