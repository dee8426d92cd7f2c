"""The stage of path consistency: its update written out, its networks, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_updates import CPU, one_update, say_more_after_the_end, settings_of
from torch import Tensor
from training.harness import Killed, die_before, same_run

from softbellman import reference
from softbellman.data import UNK, Batch
from softbellman.training import run
from softbellman.training.algorithms import ALGORITHMS
from softbellman.training.assembly import Assembly
from softbellman.training.settings import ConsistencyStageSettings, Settings
from softbellman.training.stages import ConsistencyStage
from softbellman.training.task import Task, load_task

DRY = {
    "algorithm": "pcl",
    "actor.dropout": "0",
    "critic.dropout": "0",
    "consistency.samples": "3",
    "consistency.schedule.batch_size": "4",
}


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(settings_of({}).data)


def parts_of(task: Task, overrides: dict[str, str]) -> tuple[Assembly, ConsistencyStage, Batch]:
    parts = Assembly(settings_of({**DRY, **overrides}), task, CPU)
    stage = parts.build("consistency")
    assert isinstance(stage, ConsistencyStage)
    return parts, stage, next(parts.train_batches(stage.schedule, "consistency").epoch(0))


def sequences(parts: Assembly, stage: ConsistencyStage, batch: Batch) -> list[tuple[int, list[int]]]:
    """The source and the tokens of every path: three drawn ones, then the reference."""
    drawn = stage.drawing.draw(batch, 0)
    found = []
    for source in range(4):
        for row in range(3 * source, 3 * source + 3):
            found.append((source, drawn.actions[row, : int(drawn.mask[row].sum())].tolist()))
        if stage._settings.with_reference:
            found.append((source, batch.labels[source, : int(batch.mask[source].sum())].tolist()))
    return found


def written_out(parts: Assembly, stage: ConsistencyStage, batch: Batch, steps: int, prior: bool) -> Tensor:
    """Half the squared residuals of each sequence by itself, mean over sequences."""
    total, paths, tau = torch.zeros((), dtype=torch.float64), sequences(parts, stage, batch), 0.3
    parts.actor.eval()
    for source, tokens in paths:
        actions, prefix = torch.tensor([tokens]), torch.tensor([[2, *tokens[:-1]]])
        rewards = parts.payoff.rewards(
            actions[None], batch.references[source, None],
            hypothesis_lengths=torch.tensor([[len(tokens)]]),
            reference_lengths=batch.reference_lengths[source, None],
        )[0].double()  # fmt: skip
        logits = parts.actor(batch.source[source, None], prefix).double()
        logits = logits.masked_fill(parts.forbidden, -torch.inf)
        if stage.value is None:
            values = tau * torch.logsumexp(logits, -1)
        else:
            place = batch.labels[source, None], prefix, torch.arange(len(tokens))
            values = stage.value(*place)[None].double()
        start = None
        if prior:
            start = stage.modules["prior"](batch.source[source, None], prefix).double()
            start = start.masked_fill(parts.forbidden, -torch.inf)
        residual = reference.path_consistency(logits, start, values, actions, rewards, tau=tau, steps=steps)
        total = total + 0.5 * residual.square().sum()
    return total / len(paths)


@pytest.mark.parametrize("value", ["separate", "unified"])
@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("with_reference", [True, False])
@pytest.mark.parametrize("prior", ["none", "start"])
def test_the_update_written_out(task: Task, value: str, steps: int, with_reference: bool, prior: str) -> None:
    overrides = {
        "consistency.value": value, "consistency.steps": str(steps), "credit.prior": prior,
        "consistency.with_reference": str(with_reference).lower(),
        "consistency.actor_optimizer.clip": ".inf", "consistency.value_optimizer.clip": ".inf",
    }  # fmt: skip
    _, sums, gradients = one_update(task, "consistency", {**DRY, **overrides})
    parts, stage, batch = parts_of(task, overrides)
    loss = written_out(parts, stage, batch, steps, prior == "start")
    assert float(sums["path_squared"]) == pytest.approx(
        2 * float(loss.detach()) * len(sequences(parts, stage, batch)), rel=1e-4
    )
    trained = {"actor": stage.modules["actor"]} | ({} if stage.value is None else {"value": stage.value})
    names = [
        (f"{key}.{name}", one) for key, module in trained.items() for name, one in module.named_parameters()
    ]
    found = torch.autograd.grad(loss, [one for _, one in names if one.requires_grad], allow_unused=True)
    wanted = dict(zip([name for name, one in names if one.requires_grad], found, strict=True))
    wanted = {name: one for name, one in wanted.items() if one is not None}
    assert gradients.keys() == wanted.keys()
    for name, expected in wanted.items():
        scale = float(expected.abs().max())
        torch.testing.assert_close(
            gradients[name].double(), expected.double(), rtol=0, atol=1e-4 * scale + 1e-7
        )
    assert set(stage.optimizers) == set(trained)


def test_what_follows_the_end_token_changes_nothing(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = one_update(task, "consistency", DRY)
    say_more_after_the_end(monkeypatch)
    found = one_update(task, "consistency", DRY)
    assert found[1].keys() == wanted[1].keys()
    for name, gradient in wanted[2].items():
        assert torch.equal(found[2][name], gradient), name


def test_a_reference_with_an_unknown_word_has_no_infinite_residual(task: Task) -> None:
    _, stage, batch = parts_of(task, {"consistency.steps": "1"})
    target = batch.target.clone()
    target[0, 2] = UNK
    sums = stage.update(replace(batch, target=target), 0)
    assert all(float(value) == float(value) and abs(float(value)) < 1e6 for value in sums.values())
    assert int(sums["paths"]) == int(sums["tokens"]) - 1


def test_a_sample_that_the_limit_cuts_earns_what_was_said(task: Task) -> None:
    _, stage, batch = parts_of(task, {"consistency.extra_length": "0", "data.max_length": "20"})
    stage.drawing.longest = 3
    drawn = stage.drawing.draw(batch, 0)
    cut = (drawn.mask.sum(1) == 3) & (drawn.actions[:, 2] != batch.special.eos)
    assert cut.any()
    said = stage.drawing.payoff.rewards(
        drawn.actions.view(4, 3, 3), batch.references, hypothesis_lengths=drawn.mask.sum(1).view(4, 3),
        reference_lengths=batch.reference_lengths,
    )  # fmt: skip
    assert float(stage.update(batch, 0)["payoff"]) == pytest.approx(float(said.sum()))


def test_the_actor_waits(task: Task) -> None:
    parts, stage, batch = parts_of(task, {"consistency.actor_delay": "1"})
    before = [one.clone() for one in parts.actor.parameters()]
    assert "actor_gradient" not in stage.update(batch, 0)
    assert all(torch.equal(old, new) for old, new in zip(before, parts.actor.parameters(), strict=True))
    assert float(stage.update(batch, 1)["actor_gradient"]) > 0
    assert not all(torch.equal(old, new) for old, new in zip(before, parts.actor.parameters(), strict=True))


def test_residuals_fall_on_the_same_paths(task: Task) -> None:
    for value in ("separate", "unified"):
        rate = {f"consistency.{name}_optimizer.learning_rate": "0.02" for name in ("actor", "value")}
        rate["credit.tau"] = "0.05"
        _, stage, batch = parts_of(task, {"consistency.value": value, **rate})
        errors = []
        for _ in range(30):
            sums = stage.update(batch, 0)
            errors.append(float(sums["path_error"] / sums["paths"]))
        assert errors[-1] < 0.5 * errors[0]


def test_what_is_refused(task: Task) -> None:
    with pytest.raises(ValueError, match=r"credit\.tau is 0, but path consistency"):
        Assembly(settings_of({**DRY, "credit.tau": "0"}), task, CPU)
    with pytest.raises(ValueError, match=r"consistency\.actor_delay is of value separate alone, got 3"):
        ConsistencyStageSettings(value="unified", actor_delay=3)


def test_unified_has_no_reader(task: Task) -> None:
    parts = Assembly(
        settings_of({**DRY, "consistency.value": "unified", "warmup.schedule.epochs": "0"}), task, CPU
    )
    assert not list(parts.reader.parameters())
    settled = ALGORITHMS["pcl"].settle(settings_of({"consistency.value": "unified"}))
    assert settled.warmup.schedule.epochs == 0
    assert ALGORITHMS["pcl"].settle(settings_of({})).warmup.schedule.epochs == 1


@pytest.mark.parametrize("value", ["separate", "unified"])
def test_a_run_that_died_goes_on_bit_for_bit(
    tiny_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    schedule = replace(tiny_settings.joint.schedule, max_updates=4, interval=2)
    own = ConsistencyStageSettings(value=value, samples=2, schedule=schedule)  # type: ignore[arg-type]
    settings = replace(
        tiny_settings, algorithm="pcl", consistency=own,
        credit=replace(tiny_settings.credit, prior="start" if value == "separate" else "none"),
    )  # fmt: skip
    whole = run(settings).folder
    again = replace(settings, output=str(tmp_path / "again"))
    with monkeypatch.context() as patch:
        die_before(patch, ConsistencyStage, 3)
        with pytest.raises(Killed):
            run(again)
    same_run(whole, run(again, resume=Path(again.output)).folder)
