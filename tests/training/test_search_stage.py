"""Beam search optimisation: its loss and gradient written out, its beam, its runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_updates import CPU, one_update, settings_of
from training.harness import Killed, die_before, same_run

import softbellman
from softbellman.data import BOS, EOS, Batch
from softbellman.decoding import LastScore, beam_search
from softbellman.objectives import margin_violation
from softbellman.reference import sentence_bleu
from softbellman.training import load_run, run
from softbellman.training.assembly import Assembly
from softbellman.training.settings import SearchStageSettings, Settings
from softbellman.training.stages import SearchStage
from softbellman.training.stages.search import beam_size
from softbellman.training.task import Task, load_task

DRY = {
    "algorithm": "bso",
    "actor.dropout": "0",
    "search.schedule.batch_size": "6",
    "search.optimizer.clip": ".inf",
}


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(settings_of({}).data)


def parts_of(task: Task, overrides: dict[str, str]) -> tuple[Assembly, SearchStage, Batch]:
    parts = Assembly(settings_of({**DRY, **overrides}), task, CPU)
    stage = parts.build("search")
    assert isinstance(stage, SearchStage)
    return parts, stage, next(parts.train_batches(stage.schedule, "search").epoch(0))


def test_the_loss_of_violations() -> None:
    gold, rival = torch.tensor([3.0, 0.0, 1.0]), torch.tensor([1.0, 0.5, 1.0])
    costs = torch.tensor([1.0, 0.5, 0.25])
    found = margin_violation(gold, rival, costs, sequences=2, margin=1.0)
    assert float(found.loss) == pytest.approx((0.5 * 1.5 + 0.25 * 1.0) / 2)
    assert int(found.diagnostics["violations"]) == 2
    assert float(found.diagnostics["violation_cost"]) == pytest.approx(0.75)
    leaves = gold.double().requires_grad_(), rival.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: margin_violation(a, b, costs, sequences=2).loss, leaves)
    assert float(margin_violation(rival + 5, rival, costs, sequences=2).loss) == 0.0


@pytest.mark.parametrize("cost", ["bleu", "constant"])
@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_the_update_written_out(task: Task, cost: str, kind: str) -> None:
    """Each violation by itself: two teacher-forced passes, and BLEU of what was said since the last fresh start."""
    overrides = {"search.cost": cost, "search.start_beam": "3"}
    if kind == "transformer":
        overrides |= {
            "model.kind": "transformer", "model.hidden": "12", "model.heads": "2", "model.feedforward": "16",
            "model.embedding": "256", "model.attention_size": "256", "model.init_range": "0.1",
        }  # fmt: skip
    _, sums, gradients = one_update(task, "search", {**DRY, **overrides})
    parts, stage, batch = parts_of(task, overrides)
    parts.actor.eval()
    violations = stage.search(batch, 0)
    total, count = torch.zeros(()), 0
    for row in range(len(batch)):
        for place in range(violations.prefixes.shape[1]):
            length, start = int(violations.lengths[row, place]), int(violations.starts[row, place])
            if not length:
                continue
            scores = []
            wanted = batch.labels[row, :length].tolist()
            said = violations.prefixes[row, place, :length].tolist()
            assert said[:start] == wanted[:start] and EOS not in said[:-1]
            for tokens in (wanted, said):
                logits = parts.actor(batch.source[row, None], torch.tensor([[BOS, *tokens[:-1]]]))
                scores.append(logits[0, -1, tokens[-1]])
            delta = 1.0
            if cost == "bleu":
                words = [
                    torch.tensor([[token for token in one[start:] if token != EOS]]) for one in (said, wanted)
                ]
                delta = 1.0 - float(sentence_bleu(*words)) if all(one.numel() for one in words) else 1.0
            gap = 1.0 - scores[0] + scores[1]
            assert float(gap.detach()) == pytest.approx(float(violations.gaps[row, place]), abs=1e-4)
            total, count = total + delta * gap, count + 1
    loss = total / len(batch)
    assert count > len(batch) and int(sums["violations"]) == count
    assert float(sums["margin_loss"]) == pytest.approx(float(total.detach()), rel=1e-4)
    names, parameters = zip(*parts.actor.named_parameters(), strict=True)
    wanted_ones = torch.autograd.grad(loss, parameters, allow_unused=True)
    for name, expected in zip(names, wanted_ones, strict=True):
        if expected is not None:
            scale = float(expected.abs().max())
            torch.testing.assert_close(gradients[f"actor.{name}"], expected, rtol=0, atol=1e-4 * scale + 1e-6)


def test_updates_on_one_batch_put_the_references_first(task: Task) -> None:
    """The loss falls to a part, and then the search by last scores says more of the references."""
    parts, stage, batch = parts_of(
        task, {"search.optimizer.learning_rate": "0.02", "search.cost": "constant"}
    )

    def said() -> int:
        found = beam_search(LastScore(parts.actor), batch.source, beam=2, max_length=batch.mask.sum(1))
        width = min(found.tokens.shape[1], batch.labels.shape[1])
        return int((found.tokens[:, :width] == batch.labels[:, :width])[batch.mask[:, :width]].sum())

    before = said()
    losses = [float(stage.update(batch, 0)["margin_loss"]) for _ in range(60)]
    assert losses[-1] < 0.3 * losses[0]
    assert said() > before


def test_a_batch_without_violations_moves_nothing(task: Task) -> None:
    parts, stage, batch = parts_of(task, {"search.margin": "1e-6"})
    with torch.no_grad():
        for parameter in parts.actor.parameters():
            parameter.zero_()
        parts.actor.output.bias[batch.labels[0, 0]] = 50.0
    one = batch.rows_between(0, 1)
    same = replace(one, target=torch.cat([one.target[:, :1], one.labels[:, :1].expand(-1, 2)], 1), rows=None)
    weights = [one.clone() for one in parts.actor.parameters()]
    sums = stage.update(same, 0)
    assert float(sums["margin_loss"]) == 0.0 and int(sums["violations"]) == 0
    assert float(sums["actor_gradient"]) == 0.0
    assert all(torch.equal(old, new) for old, new in zip(weights, parts.actor.parameters(), strict=True))


def test_the_beam_grows() -> None:
    settings = SearchStageSettings(start_beam=2, beam=4, beam_updates=10)
    assert [beam_size(step, settings) for step in (0, 9, 10, 25, 1000)] == [2, 2, 3, 4, 4]
    with pytest.raises(ValueError, match=r"search\.start_beam must be at most search\.beam, 3, got 4"):
        SearchStageSettings(start_beam=4, beam=3)


def test_a_length_penalty_is_refused(task: Task) -> None:
    with pytest.raises(ValueError, match=r"evaluation\.length_penalty is of log-probabilities, but bso"):
        parts_of(task, {"evaluation.length_penalty": "1"})


def test_a_run_that_died_goes_on_bit_for_bit_and_decodes_by_scores(
    tiny_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = replace(tiny_settings.joint.schedule, max_updates=4, interval=2)
    settings = replace(
        tiny_settings, algorithm="bso", search=SearchStageSettings(beam_updates=2, schedule=schedule)
    )
    whole = run(settings)
    again = replace(settings, output=str(tmp_path / "again"))
    with monkeypatch.context() as patch:
        die_before(patch, SearchStage, 3)
        with pytest.raises(Killed):
            run(again)
    same_run(whole.folder, run(again, resume=Path(again.output)).folder)
    actor = load_run(whole.folder)
    assert isinstance(actor.models[0], LastScore)
    assert not isinstance(load_run(whole.folder, "actor-best").models[0], LastScore)
    test = load_task(settings.data).test
    said = softbellman.load_run(whole.folder).translate(test.source_texts)
    lines = (whole.folder / "hypotheses" / "test-search.txt").read_text().splitlines()
    assert said == lines
    with pytest.raises(ValueError, match="an ensemble averages probabilities"):
        load_run(whole.folder, ensemble=[again.output])
