"""Decoding for future success: what the value is regressed to, which weight the search takes, its runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_updates import CPU, one_update, settings_of
from training.harness import Killed, die_before, metrics_of, same_run

import softbellman
from softbellman.data import EOS, Batch
from softbellman.decoding import ActionValue, LastScore, beam_search
from softbellman.training import load_run, run
from softbellman.training.assembly import Assembly
from softbellman.training.settings import FutureStageSettings, Settings
from softbellman.training.stages import FutureStage
from softbellman.training.stages.future import action_value, judge_weights
from softbellman.training.task import Task, load_task

DRY = {
    "algorithm": "future_success", "actor.dropout": "0", "future.samples": "3", "future.schedule.batch_size": "4",
    "future.optimizer.clip": ".inf",
}  # fmt: skip


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(settings_of({}).data)


def parts_of(task: Task, overrides: dict[str, str]) -> tuple[Assembly, FutureStage, Batch]:
    parts = Assembly(settings_of({**DRY, **overrides}), task, CPU)
    stage = parts.build("future")
    assert isinstance(stage, FutureStage)
    return parts, stage, next(parts.train_batches(stage.schedule, "future").epoch(0))


@pytest.mark.parametrize("sequences", ["samples", "beam"])
def test_the_target_is_the_payoff_of_the_whole_sequence(task: Task, sequences: str) -> None:
    """The loss written out: (Q(y_<t, y_t) - R(y))^2 at every real token, the same R along a sequence."""
    overrides = {"future.sequences": sequences, "future.smoothness": "0.01"}
    stage, sums, gradients = one_update(task, "future", {**DRY, **overrides})
    parts, again, batch = parts_of(task, overrides)
    again.value.train(False)
    with torch.no_grad():  # values that differ
        torch.manual_seed(0)
    said = again.sequences(batch, 0)
    if sequences == "beam":
        limits = (batch.mask.sum(1) + 10).clamp(max=20)
        best = beam_search(
            parts.actor, batch.source, beam=5, best=3, max_length=limits, forbidden=parts.forbidden
        )
        assert torch.equal(best.tokens[said.mask], said.actions[said.mask])
    ended = (said.actions == EOS) & said.mask
    assert (ended.sum(1) <= 1).all() and (ended.float().argmax(1) == said.mask.sum(1) - 1)[ended.any(1)].all()
    payoffs = parts.payoff.rewards(
        said.actions.view(4, 3, -1), batch.references, hypothesis_lengths=said.mask.sum(1).view(4, 3),
        reference_lengths=batch.reference_lengths,
    ).sum(-1).flatten()  # fmt: skip
    q = again.value(batch.source, said.prefix)
    taken = q.gather(-1, said.actions[..., None]).squeeze(-1)
    spread = (q - q.mean(-1, keepdim=True)).square().sum(-1)
    rows = (taken - payoffs[:, None]).square() + 0.01 * spread
    loss = rows[said.mask].sum() / 12
    names, parameters = zip(*again.value.named_parameters(), strict=True)
    wanted = torch.autograd.grad(loss, parameters, allow_unused=True)
    for name, expected in zip(names, wanted, strict=True):
        if expected is not None:
            scale = float(expected.abs().max())
            torch.testing.assert_close(gradients[f"value.{name}"], expected, rtol=0, atol=1e-4 * scale + 1e-6)
    assert float(sums["payoff"]) == pytest.approx(float(payoffs.sum()), rel=1e-5)
    assert float(sums["td_error"]) == pytest.approx(
        float((taken - payoffs[:, None]).abs()[said.mask].sum().detach()), rel=1e-4
    )
    assert set(stage.optimizers) == {"value"}


def test_the_actor_stays_and_the_error_falls(task: Task) -> None:
    parts, stage, batch = parts_of(task, {"future.optimizer.learning_rate": "0.01"})
    before = [one.clone() for one in parts.actor.parameters()]
    errors = []
    for _ in range(40):
        sums = stage.update(batch, 0)
        errors.append(float(sums["td_squared"] / sums["tokens"]))
    assert errors[-1] < 0.3 * errors[0]
    assert all(torch.equal(old, new) for old, new in zip(before, parts.actor.parameters(), strict=True))


def test_values_begin_at_zero_beside_the_actor_s_features(task: Task) -> None:
    parts, stage, batch = parts_of(task, {})
    assert not stage.value(batch.source, batch.prefix).any()
    actor = parts.actor.features(batch.source, batch.prefix)
    torch.testing.assert_close(stage.value.network.features(batch.source, batch.prefix), actor)
    tied = torch.nn.Module()
    tied.first = torch.nn.Embedding(4, 3)
    tied.second = torch.nn.Linear(3, 4, bias=False)
    tied.second.weight = tied.first.weight
    tied.projection = lambda: (tied.second.weight,)
    tied.features = tied.project = lambda *given: None
    assert action_value(tied).network.first.weight.any()


def test_the_best_weight_is_taken_and_the_smallest_of_equals() -> None:
    value = ActionValue(torch.nn.Linear(1, 1))
    scores = {0.0: 20.0, 0.1: 23.0, 0.5: 23.0, 1.0: 11.0}

    def judge() -> dict[str, float]:
        return {"dev_bleu": scores[round(float(value.gamma), 3)], "dev_length_ratio": float(value.gamma)}

    found = judge_weights(value, (1.0, 0.1, 0.5), judge)
    assert found == {
        "dev_bleu": 23.0, "dev_length_ratio": 0.1, "dev_gamma": 0.1, "dev_bleu_gamma_0": 20.0,
        "dev_bleu_gamma_0.1": 23.0, "dev_bleu_gamma_0.5": 23.0, "dev_bleu_gamma_1": 11.0,
    }  # fmt: skip
    assert float(value.gamma) == 0.1


def test_what_is_refused(task: Task) -> None:
    with pytest.raises(ValueError, match=r"future\.gammas must be from 0 to 1e6, got \[0\.1, -1\.0\]"):
        FutureStageSettings(gammas=(0.1, -1.0))
    with pytest.raises(ValueError, match=r"evaluation\.length_penalty is of log-probabilities alone"):
        parts_of(task, {"evaluation.length_penalty": "0.5"})


@pytest.mark.parametrize("sequences", ["samples", "beam"])
def test_a_run_that_died_goes_on_bit_for_bit_and_decodes_with_its_value(
    tiny_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sequences: str
) -> None:
    schedule = replace(tiny_settings.joint.schedule, max_updates=4, interval=2)
    own = FutureStageSettings(sequences=sequences, samples=2, gammas=(5.0,), schedule=schedule)  # type: ignore[arg-type]
    settings = replace(tiny_settings, algorithm="future_success", future=own)
    whole = run(settings).folder
    again = replace(settings, output=str(tmp_path / "again"))
    with monkeypatch.context() as patch:
        die_before(patch, FutureStage, 3)
        with pytest.raises(Killed):
            run(again)
    same_run(whole, run(again, resume=Path(again.output)).folder)
    validations = [one for one in metrics_of(whole) if one["stage"] == "future" and one["kind"] == "dev"]
    actor = [one for one in metrics_of(whole) if one["stage"] == "actor" and one["kind"] == "dev"]
    assert all(one["dev_gamma"] in (0.0, 5.0) for one in validations)
    assert all(one["dev_bleu_gamma_0"] == max(row["dev_bleu"] for row in actor) for one in validations)
    found = load_run(whole)
    assert isinstance(found.models[0], LastScore)
    assert not isinstance(load_run(whole, "actor-best").models[0], LastScore)
    test = load_task(settings.data).test
    said = softbellman.load_run(whole).translate(test.source_texts)
    assert said == (whole / "hypotheses" / "test-future.txt").read_text().splitlines()
