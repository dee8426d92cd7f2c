"""The references themselves: published vectors, examples worked by hand, finite differences and edge rows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from softbellman import reference
from softbellman.reference.philox import philox4x32, random_words
from softbellman.reference.sampling import gumbel_noise


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    (
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ),
)
def test_philox_known_answers(
    counter: tuple[int, int, int, int], key: tuple[int, int], expected: tuple[int, ...]
) -> None:
    """The vectors published with Random123 for Philox4x32-10."""
    words = philox4x32(tuple(torch.tensor(word) for word in counter), key)  # type: ignore[arg-type]
    assert tuple(int(word) for word in words) == expected


def test_random_words_lay_lanes_along_the_columns() -> None:
    words = random_words(2, 6, seed=2**40 + 1, offset=2**33 + 9)
    second_block = philox4x32((torch.tensor(1), torch.tensor(1), torch.tensor(9), torch.tensor(2)), (1, 2**8))
    assert words.shape == (2, 6)
    assert words[1, 4:].tolist() == [int(word) for word in second_block[:2]]


def test_gumbel_noise_has_the_moments_of_a_gumbel_distribution() -> None:
    """Mean 0.5772, variance pi^2 / 6; 10^6 draws, five standard errors."""
    noise = gumbel_noise(1000, 1000, seed=1, offset=0).double()
    assert noise.isfinite().all()
    assert noise.mean().item() == pytest.approx(0.5772157, abs=5 * 1.2825 / 1000)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, abs=0.03)


def test_soft_value_by_hand() -> None:
    q = torch.tensor([[0.0, 0.0], [1.0, -math.inf], [-math.inf, -math.inf]], dtype=torch.float64)
    assert reference.soft_value(q, tau=2.0).tolist() == pytest.approx([2 * math.log(2), 1.0, -math.inf])
    prior = torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64)  # 3/4, 1/4
    assert reference.soft_value(q[1:2], tau=2.0, prior=prior).item() == pytest.approx(1 + 2 * math.log(0.75))
    assert reference.soft_value(q[:1], tau=2.0, prior=prior).item() == pytest.approx(0.0, abs=1e-15)


def test_policy_value_under_a_prior_by_hand() -> None:
    logits, q = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[1.0, 3.0]], dtype=torch.float64)
    prior = torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64)  # 3/4, 1/4
    expected = 2 - 0.5 * (0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25))
    assert reference.policy_value(logits, q, tau=0.5, prior=prior).value.item() == pytest.approx(expected)
    assert reference.actor_loss(logits, q, tau=0.5, prior=prior).loss.item() == pytest.approx(-expected)


def test_divergence_by_hand() -> None:
    """o = (1/2, 1/2) beside p = (1/4, 3/4); a token that p rules out; no token at all."""
    other = torch.zeros(3, 2, dtype=torch.float64)
    logits = torch.tensor(
        [[0.0, math.log(3.0)], [0.0, -math.inf], [-math.inf, -math.inf]], dtype=torch.float64
    )
    forward, reverse = 0.5 * math.log(4 / 3), 0.75 * math.log(3) - math.log(2)
    assert reference.divergence(logits, other).tolist() == pytest.approx([forward, math.inf, 0.0])
    assert reference.divergence(logits, other, kind="reverse_kl").tolist() == pytest.approx(
        [reverse, math.log(2), 0.0]
    )
    mixed = reference.divergence(logits, other, kind="jsd", beta=0.25)
    # m = (5/16, 11/16), then (7/8, 1/8)
    of_other = 0.5 * math.log(0.5 / (5 / 16)) + 0.5 * math.log(0.5 / (11 / 16))
    of_policy = 0.25 * math.log(0.25 / (5 / 16)) + 0.75 * math.log(0.75 / (11 / 16))
    ruled_out = 0.25 * (0.5 * math.log(0.5 / 0.875) + 0.5 * math.log(0.5 / 0.125)) - 0.75 * math.log(0.875)
    assert mixed.tolist() == pytest.approx([0.25 * of_other + 0.75 * of_policy, ruled_out, 0.0])


def test_bellman_residual_by_hand() -> None:
    q = torch.tensor([[[1.0, 2.0], [0.0, 0.0], [9.0, 9.0]]], dtype=torch.float64)
    actions, rewards = torch.tensor([[1, 0, -1]]), torch.tensor([[0.5, 0.25, math.nan]], dtype=torch.float64)
    mask = torch.tensor([[True, True, False]])
    residual = reference.soft_bellman_residual(q, actions, rewards, mask, tau=1.0)
    assert residual[0].tolist() == pytest.approx([1.5 - math.log(2), -0.25, 0.0])


def test_policy_terms_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0, -math.inf]], dtype=torch.float64)
    q = torch.tensor([[1.0, 3.0, -math.inf]], dtype=torch.float64)
    value, entropy = reference.policy_value(logits, q, tau=0.5)
    assert (value.item(), entropy.item()) == pytest.approx((2 + 0.5 * math.log(2), math.log(2)))
    normalized = reference.actor_loss(logits, q, tau=0.5, entropy="normalized").loss
    assert normalized.item() == pytest.approx(-(2 + 0.5 / math.sqrt(2)))
    assert reference.actor_loss(logits, q, tau=0.5, entropy="none").loss.item() == -2.0
    with pytest.raises(ValueError, match="entropy must be 'exact', 'normalized' or 'none', got 'some'"):
        reference.actor_loss(logits, q, tau=0.5, entropy="some")


def test_critic_loss_by_hand() -> None:
    q = torch.tensor([[1.0, 2.0, 6.0, -math.inf]], dtype=torch.float64)
    result = reference.critic_loss(q, torch.tensor([2]), torch.tensor([4.0]), smoothness=0.5)
    assert [part.item() for part in result] == [11.0, 2.0, 14.0]


def test_cross_entropies_by_hand() -> None:
    logits = torch.tensor([[math.log(1.0), math.log(3.0)]], dtype=torch.float64)
    q = torch.zeros(1, 2, dtype=torch.float64)
    soft, hard = -0.5 * (math.log(0.25) + math.log(0.75)), -math.log(0.75)
    assert reference.soft_target_cross_entropy(logits, q, tau=1.0).item() == pytest.approx(soft)
    assert reference.token_cross_entropy(logits, torch.tensor([1])).item() == pytest.approx(hard)
    mixed = reference.soft_target_cross_entropy(
        logits, q, tau=1.0, targets=torch.tensor([1]), oracle_weight=0.2
    )
    assert mixed.item() == pytest.approx(0.2 * soft + 0.8 * hard)


def test_gradients_by_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)

    def rows() -> Tensor:
        return torch.randn(2, 3, 4, generator=generator, dtype=torch.float64).requires_grad_()

    q, logits, constant, rewards = rows(), rows(), rows().detach(), torch.randn(2, 3, dtype=torch.float64)
    ids, mask = (
        torch.randint(0, 4, (2, 3), generator=generator),
        torch.tensor([[True, True, False], [True] * 3]),
    )
    check = torch.autograd.gradcheck
    assert check(lambda x: reference.soft_value(x, tau=0.5, mask=mask), (q,))
    assert check(lambda x: reference.soft_bellman_residual(x, ids, rewards, mask, tau=0.5), (q,))
    assert check(lambda x, y: tuple(reference.policy_value(x, y, tau=0.5, mask=mask)), (logits, q))
    assert check(lambda x: tuple(reference.actor_loss(x, constant, tau=0.5, mask=mask)), (logits,))
    assert check(lambda x: reference.critic_loss(x, ids, rewards, mask, smoothness=0.3).loss, (q,))
    assert check(
        lambda x: reference.soft_target_cross_entropy(
            x, constant, tau=0.5, mask=mask, targets=ids, oracle_weight=0.3
        ),
        (logits,),
    )
    assert check(lambda x: reference.token_cross_entropy(x, ids, mask), (logits,))


@pytest.mark.parametrize("name", ("soft_value", "policy_value", "token_cross_entropy"))
def test_impossible_rows_have_finite_gradients(name: str) -> None:
    logits = torch.full((2, 5), -math.inf, dtype=torch.float64)
    logits[1, 2] = 0.0
    logits.requires_grad_()
    if name == "soft_value":
        result = reference.soft_value(logits, tau=0.5)[1:].sum()
    elif name == "policy_value":
        result = torch.stack(reference.policy_value(logits, torch.ones(2, 5).double(), tau=0.5)).sum()
    else:
        result = reference.token_cross_entropy(logits, torch.tensor([2, 2])).sum()
    result.backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    assert not logits.grad[0].any()
