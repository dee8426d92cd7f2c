"""Advantages of tokens, without TRL."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from softbellman.hf.credit import (
    completion_regrets,
    group_advantages,
    rewards_to_go,
    soft_rewards_to_go,
)
from softbellman.hf.rewards import PrefixReward, RewardRecord, with_one_end
from softbellman.losses import td_targets
from softbellman.payoffs import bleu_rewards, optimal_completion_values, prefix_edit_distance


def test_rewards_to_go_are_the_sums_that_a_loop_makes() -> None:
    generator = torch.Generator().manual_seed(0)
    rewards = torch.rand(5, 6, generator=generator)
    lengths = torch.tensor([6, 1, 3, 5, 2])
    mask = torch.arange(6) < lengths[:, None]
    found = rewards_to_go(rewards, mask)
    for row, length in enumerate(lengths.tolist()):
        for t in range(6):
            assert found[row, t] == pytest.approx(float(rewards[row, t:length].sum()), abs=1e-6)


def every_sequence(length: int, vocabulary: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(vocabulary), repeat=length)))


def test_soft_credit_has_the_gradient_of_payoff_and_entropy() -> None:
    length, vocabulary, tau = 3, 3, 0.7
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(
        vocabulary**length, vocabulary, generator=generator, dtype=torch.float64
    ).requires_grad_()
    payoffs = torch.randn(vocabulary**length, length, generator=generator, dtype=torch.float64)
    sequences = every_sequence(length, vocabulary)
    # the state of a prefix: its number in base 3, behind those of shorter ones
    states = torch.stack(
        [
            sum(vocabulary**s for s in range(t))
            + sum(
                (sequences[:, s] * vocabulary ** (t - 1 - s) for s in range(t)),
                torch.zeros(27, dtype=torch.int64),
            )
            for t in range(length)
        ],
        1,
    )
    log_policy = logits.log_softmax(-1)
    log_probs = log_policy[states, sequences]  # (27, 3)
    entropies = -(log_policy.exp() * log_policy).sum(-1)[states]
    # a reward depends on the prefix with its token
    rewards = torch.stack(
        [payoffs[states[:, t] * vocabulary % 27 + sequences[:, t], t] for t in range(length)], 1
    )
    probability = log_probs.sum(1).exp()
    wanted = (probability * (rewards + tau * entropies).sum(1)).sum()
    (exact,) = torch.autograd.grad(wanted, logits, retain_graph=True)

    mask = torch.ones_like(sequences, dtype=torch.bool)
    credit = soft_rewards_to_go(rewards, log_probs.detach(), entropies.detach(), mask, tau=tau)
    surrogate = (probability.detach()[:, None] * credit * log_probs).sum()
    (found,) = torch.autograd.grad(surrogate, logits)
    torch.testing.assert_close(found, exact, rtol=1e-10, atol=1e-12)
    mean = (probability * credit[:, 0]).sum()
    assert mean.item() == pytest.approx(wanted.item(), abs=1e-10)  # the soft value of the empty prefix


def test_soft_credit_without_a_temperature_is_rewards_to_go() -> None:
    rewards, mask = torch.rand(2, 4), torch.tensor([[True] * 4, [True] * 2 + [False] * 2])
    none = torch.rand(2, 4)
    found = soft_rewards_to_go(rewards, -none, none, mask, tau=0.0)
    torch.testing.assert_close(found, rewards_to_go(rewards, mask))
    returns = td_targets(rewards, torch.zeros(2, 4), mask, trace=1.0, bonuses=0.5 * none)
    found = soft_rewards_to_go(rewards, -none, none, mask, tau=0.5)
    torch.testing.assert_close(found, (returns + 0.5 * none) * mask)


def test_regrets_are_those_of_the_whole_vocabulary_and_sum_to_the_distance() -> None:
    generator = torch.Generator().manual_seed(2)
    draw = lambda low, high: torch.randint(low, high, (1,), generator=generator).item()  # noqa: E731
    for _ in range(40):
        body = [draw(2, 9) for _ in range(draw(0, 6))]
        reference = [draw(2, 9) for _ in range(draw(0, 6))]
        tokens = [*body, 1]
        (found,) = completion_regrets([tokens], [reference], eos_id=1)
        ids, wanted = torch.tensor([tokens]), torch.tensor([reference], dtype=torch.int64)
        q = optimal_completion_values(ids, wanted, vocabulary=40, eos_id=1)[0]
        torch.testing.assert_close(found, q[range(len(tokens)), tokens] - q.amax(1))
        distance = prefix_edit_distance(ids[:, :-1], wanted)[0, -1].item() if body else len(reference)
        assert found.sum().item() == -distance


def test_group_advantages_are_relative_to_the_group_and_leave_out_the_unrewarded() -> None:
    values = torch.tensor([[3.0, 1.0], [1.0, 0.0], [4.0, 4.0], [9.0, 9.0]])
    totals, counted = torch.tensor([3.0, 1.0, 4.0, 9.0]), torch.tensor([True, True, True, False])
    plain = group_advantages(values, totals, counted, group=2, scale="none")
    torch.testing.assert_close(plain, torch.tensor([[1.0, 0.5], [-1.0, -0.5], [0.0, 0.0], [0.0, 0.0]]))
    by_group = group_advantages(values, totals, counted, group=2, scale="group")
    torch.testing.assert_close(by_group[:2], plain[:2] / (torch.tensor([3.0, 1.0]).std() + 1e-4))
    by_batch = group_advantages(values, totals, counted, group=2, scale="batch")
    torch.testing.assert_close(by_batch, plain / (torch.tensor([3.0, 1.0, 4.0]).std() + 1e-4))
    with pytest.raises(ValueError, match="scale must be"):
        group_advantages(values, totals, counted, group=2, scale="most")


def test_prefix_rewards_are_the_operators_and_read_several_ends_as_one() -> None:
    reward = PrefixReward("bleu", ends=[1, 2], max_order=2, smoothing="add-one-all")
    found = reward(completion_ids=[[5, 6, 2], [5]], reference=[[5, 6], [7]], other="unread")
    ids = torch.tensor([[5, 6, 1], [5, 1, 1]])
    wanted = bleu_rewards(
        ids, torch.tensor([[5, 6], [7, 1]]), eos_id=1, max_order=2, smoothing="add-one-all"
    ).tolist()
    assert found[0] == pytest.approx(wanted[0]) and found[1] == pytest.approx(wanted[1][:1])
    assert with_one_end([5, 2, 1], [1, 2]) == [5, 1, 1]
    with pytest.raises(ValueError, match="column"):
        reward(completion_ids=[[5]], answer=[[5]])
    with pytest.raises(ValueError, match="payoff must be"):
        PrefixReward("chrf", ends=[1])


def test_a_record_weighs_sums_and_forgets() -> None:
    record = RewardRecord()

    def dense(*, completion_ids: list[list[int]]) -> list[Tensor | None]:
        return [torch.arange(len(row)) for row in completion_ids[:-1]] + [None]

    def whole(*, completion_ids: list[list[int]]) -> list[float | None]:
        return [2.0, None, None]

    first, second = record.wrap([dense, whole])
    completions = [[1, 2, 3], [4, 5], [6]]
    assert first(completion_ids=completions) == [3.0, 1.0, None]
    assert second(completion_ids=completions) == [2.0, None, None]
    assert first.__name__ == "dense"
    rewards, lengths, counted = record.take(torch.tensor([1.0, 0.5]))
    torch.testing.assert_close(rewards, torch.tensor([[0.0, 1.0, 3.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    assert lengths.tolist() == [3, 2, 1] and counted.tolist() == [True, True, False]
    with pytest.raises(KeyError):
        record.take(torch.tensor([1.0, 0.5]))


def test_a_record_refuses_rows_of_another_length_models_and_coroutines() -> None:
    record = RewardRecord()
    (short,) = record.wrap([lambda *, completion_ids: [[1.0]]])
    with pytest.raises(ValueError, match="each of the 2 tokens"):
        short(completion_ids=[[1, 2]])
    with pytest.raises(TypeError, match="reward model"):
        record.wrap([torch.nn.Linear(1, 1)])

    async def later(**_: object) -> list[float]:
        return []

    with pytest.raises(TypeError, match="asynchronous"):
        record.wrap([later])


def test_no_number_is_no_reward() -> None:
    """NaN as None, as TRL takes it; within a list it is an error."""
    record = RewardRecord()
    (function,) = record.wrap([lambda *, completion_ids: [1.0, float("nan"), None]])
    assert function(completion_ids=[[5, 1], [6, 7, 1], [8]]) == [1.0, None, None]
    rewards, lengths, counted = record.take(torch.ones(1))
    assert counted.tolist() == [True, False, False] and rewards.isfinite().all()
    mask = torch.arange(3) < lengths[:, None]
    values = rewards_to_go(rewards, mask)
    assert group_advantages(values, values[:, 0], counted, group=3).isfinite().all()
    for wrong, message in ((None, "got None for token 1"), (float("nan"), "got nan for token 1")):
        (lists,) = record.wrap([lambda *, completion_ids, wrong=wrong: [[1.0, wrong]]])
        with pytest.raises(ValueError, match=message):
            lists(completion_ids=[[5, 1]])


def test_completions_without_a_token() -> None:
    record = RewardRecord()
    (whole,) = record.wrap([lambda *, completion_ids: [3.0, 1.0]])
    assert whole(completion_ids=[[], []]) == [3.0, 1.0]  # what TRL logs
    rewards, lengths, counted = record.take(torch.ones(1))
    assert rewards.shape == (2, 1) and not rewards.any() and lengths.tolist() == [0, 0] and counted.all()
    (dense,) = record.wrap([PrefixReward("edit_distance", ends=[1])])
    assert dense(completion_ids=[], reference=[]) == []
    assert dense(completion_ids=[[], [5, 1]], reference=[[5], [5]]) == [0, 1.0]
