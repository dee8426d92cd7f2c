"""Professor forcing: its discriminator, when which network learns, its gradients written out, its runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_updates import CPU, one_update, say_more_after_the_end, settings_of
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from training.harness import Killed, die_before, same_run

from softbellman.data import Batch
from softbellman.training import run
from softbellman.training.assembly import Assembly
from softbellman.training.settings import ProfessorStageSettings, Settings
from softbellman.training.stages import ProfessorStage
from softbellman.training.stages.professor import Discriminator
from softbellman.training.task import Task, load_task

DRY = {
    "algorithm": "professor_forcing", "actor.dropout": "0", "professor.schedule.batch_size": "6", "professor.start": "actor",
    "professor.samples": "2", "professor.hidden": "7", "professor.optimizer.clip": ".inf",
    "professor.discriminator_optimizer.clip": ".inf",
}  # fmt: skip


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(settings_of({}).data)


def parts_of(task: Task, overrides: dict[str, str]) -> tuple[Assembly, ProfessorStage, Batch]:
    parts = Assembly(settings_of({**DRY, **overrides}), task, CPU)
    stage = parts.build("professor")
    assert isinstance(stage, ProfessorStage)
    return parts, stage, next(parts.train_batches(stage.schedule, "professor").epoch(0))


def test_the_discriminator_reads_no_state_behind_the_end() -> None:
    torch.manual_seed(1)
    judge, states = Discriminator(5, 4), torch.randn(3, 6, 5)
    lengths = torch.tensor([2, 6, 1])
    found = judge(states, lengths)
    spoilt = torch.where(torch.arange(6)[:, None] < lengths[:, None, None], states, 1e3)
    torch.testing.assert_close(judge(spoilt, lengths), found)
    alone = torch.cat(
        [judge(states[row, None, :length], lengths[row, None]) for row, length in enumerate(lengths.tolist())]
    )
    torch.testing.assert_close(alone, found)


@pytest.mark.parametrize("teacher", [True, False])
@pytest.mark.parametrize(
    ("accuracy", "discriminates", "adversarial"),
    [(0.5, True, False), (0.8, True, True), (0.995, False, True)],
)
def test_who_learns_and_from_what(
    task: Task, accuracy: float, discriminates: bool, adversarial: bool, teacher: bool
) -> None:
    """The losses written out, sequence by sequence, and the published thresholds of the accuracy."""
    parts, stage, batch = parts_of(
        task, {"professor.weight": "0.7", "professor.teacher": str(teacher).lower()}
    )
    stage.discriminator.accuracy.fill_(accuracy)
    actor, judge = parts.actor.eval(), stage.discriminator
    rollout = stage.drawing.draw(batch, 0)
    taught, free = [], []
    for row in range(6):
        length = int(batch.mask[row].sum())
        states = actor.features(batch.source[row, None], batch.prefix[row, None, :length])
        taught.append(judge(states, torch.tensor([length])))
    for row in range(12):
        length = int(rollout.mask[row].sum())
        states = actor.features(batch.source[row // 2, None], rollout.prefix[row, None, :length])
        free.append(judge(states, torch.tensor([length])))
    of_taught, of_free = torch.cat(taught), torch.cat(free)
    logits = actor(batch.source, batch.prefix).log_softmax(-1)
    nll = -logits.gather(-1, batch.labels[..., None]).squeeze(-1)[batch.mask].sum() / 6
    fooled = bce(of_free, torch.ones(12))
    generator = nll + (0.7 * fooled if adversarial else 0.0)
    if adversarial and teacher:
        generator = generator + 0.7 * bce(of_taught, torch.zeros(6))
    names = [name for name, _ in actor.named_parameters()]
    of_actor = torch.autograd.grad(generator, list(actor.parameters()), retain_graph=True, allow_unused=True)
    own = bce(of_taught, torch.ones(6)) + bce(of_free, torch.zeros(12))
    of_judge = torch.autograd.grad(own, list(judge.parameters()))
    right = ((of_taught > 0).float().mean() + (of_free <= 0).float().mean()) / 2
    torch.manual_seed(3)
    sums = stage.update(batch, 0)
    assert ("discriminator_gradient" in sums) == discriminates
    assert float(sums["adversarial_share"]) == 12.0 * adversarial
    assert float(sums["discriminator_accuracy"]) == pytest.approx(12 * float(right))
    assert float(judge.accuracy) == pytest.approx(float(right)) and not judge.tally.any()
    assert float(sums["adversarial_loss"]) == pytest.approx(12 * float(fooled.detach()), rel=1e-4)
    for name, expected in zip(names, of_actor, strict=True):
        if expected is not None:
            found = dict(actor.named_parameters())[name].grad
            scale = float(expected.abs().max())
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * scale + 1e-6)
    for parameter, expected in zip(judge.parameters(), of_judge, strict=True):
        assert parameter.requires_grad
        if discriminates:
            scale = float(expected.abs().max())
            torch.testing.assert_close(parameter.grad, expected, rtol=0, atol=1e-4 * scale + 1e-6)
        else:
            assert parameter.grad is None


def test_a_discriminator_learns_to_tell(task: Task) -> None:
    _, stage, batch = parts_of(
        task,
        {
            "professor.optimizer.learning_rate": "1e-12",
            "professor.discriminator_optimizer.learning_rate": "0.02",
        },
    )
    accuracies = []
    for _ in range(60):
        stage.update(batch, 0)
        accuracies.append(float(stage.discriminator.accuracy))
    assert max(accuracies[-5:]) > 0.9 > accuracies[0]


def test_other_decoders_are_refused_by_name(task: Task) -> None:
    transformer = {
        "model.kind": "transformer", "model.hidden": "12", "model.heads": "2", "model.feedforward": "16",
        "model.embedding": "256", "model.attention_size": "256", "model.init_range": "0.1",
    }  # fmt: skip
    with pytest.raises(
        ValueError,
        match=r"the states of a recurrent decoder, but model\.kind is transformer",
    ):
        parts_of(task, transformer)


def test_new_weights_or_the_actor_s(task: Task) -> None:
    for start, same in (("actor", True), ("scratch", False)):
        parts = Assembly(settings_of({**DRY, "professor.start": start}), task, CPU)
        before = parts.actor.output.weight.clone()
        stage = parts.build("professor")
        assert torch.equal(parts.actor.output.weight, before) == same == stage.start_is_candidate


def test_what_follows_the_end_token_changes_nothing(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = one_update(task, "professor", DRY)
    say_more_after_the_end(monkeypatch)
    found = one_update(task, "professor", DRY)
    for name, gradient in wanted[2].items():
        torch.testing.assert_close(found[2][name], gradient, rtol=1e-5, atol=1e-7)


def test_a_run_that_died_goes_on_bit_for_bit(
    tiny_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = replace(tiny_settings.joint.schedule, max_updates=4, interval=2)
    own = ProfessorStageSettings(hidden=8, generator_above=0.1, schedule=schedule)
    settings = replace(tiny_settings, algorithm="professor_forcing", professor=own)
    whole = run(settings).folder
    again = replace(settings, output=str(tmp_path / "again"))
    with monkeypatch.context() as patch:
        die_before(patch, ProfessorStage, 3)
        with pytest.raises(Killed):
            run(again)
    same_run(whole, run(again, resume=Path(again.output)).folder)
