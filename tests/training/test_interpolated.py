"""Interpolation: increments of the payoff, the three that say the next token, and the loss against plain PyTorch."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_updates import CPU, settings_of
from torch import Tensor

from softbellman.data import BOS, EOS, UNK, Batch
from softbellman.training.assembly import Assembly
from softbellman.training.increments import Increments, InterpolatedModel, Shares
from softbellman.training.settings import InterpolatedStageSettings
from softbellman.training.stages.interpolated import INTERPOLATED, InterpolatedStage, shares_at
from softbellman.training.task import Task, load_task

HALF = {"own": "0.2", "own_end": "0.2", "increments": "0.3", "increments_end": "0.3", "tau": "0.2"}


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(settings_of({}).data)


def built(task: Task, keys: dict[str, str], **overrides: str) -> tuple[Assembly, InterpolatedStage, Batch]:
    given = {"actor.dropout": "0", "algorithm": "interpolation", "interpolated.schedule.batch_size": "6"}
    given |= {f"interpolated.{key}": value for key, value in keys.items()} | overrides
    parts = Assembly(settings_of(given), task, CPU)
    stage = parts.build("interpolated")
    assert isinstance(stage, InterpolatedStage)
    return parts, stage, next(parts.train_batches(stage.schedule, "interpolated").epoch(0))


def prefixes_of(batch: Batch) -> Tensor:
    """Starts of references with a word of another sentence in them, `[B, 3]`."""
    prefix = batch.labels[:, :3].clone()
    prefix[:, 1] = batch.labels.roll(1, 0)[:, 0]
    return prefix.masked_fill(prefix <= EOS, int(prefix.max()))


@pytest.mark.parametrize("metric", ["bleu", "rouge_l"])
@pytest.mark.parametrize("references", ["one", "all"])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_increments_are_those_of_every_token_scored_by_itself(
    task: Task, metric: str, references: str, steps: int
) -> None:
    parts, _, batch = built(task, {}, **{"payoff.metric": metric, "payoff.references": references})
    vocabulary = len(task.target_codec)
    prefix, rows = prefixes_of(batch)[:, :steps], torch.tensor([4, 0, 2])
    increments = Increments(parts.payoff, batch, early_end=0.5)
    never = torch.zeros(vocabulary, dtype=torch.bool)
    found = increments.spread(increments.after(prefix[rows], rows), rows, never)
    expected = torch.empty(len(rows), vocabulary)
    for place, row in enumerate(rows.tolist()):
        for word in range(vocabulary):
            said = torch.cat([prefix[row], torch.tensor([word])])[None, None]
            rewards = parts.payoff.rewards(
                said,
                batch.references[row : row + 1],
                hypothesis_lengths=torch.tensor([[steps + 1]]),
                reference_lengths=batch.reference_lengths[row : row + 1],
            )
            early = word == EOS and steps < int(batch.mask[row].sum()) - 1
            expected[place, word] = rewards[0, 0, -1] - 0.5 * early
    torch.testing.assert_close(found, expected)
    assert (found.amax(1) - found.amin(1) > 0.1).all()


def test_the_model_mixes_actor_increments_and_reference(task: Task) -> None:
    parts, _, batch = built(task, {})
    forbidden, shares, tau = parts.forbidden, Shares(0.2, 0.3, 0.5), 0.2
    increments = Increments(parts.payoff, batch, early_end=1.0)
    truth = batch.labels.masked_fill(~batch.mask, EOS)
    actor = parts.actor.eval()
    model = InterpolatedModel(actor, increments, truth, shares=shares, tau=tau, forbidden=forbidden)
    prefix, rows = prefixes_of(batch), torch.arange(len(batch))
    state, tokens = model.begin(batch.source), torch.full((len(batch),), BOS)
    for step in range(3):
        logits, state = model.step(tokens, state)
        read = torch.cat([torch.full_like(prefix[:, :1], BOS), prefix[:, :step]], dim=1)
        own = actor(batch.source, read)[:, -1].masked_fill(forbidden, -torch.inf).softmax(-1)
        gained = increments.spread(increments.after(prefix[:, :step], rows), rows, forbidden)
        expected = 0.2 * own + 0.3 * (gained / tau).softmax(-1)
        expected[rows, truth[:, step]] += 0.5
        torch.testing.assert_close(logits.exp(), expected)
        torch.testing.assert_close(logits.exp().sum(1), torch.ones(len(batch)))
        tokens = prefix[:, step]


def test_the_loss_is_the_cross_entropy_of_what_teaches(task: Task) -> None:
    parts, stage, batch = built(task, HALF)
    said = stage.draw(batch, 3, Shares(0.2, 0.3, 0.5))
    objective = stage.objective(batch, 3)
    increments = Increments(parts.payoff, batch, early_end=1.0)
    log_probs = parts.actor.eval()(batch.source, said.drawn.prefix).log_softmax(-1)
    total, tokens, changed = torch.zeros(()), 0, 0
    for row in range(len(batch)):
        reference = batch.labels[row][batch.mask[row]].tolist()
        length = int(said.drawn.mask[row].sum())
        for step in range(length):
            at = torch.tensor([row])
            gained = increments.spread(
                increments.after(said.drawn.actions[row : row + 1, :step], at), at, parts.forbidden
            )
            target = 0.3 * (gained[0] / 0.2).softmax(-1)
            target[reference[step] if step < len(reference) else EOS] += 0.5
            total = total - (target * log_probs[row, step]).sum()
            changed += step < len(reference) and int(said.drawn.actions[row, step]) != reference[step]
        tokens += length
    assert changed > 3  # words of the actor and of the payoff were among them
    assert int(objective.diagnostics["tokens"]) == tokens
    torch.testing.assert_close(objective.loss, total / len(batch), rtol=1e-4, atol=1e-4)


def test_the_reference_alone_is_maximum_likelihood(task: Task) -> None:
    alone = dict.fromkeys(("own", "own_end", "increments", "increments_end"), "0")
    parts, stage, batch = built(task, alone)
    objective = stage.objective(batch, 0)
    log_probs = parts.actor(batch.source, batch.prefix).log_softmax(-1)
    expected = -log_probs.gather(-1, batch.labels[..., None]).squeeze(-1)[batch.mask].sum() / len(batch)
    torch.testing.assert_close(objective.loss, expected, rtol=1e-4, atol=1e-4)
    assert float(objective.diagnostics["payoff"]) == pytest.approx(
        float(batch.mask.sum() - len(batch)), rel=1e-4
    )  # a reference has the whole payoff, its length


def test_an_unknown_word_of_a_reference_is_said_by_the_reference_alone(task: Task) -> None:
    _, stage, batch = built(task, dict.fromkeys(("own", "own_end", "increments", "increments_end"), "0"))
    target = batch.target.clone()
    target[:, 1] = UNK
    changed = replace(batch, target=target, rows=None, critic_source=None)  # type: ignore[arg-type]
    objective = stage.objective(changed, 0)
    assert torch.isfinite(objective.loss)


def test_shares_move_on_a_straight_line() -> None:
    settings = InterpolatedStageSettings(updates=10)
    assert shares_at(0, settings) == pytest.approx((0.04, 0.0, 0.96))
    assert shares_at(5, settings) == pytest.approx((0.07, 0.12, 0.81))
    assert shares_at(25, settings) == pytest.approx((0.1, 0.24, 0.66))


@pytest.mark.parametrize("keys", [{"own_end": 0.9, "increments_end": 0.2}, {"own": 1.0}])
def test_shares_above_one_are_refused(keys: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be below 1, and with increments.* at most 1, got"):
        InterpolatedStageSettings(**keys)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "keys",
    [
        {"payoff.metric": "cider"},
        {"payoff.rewards": "end"},
        {"payoff.metric": "sum", "payoff.terms": "[bleu=1]"},
    ],
)
def test_other_payoffs_are_refused(keys: dict[str, str]) -> None:
    settings = settings_of(keys)
    parts: Any = SimpleNamespace(settings=settings)
    with pytest.raises(
        ValueError, match=r"payoff\.metric must be bleu or rouge_l with payoff\.rewards: prefixes"
    ):
        INTERPOLATED.check(parts, settings.interpolated)
