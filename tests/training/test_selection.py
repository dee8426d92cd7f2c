"""Which metric of the validation set selects: what is computed, kept, logged and tested follows `evaluation.select_by`."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from harness import metrics_of, same_run
from safetensors.torch import load_file

from softbellman import config
from softbellman.decoding import beam_search
from softbellman.experiments.collect import deciding_settings
from softbellman.payoffs import bleu_rewards
from softbellman.training import load_run, run
from softbellman.training.assembly import Assembly
from softbellman.training.cache import deciding_facts
from softbellman.training.settings import DataSettings, EvaluationSettings, PayoffSettings, Settings
from softbellman.training.stages import selection_score
from softbellman.training.stages.future import judge_weights
from softbellman.training.task import load_task

CPU = torch.device("cpu")


def by(settings: Settings, metric: str, *metrics: str) -> Settings:
    evaluation = replace(settings.evaluation, select_by=metric, metrics=metrics)  # type: ignore[arg-type]
    return replace(settings, evaluation=evaluation)


def short(settings: Settings, epochs: int = 4) -> Settings:
    """Maximum likelihood alone."""
    schedule = replace(settings.actor.schedule, epochs=epochs)
    return replace(settings, algorithm="mle", actor=replace(settings.actor, schedule=schedule))


def test_what_is_measured_and_what_selects() -> None:
    default = EvaluationSettings()
    assert default.measured == () and default.selection("dev_bleu") == "dev_bleu"
    chosen = EvaluationSettings(metrics=("cider", "ter"), select_by="ter")
    assert chosen.measured == ("cider", "ter")
    assert chosen.selection("dev_bleu") == "-dev_ter" and chosen.selection("oracle_bleu") == "-oracle_ter"
    assert chosen.selection("-dev_td_error") == "-dev_td_error"  # a critic is judged as ever
    asked = EvaluationSettings(metrics=("ter",), select_by="mean_payoff")
    assert asked.measured == ("ter", "mean_payoff") and asked.of_texts == ("ter",)


def test_a_score_that_was_not_measured_is_named() -> None:
    assert selection_score({"dev_ter": 40.0}, "-dev_ter") == -40.0
    with pytest.raises(ValueError, match="dev_cider selects, but the stage's validation did not measure it"):
        selection_score({"dev_bleu": 1.0, "dev_ter": 2.0}, "dev_cider")


SCORES = {"bleu": (50.0, 60.0, 55.0, 60.0), "cider": (9.0, 8.0, 10.0, 10.0), "ter": (90.0, 80.0, 70.0, 60.0)}
"""Of four validations: BLEU is best at the second, CIDEr-D at the third, TER at the last."""


@pytest.mark.parametrize(
    ("metric", "at", "rates"),
    [("bleu", 1, (1, 1, 1, 0.5)), ("cider", 2, (1, 1, 0.5, 0.5)), ("ter", 3, (1, 1, 1, 1))],
)
def test_weights_and_learning_rates_follow_the_metric(
    tiny_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    metric: str,
    at: int,
    rates: tuple[float, ...],
) -> None:
    given = iter(zip(*SCORES.values(), strict=True))
    names = [f"dev_{name}" for name in SCORES]
    monkeypatch.setattr(Assembly, "judge_actor", lambda self: dict(zip(names, next(given), strict=True)))
    result = run(by(short(tiny_settings), metric, "cider", "ter"))
    newest = json.loads(max(result.folder.glob("checkpoints/actor-0*.json")).read_text())
    assert newest["best_step"] == 10 * (at + 1)
    assert newest["score"] == (-1.0 if metric == "ter" else 1.0) * SCORES[metric][at]
    records = metrics_of(result.folder)
    found = [record["actor_learning_rate"] for record in records if record["kind"] == "train"]
    assert found == pytest.approx([5e-3 * rate for rate in rates])
    (row,) = result.rows
    assert row.dev_bleu == SCORES["bleu"][at]
    assert row.dev_others == ({} if metric == "bleu" else {metric: SCORES[metric][at]})
    (logged,) = (record for record in records if record["kind"] == "test")
    assert logged["dev_bleu"] == row.dev_bleu and logged[f"dev_{metric}"] == SCORES[metric][at]


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        ({"dev_bleu": math.nan}, "dev_bleu selects and must be a number, but the validation gave nan"),
        ({"dev_bleu": 1.0, "dev_odd": "much"}, "its validation must give numbers, got str as dev_odd"),
        ({"dev_bleu": torch.ones(2)}, "its validation must give numbers, got Tensor as dev_bleu"),
    ],
)
def test_a_validation_without_numbers_is_one_sentence(
    tiny_settings: Settings, monkeypatch: pytest.MonkeyPatch, measured: dict[str, object], words: str
) -> None:
    monkeypatch.setattr(Assembly, "judge_actor", lambda self: measured)
    with pytest.raises(ValueError, match=f"^stage actor: {words}$"):
        run(short(tiny_settings, epochs=1))


def test_a_metric_may_be_a_tensor(tiny_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Assembly, "judge_actor", lambda self: {"dev_bleu": torch.tensor(3.5), "dev_odd": math.nan}
    )
    folder = run(short(tiny_settings, epochs=1)).folder
    assert [record["dev_bleu"] for record in metrics_of(folder) if record["kind"] == "dev"] == [3.5]


@pytest.mark.parametrize("metric", ["cider", "rouge_l", "chrf", "ter", "mean_payoff"])
def test_a_real_run_keeps_the_weights_of_its_best_validation(tiny_settings: Settings, metric: str) -> None:
    """None of them is among `evaluation.metrics`; the one that selects is measured all the same."""
    settings = by(replace(tiny_settings, algorithm="vaml"), metric)
    folder = run(settings).folder
    sign = -1.0 if metric == "ter" else 1.0
    for stage, of in (("actor", "dev"), ("oracle", "oracle"), ("augmented", "dev")):
        found = {
            record["step"]: sign * float(record[f"{of}_{metric}"])  # type: ignore[arg-type]
            for record in metrics_of(folder)
            if record["kind"] == "dev" and record["stage"] == stage
        }
        newest = json.loads(max(folder.glob(f"checkpoints/{stage}-0*.json")).read_text())
        assert newest["score"] == max(found.values()) == found[newest["best_step"]], stage
    tested = [record for record in metrics_of(folder) if record["kind"] == "test"]
    assert all(
        {f"test_{metric}", f"dev_{metric}", "dev_bleu", "test_bleu"} <= record.keys() for record in tested
    )


def test_a_run_that_died_goes_on_bit_for_bit(tiny_settings: Settings, tmp_path: Path) -> None:
    """What was measured when the weights were selected is known after a new start, too."""
    settings = by(short(tiny_settings, epochs=2), "ter")
    whole = run(settings).folder
    begun = run(replace(short(settings, epochs=1), output=str(tmp_path / "begun"))).folder
    (begun / "metrics.jsonl").write_text(
        "".join(
            line
            for line in (begun / "metrics.jsonl").read_text().splitlines(keepends=True)
            if json.loads(line)["kind"] not in ("test", "health")
        )
    )
    longer = config.load(Settings, begun / "config.yaml")
    longer = replace(longer, actor=settings.actor)
    result = run(longer, resume=begun)
    same_run(whole, begun)
    assert result.rows[0].dev_others.keys() == {"ter"}


def test_the_metric_is_part_of_what_decides(tiny_settings: Settings) -> None:
    """Runs of two metrics share no stage."""
    facts = [deciding_facts(by(tiny_settings, metric), "actor") for metric in ("bleu", "ter", "bleu")]
    assert facts[0] == facts[2] != facts[1]


def test_a_payoff_that_selects_decides_maximum_likelihood_too(tiny_settings: Settings) -> None:
    others = [replace(tiny_settings, payoff=PayoffSettings(metric=metric)) for metric in ("bleu", "rouge_l")]
    by_bleu, by_payoff = (
        [deciding_facts(by(settings, metric), "actor") for settings in others]
        for metric in ("bleu", "mean_payoff")
    )
    assert by_bleu[0] == by_bleu[1] and by_payoff[0] != by_payoff[1]
    rows = [deciding_settings(by(settings, "mean_payoff"), "actor") for settings in others]
    assert rows[0] != rows[1]


def test_a_run_is_not_continued_with_another_metric(tiny_settings: Settings) -> None:
    settings = short(tiny_settings, epochs=1)
    folder = run(settings).folder
    with pytest.raises(ValueError, match=r"evaluation\.select_by is 'bleu', given 'ter'"):
        run(by(settings, "ter"), resume=folder)


def test_the_weight_of_the_future_is_chosen_by_it() -> None:
    class Value:
        gamma = torch.zeros(())

    scores = {0.0: (20.0, 70.0), 0.5: (23.0, 80.0), 1.0: (11.0, 60.0)}

    def judge() -> dict[str, float]:
        bleu, ter = scores[float(Value.gamma)]
        return {"dev_bleu": bleu, "dev_ter": ter}

    for metric, best in (("dev_bleu", 0.5), ("-dev_ter", 1.0)):
        found = judge_weights(Value(), (0.5, 1.0), judge, by=metric)  # type: ignore[arg-type]
        assert found["dev_gamma"] == best == float(Value.gamma)
        assert found[f"{metric.lstrip('-')}_gamma_0"] == scores[0.0][metric != "dev_bleu"]


def test_truth_selects_scenes_alone() -> None:
    with pytest.raises(ValueError, match=r"evaluation\.select_by is truth, which is of captions of scenes"):
        Settings(evaluation=EvaluationSettings(select_by="truth"))
    scenes = DataSettings(kind="scenes")
    assert Settings(data=scenes, evaluation=EvaluationSettings(select_by="truth")).evaluation.measured == (
        "truth",
    )


# The mean payoff ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("references", ["one", "all"])
def test_the_mean_payoff_is_what_the_hypotheses_earn(tiny_settings: Settings, references: str) -> None:
    """Against the payoff of each sentence on its own, without the reference's length."""
    payoff = PayoffSettings(references=references, scale="reference_length")  # type: ignore[arg-type]
    settings = by(replace(short(tiny_settings), payoff=payoff), "mean_payoff")
    trained = load_run(run(settings).folder)
    task = load_task(settings.data)
    parts = Assembly(settings, task, CPU)
    parts.actor.load_state_dict(trained.model.state_dict())
    metrics = parts.judge_actor()
    parts.actor.eval()
    earned = []
    for batch in parts.dev_batches.epoch(0):
        for row in range(len(batch)):
            found = beam_search(parts.actor, batch.source[row : row + 1], beam=2, max_length=24)
            count = 1 if references == "one" else int((batch.reference_lengths[row] > 0).sum())
            rewards = bleu_rewards(
                found.tokens[None, :, : int(found.lengths)],
                batch.references[row : row + 1, :count],
                eos_id=task.special.eos,
                reference_lengths=batch.reference_lengths[row : row + 1, :count],
                smoothing=payoff.smoothing,
                unmatched_id=task.special.unknown,
                scale="none",
                dtype=torch.float64,
            )
            earned.append(float(rewards.sum()))
    assert len(earned) == len(task.dev) and max(earned) > 0
    assert metrics["dev_mean_payoff"] == pytest.approx(100 * sum(earned) / len(earned), abs=1e-9)


def test_a_payoff_of_ones_own_selects(tiny_settings: Settings, tmp_path: Path) -> None:
    """A payoff that pays for few words: the weights that say least are kept, whatever BLEU says."""
    code = tmp_path / "short.py"
    code.write_text(
        "def brief(hypotheses, references):\n    return [1.0 / (1.0 + len(h.split())) for h in hypotheses]\n"
    )
    payoff = PayoffSettings(metric=f"{code}:brief")
    folder = run(by(replace(short(tiny_settings), payoff=payoff), "mean_payoff")).folder
    validations = {
        record["step"]: (float(record["dev_mean_payoff"]), -float(record["dev_length_ratio"]))  # type: ignore[arg-type]
        for record in metrics_of(folder)
        if record["kind"] == "dev"
    }
    newest = json.loads(max(folder.glob("checkpoints/actor-0*.json")).read_text())
    best = newest["best_step"]
    assert validations[best][0] == max(payoffs for payoffs, _ in validations.values())
    lines = (folder / "hypotheses" / "test-actor.txt").read_text().splitlines()
    (tested,) = (record for record in metrics_of(folder) if record["kind"] == "test")
    expected = sum(1.0 / (1.0 + len(line.split())) for line in lines) / len(lines)
    assert tested["test_mean_payoff"] == pytest.approx(100 * expected, rel=1e-12)
    assert load_file(folder / "checkpoints" / "actor-best.safetensors")
