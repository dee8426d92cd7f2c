"""Inputs off the beaten track: strides, second derivatives, autocast, float16, rows that are not finite or weigh nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import softbellman as sb
from softbellman import Head
from softbellman.core.launch import launch, row_matrix

N, V, H = 7, 5, 4


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def head(seed: int = 1) -> Head:
    return Head(draw(N, H, seed=seed), draw(V, H, seed=seed + 1))


BESIDE_A_HEAD: dict[str, Callable[[Tensor], Tensor]] = {
    "divergence": lambda x: sb.divergence(x, head()),
    "divergence, reduced": lambda x: sb.divergence(x, head(), reduction="sum"),
    "jsd": lambda x: sb.divergence(x, head(), beta=0.5),
    "actor_loss, logits": lambda x: sb.actor_loss(x, head(), tau=0.5).loss,
    "policy_value, logits": lambda x: sb.policy_value(x, head(), tau=0.5),
    "policy_value, q": lambda x: sb.policy_value(head(), x, tau=0.5),
    "soft_value": lambda x: sb.soft_value(x, tau=0.5, prior=head()),
    "soft_target_cross_entropy": lambda x: sb.soft_target_cross_entropy(x, head(), tau=0.5),
}


@pytest.mark.parametrize("loss", BESIDE_A_HEAD.values(), ids=BESIDE_A_HEAD.keys())
@pytest.mark.parametrize(
    "strided",
    [lambda x: x.t().contiguous().t(), lambda x: torch.stack([x, -x], 2).flatten(1)[:, ::2]],
    ids=["transposed", "every second column"],
)
def test_gradients_of_strided_rows_beside_a_head(
    loss: Callable[[Tensor], Tensor], strided: Callable[[Tensor], Tensor]
) -> None:
    found = []
    for layout in (lambda x: x.contiguous(), strided):
        rows = layout(draw(N, V)).detach().requires_grad_()
        value = loss(rows)
        value = value if isinstance(value, Tensor) else value[0]
        (gradient,) = torch.autograd.grad(value.sum(), rows)
        found.append((value.detach(), gradient))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_a_kernel_writes_no_copy() -> None:
    """A result that is strided would be lost: the launch says so."""
    rows = draw(N, V)
    statistics = {
        name: torch.zeros(N) for name in ("entropy", "log_normalizer", "correction", "grad_entropy")
    }
    given = {"targets": None, "mask": None, "grad_log_prob": None, "grad_log_normalizer": None, **statistics}
    lost = row_matrix(torch.empty(V, N).t())
    with pytest.raises(ValueError, match="grad_logits is written, and its rows must be contiguous"):
        launch("token_statistics_backward", rows, logits=row_matrix(rows), grad_logits=lost, **given)


# Second derivatives ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["none", "sum"])
@pytest.mark.parametrize("rows", [3, 12], ids=["through the values", "through second moments"])
@pytest.mark.parametrize("both", [False, True], ids=["weight", "weight and hidden states"])
def test_second_derivatives_of_a_head_raise(rows: int, both: bool, reduction: str) -> None:
    """Also where another term has them, so that the missing one would go unnoticed."""
    hidden = draw(rows, H, dtype=torch.float64).requires_grad_(both)
    weight = draw(V, H, seed=1, dtype=torch.float64).requires_grad_()
    critic = Head(hidden, weight, draw(V, seed=2, dtype=torch.float64).requires_grad_())
    targets, actions = draw(rows, seed=3, dtype=torch.float64), torch.arange(rows) % V
    losses = [
        sb.critic_loss(critic, actions, targets, smoothness=0.3, reduction=reduction).loss,
        sb.erac_critic_loss(
            draw(1, rows, V, seed=4, dtype=torch.float64),
            draw(1, rows, V, seed=5, dtype=torch.float64),
            Head(hidden[None], weight, critic.bias),
            actions[None],
            targets[None],
            tau=0.1,
            smoothness=0.3,
            reduction=reduction,
        ).loss,
        sb.token_cross_entropy(critic, actions, reduction=reduction),
    ]
    for loss in losses:
        (first,) = torch.autograd.grad(loss.sum(), weight, create_graph=True)
        with pytest.raises(RuntimeError, match="cannot be differentiated a second time"):
            torch.autograd.grad(first.square().sum() + weight.square().sum(), weight)
        if both:
            (first,) = torch.autograd.grad(loss.sum(), weight, create_graph=True)
            with pytest.raises(RuntimeError, match="cannot be differentiated a second time"):
                torch.autograd.grad(first.square().sum() + hidden.square().sum(), hidden)


# Autocast -------------------------------------------------------------------------------------------------------------


def test_the_spread_of_a_critic_is_summed_in_float32_under_autocast() -> None:
    """The same as that of the values, which are computed where a vocabulary is given."""
    hidden, weight = draw(64) + 0.01 * draw(512, 64, seed=1), draw(300, 64, seed=2)
    bias, actions, targets = -(weight @ hidden[0]), torch.arange(512) % 300, draw(512, seed=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        by_moments, by_values = (
            sb.critic_loss(
                Head(hidden, weight, bias, vocabulary=tokens), actions, targets, smoothness=0.3
            ).spread
            for tokens in (None, 300)
        )
    assert (by_moments >= 0).all()
    # the values are rounded to bfloat16 there, as autocast says
    torch.testing.assert_close(by_moments.median(), by_values.median(), rtol=0.2, atol=0.5)


def test_a_backward_pass_within_autocast_is_that_without() -> None:
    mask, targets, gradients = torch.tensor([1, 1, 0, 1, 0, 1, 1]).bool(), torch.zeros(N).long(), []
    for enabled in (False, True):
        hidden, weight = draw(N, H).requires_grad_(), draw(V, H, seed=1).requires_grad_()
        loss = sb.token_cross_entropy(Head(hidden, weight), targets, mask).sum()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss.backward()
        gradients.append((hidden.grad, weight.grad))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)


# float16 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [False, True], ids=["weight", "hidden states"])
def test_a_mean_over_many_rows_of_float16_has_a_finite_gradient(frozen: bool) -> None:
    """Each row's part would overflow float16 before it is divided by the number of rows."""
    rows = 4096
    hidden = torch.full((rows, 8), 30.0).half().requires_grad_(frozen)
    weight = (torch.ones(16, 8) * torch.arange(16)[:, None]).half().requires_grad_(not frozen)
    taken = Head(hidden, weight, accumulation_dtype=torch.float16)
    weights = torch.full((rows,), 3000.0)
    loss = sb.token_cross_entropy(taken, torch.zeros(rows).long(), reduction="mean", row_weights=weights)
    (found,) = torch.autograd.grad(loss / 3000.0, hidden if frozen else weight)
    logits = hidden.detach().float() @ weight.detach().float().t()
    slope = (logits.softmax(-1) - torch.eye(16)[0]) / rows
    exact = slope @ weight.detach().float() if frozen else slope.t() @ hidden.detach().float()
    assert found.isfinite().all()
    torch.testing.assert_close(found.float(), exact, rtol=2e-2, atol=2e-4)


# Rows that count nothing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_head", [False, True], ids=["logits", "head"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_a_row_of_weight_0_counts_nothing_whatever_its_loss(as_head: bool, reduction: str) -> None:
    logits = torch.zeros(2, 4)
    logits[1, 0] = -torch.inf
    rows = Head(logits, torch.eye(4), torch.zeros(4)) if as_head else logits.clone()
    if as_head:
        rows = Head(
            torch.tensor([[0.0], [1.0]]), torch.zeros(4, 1), torch.tensor([0.0, 0.0, 0.0, -torch.inf])
        )
    targets = torch.tensor([0, 3 if as_head else 0])
    loss = sb.token_cross_entropy(rows, targets, reduction=reduction, row_weights=torch.tensor([1.0, 0.0]))
    assert loss.isfinite().all() and loss.sum() > 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_objective_whose_weights_are_0_has_no_gradient(bad: float) -> None:
    logits = torch.zeros(3, 4)
    logits[1, 2] = bad
    logits.requires_grad_()
    some, none = torch.tensor([1.0, 0.0, 0.5]), torch.tensor([0.5, 0.0, 0.0])
    found = sb.token_objective(
        logits, torch.zeros(3).long(), log_prob_weights=some, entropy_weights=none, mask=torch.ones(3).bool()
    )
    found.objective.sum().backward()
    assert found.objective.isfinite().all() and logits.grad is not None
    assert (logits.grad[1] == 0).all() and logits.grad.isfinite().all() and (logits.grad[[0, 2]] != 0).any()


# Paths ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_token_without_probability_is_in_its_own_paths_alone(steps: int) -> None:
    logits = torch.zeros(1, 4, 4)
    logits[0, 3, 1] = -torch.inf
    logits.requires_grad_()
    zero, actions = torch.zeros(1, 4), torch.tensor([[0, 0, 0, 1]])
    found = sb.path_consistency(logits, None, zero, actions, zero, tau=1.0, steps=steps)
    reached = torch.arange(4) + steps > 3
    assert torch.equal(found[0].isinf(), reached) and not found.isnan().any()
    found[0, 0].backward()
    assert logits.grad is not None and logits.grad[0, :steps].isfinite().all()


@pytest.mark.parametrize("length", [1, 2, 5, 8, 13])
def test_sums_along_paths_of_every_length(length: int) -> None:
    from softbellman.losses.path_consistency import along_paths

    numbers = draw(3, length, dtype=torch.float64)
    for steps in (0, *range(1, length + 3)):
        until = length if steps == 0 else steps
        exact = torch.stack([numbers[:, t : t + until].sum(1) for t in range(length)], 1)
        torch.testing.assert_close(along_paths(numbers, steps), exact)
