"""Scheduled sampling: its decays, its coins, and the words that the decoder reads."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from small_updates import CPU, settings_of

from softbellman.data import BOS, EOS, Batch
from softbellman.decoding import sample
from softbellman.training.assembly import Assembly
from softbellman.training.settings import ScheduledStageSettings
from softbellman.training.stages.scheduled import ScheduledStage, inverse_sigmoid, reference_share
from softbellman.training.task import Task, load_task


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(settings_of({}).data)


def parts_of(task: Task, **overrides: str) -> tuple[Assembly, ScheduledStage, Batch]:
    keys = {"actor.dropout": "0", "algorithm": "scheduled", "scheduled.schedule.batch_size": "16"}
    parts = Assembly(settings_of({**keys, **overrides}), task, CPU)
    stage = parts.build("scheduled")
    assert isinstance(stage, ScheduledStage)
    return parts, stage, next(parts.train_batches(stage.schedule, "scheduled").epoch(0))


def test_shares_fall_as_published() -> None:
    linear = ScheduledStageSettings(decay="linear", updates=10, least=0.2)
    assert [reference_share(step, linear) for step in (0, 5, 8, 9)] == pytest.approx([1.0, 0.5, 0.2, 0.2])
    exponential = ScheduledStageSettings(decay="exponential", updates=10, least=0.0)
    assert reference_share(20, exponential) == pytest.approx(math.exp(-2))
    sigmoid = ScheduledStageSettings(updates=5000, least=0.0)
    shares = [reference_share(step, sigmoid) for step in range(0, 12000, 500)]
    assert shares[0] > 0.99 and shares[10] == pytest.approx(0.5) and shares[-1] < 0.01
    assert all(after < before for before, after in itertools.pairwise(shares))


@pytest.mark.parametrize("half", [1, 10, 5000])
def test_the_inverse_sigmoid_is_a_half_where_it_is_asked_to_be(half: int) -> None:
    assert 0.49 < inverse_sigmoid(half, half) <= 0.6
    assert inverse_sigmoid(10**9, half) < 1e-6


def test_share_one_is_maximum_likelihood_and_zero_reads_its_own_words(task: Task) -> None:
    _, stage, batch = parts_of(task)
    assert torch.equal(stage.mixed_prefix(batch, 0, 1.0), batch.prefix)
    own = stage.mixed_prefix(batch, 0, 0.0)
    assert own.shape == batch.prefix.shape and (own[:, 0] == BOS).all()
    drawn = sample(
        stage.modules["actor"].eval(), batch.source, max_length=batch.mask.sum(1), seed=stage._key,
        forbidden=stage._forbidden,
    )  # fmt: skip
    real = batch.mask[:, 1:]  # what is read before the second token and those behind
    assert torch.equal(own[:, 1:][real], drawn.tokens[:, :-1][real])
    assert not (own[:, 1:][real] == EOS).any()


def test_each_word_is_the_reference_s_or_what_follows_from_all_before(task: Task) -> None:
    """Step by step with the coins as they fell: the draw of a step has read the words of the steps before."""
    parts, stage, batch = parts_of(task)
    coins = stage._coins(batch, 3, 0.5)
    prefix = stage.mixed_prefix(batch, 3, 0.5)
    assert 0.3 < coins[batch.mask].float().mean() < 0.7
    actor = parts.actor.eval()
    for step in range(prefix.shape[1] - 1):
        logits = actor(batch.source, prefix[:, : step + 1])[:, step]
        real = batch.mask[:, step + 1]
        kept = coins[:, step] & real
        assert torch.equal(prefix[kept, step + 1], batch.labels[kept, step])
        drawn = real & ~coins[:, step]
        allowed = logits.masked_fill(stage._forbidden, -torch.inf)
        assert torch.isfinite(allowed[drawn].gather(1, prefix[drawn, step + 1][:, None])).all()


def test_coins_and_words_of_a_row_are_the_same_in_any_part_of_a_batch(task: Task) -> None:
    _, stage, batch = parts_of(task)
    whole = stage.mixed_prefix(batch, 5, 0.4)
    part = Batch(
        batch.source[6:], batch.target[6:], batch.references[6:], batch.reference_lengths[6:], batch.index[6:], first=6
    )  # fmt: skip
    found = stage.mixed_prefix(part, 5, 0.4)
    real = part.mask
    assert torch.equal(found[real], whole[6:][real])
    assert not torch.equal(stage.mixed_prefix(batch, 6, 0.4), whole)


def test_the_loss_is_that_of_the_reference_on_the_mixed_prefix(task: Task) -> None:
    parts, stage, batch = parts_of(task, **{"scheduled.decay": "linear", "scheduled.updates": "4"})
    prefix = stage.mixed_prefix(batch, 2, 0.5)
    log_probs = parts.actor.eval()(batch.source, prefix).log_softmax(-1)
    expected = -log_probs.gather(-1, batch.labels[..., None]).squeeze(-1)[batch.mask].sum()
    sums = stage.update(batch, 2)
    assert float(sums["nll"]) == pytest.approx(float(expected), rel=1e-4)
    assert float(sums["reference_share"] / sums["tokens"]) == pytest.approx(0.5)
