"""Sick runs are named for what they have, healthy ones are called normal; documentation and units stand behind it."""

from __future__ import annotations

import json
import math
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_updates import CPU, settings_of
from training.harness import metrics_of

from softbellman.training import Observer, run
from softbellman.training.assembly import Assembly
from softbellman.training.diagnosis import diagnose, diagnose_run, observe
from softbellman.training.rules import MEASURES, RULES
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import OptimizerSettings, Settings
from softbellman.training.task import load_task

PAGE = Path(__file__).resolve().parents[2] / "docs" / "algorithms.md"

HEALTHY = {
    "dev_bleu": [30.0, 30.8, 31.2],
    "dev_length_ratio": [0.97, 0.98, 0.98],
    "dev_sample_length_ratio": [0.98, 0.99, 0.99],
    "dev_unended": [0.02, 0.02, 0.01],
    "dev_td_error": [0.21, 0.20, 0.19],
    "dev_td_error_q1": [0.25, 0.24, 0.24],
    "dev_td_error_q4": [0.15, 0.14, 0.13],
    "dev_entropy": [2.0, 1.9, 1.8],
    "rank_correlation": [0.42, 0.43, 0.41],
    "ranked_states": [180.0, 180.0, 180.0],
    "choice_gain": [0.12, 0.08, 0.05],
    "choice_gain_error": [0.03, 0.03, 0.03],
    "gradient_value": [0.04, 0.04, 0.04],
    "gradient_entropy": [0.01, 0.01, 0.01],
    "gradient_likelihood": [0.05, 0.05, 0.05],
}


def planted(stage: str = "joint", start: int = 0, **changes: list[Any]) -> list[dict[str, Any]]:
    """The records of a stage of three validations, healthy but for the changes."""
    columns = {**HEALTHY, **changes}
    records: list[dict[str, Any]] = []
    for number in range(3):
        step = start + 100 * number
        if step:
            train = {name: values[number] for name, values in columns.items() if not name.startswith("dev")}
            records.append({"kind": "train", "stage": stage, "step": step, **train})
        dev = {name: values[number] for name, values in columns.items()}
        records.append({"kind": "dev", "stage": stage, "step": step, **dev})
    return records


def names(records: list[dict[str, Any]], stage: str = "joint") -> list[str]:
    diagnosis = diagnose(records, stage)
    assert diagnosis is not None
    return [finding.rule for finding in diagnosis.findings]


def test_a_healthy_run_is_normal() -> None:
    diagnosis = diagnose(planted(), "joint", selected=200)
    assert diagnosis is not None and diagnosis.verdict == "normal" and diagnosis.findings == ()
    assert diagnosis.sentence() == (
        "normal: BLEU 31.20, rank correlation 0.41 (10 standard errors above chance), entropy 1.80 nats (0.90 of the start), "
        "length ratio 0.98"
    )
    assert names(planted("critic", 100), "critic") == []


SICK: dict[str, tuple[str, dict[str, list[Any]], str]] = {
    "entropy runaway": ("joint", {"dev_entropy": [2.8, 3.6, 4.5]}, "lower credit.tau"),
    "entropy collapse": ("joint", {"dev_entropy": [2.0, 1.0, 0.3]}, "raise credit.tau"),
    "random order": ("critic", {"rank_correlation": [0.05, -0.02, 0.03], "dev_td_error": [0.2, 0.2, 0.19]}, "warmup"),
    "falling error, random order": (
        "critic",
        {"rank_correlation": [0.05, -0.02, 0.03], "dev_td_error": [0.4, 0.3, 0.2]},
        "do not trust the TD error",
    ),
    "harmful choice": ("critic", {"choice_gain": [-0.1, -0.1, -0.1]}, "joint.actor_delay"),
    "length drift": ("joint", {"dev_length_ratio": [0.98, 1.04, 1.12]}, "joint.mle_weight"),
    "shrinking length": ("joint", {"dev_length_ratio": [0.98, 0.93, 0.86]}, "the payoff rewards short sentences"),
    "few words": ("actor", {"dev_length_ratio": [0.0, 0.1, 0.3]}, "train longer"),
    "endless samples": ("joint", {"dev_unended": [0.02, 0.1, 0.3]}, "the value of tokens at an end"),
    "falling score": ("joint", {"dev_bleu": [30.0, 29.0, 27.0]}, "actor's learning rate"),
    "strong entropy": ("critic", {"gradient_entropy": [0.1, 0.1, 0.1]}, "lower credit.tau"),
    "values unheard": (
        "joint",
        {"gradient_value": [0.002] * 3, "gradient_entropy": [0.001] * 3},
        "lower joint.mle_weight",
    ),
    "payoff unheard": ("sequence", {"gradient_payoff": [0.001] * 3}, "lower sequence.mle_weight"),
    "falling oracle": ("oracle", {"oracle_bleu": [60.0, 62.0, 50.0], "dev_td_error": [0.4, 0.3, 0.2]}, "learning_rate"),
    "one sequence has all the weight": ("augmented", {"effective_samples": [1.02, 1.01, 1.0]}, "augmented.tau"),
    "skipped updates": ("joint", {"skipped_updates": [0.0, 0.0, 7.0]}, "lower the learning rate"),
}  # fmt: skip


@pytest.mark.parametrize("name", [rule.name for rule in RULES])
def test_a_sick_run_is_named(name: str) -> None:
    stage, changes, remedy = SICK[name]
    records = planted(stage, 0 if stage == "joint" else 100, **changes)
    diagnosis = diagnose(records, stage)
    assert diagnosis is not None and diagnosis.verdict == "broken"
    found = [finding.rule for finding in diagnosis.findings]
    assert found == [name]
    assert diagnosis.sentence().startswith("broken: ") and remedy in diagnosis.sentence()


def test_an_actor_that_follows_the_returns_hears_the_payoff() -> None:
    """`joint.return_weight`: the values alone have a fiftieth of the gradient."""
    changes = {"gradient_value": [0.002] * 3, "gradient_entropy": [0.001] * 3}
    assert names(planted(**changes)) == ["values unheard"]
    assert names(planted(**changes, gradient_returns=[0.05] * 3)) == []


@pytest.mark.parametrize(
    "stage", ["search", "sequence", "consistency", "professor", "completion", "augmented"]
)
@pytest.mark.parametrize(
    "changes",
    [{"dev_length_ratio": [0.98, 1.04, 1.12]}, {"dev_bleu": [30.0, 29.0, 27.0]}],
    ids=["length", "score"],
)
def test_a_stage_without_a_critic_is_not_told_to_train_one(stage: str, changes: dict[str, list[Any]]) -> None:
    diagnosis = diagnose(planted(stage, 0, **changes), stage)
    assert diagnosis is not None and diagnosis.verdict == "broken"
    sentence = diagnosis.sentence()
    assert f"the {stage} stage" in sentence
    assert "critic" not in sentence and "joint." not in sentence


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_threshold_is_where_the_table_says(rule: Any) -> None:
    """Just inside it holds, just outside, or without the measure, it does not."""
    inside = {
        condition.measure: condition.threshold + (1e-6 if condition.side == "above" else -1e-6)
        for condition in rule.conditions
    }
    assert rule.holds(inside)
    for condition in rule.conditions:
        assert not rule.holds({**inside, condition.measure: condition.threshold})
        assert not rule.holds({key: value for key, value in inside.items() if key != condition.measure})
    fields = {field for _, field, _, _ in string.Formatter().parse(rule.finding) if field}
    assert (
        fields <= MEASURES.keys() and {condition.measure for condition in rule.conditions} <= MEASURES.keys()
    )
    assert rule.reason and rule.change


def test_every_rule_is_in_the_documentation_with_its_thresholds() -> None:
    text = PAGE.read_text()
    for rule in RULES:
        row = next((line for line in text.splitlines() if line.startswith(f"| {rule.name} |")), "")
        for condition in rule.conditions:
            said = f"`{condition.measure}` {condition.side} {condition.threshold:g}"
            assert said in row, (rule.name, said, row)
    for name in MEASURES:
        assert f"`{name}`" in text, name


def test_the_cause_makes_the_sentence_and_what_comes_of_it_is_named() -> None:
    fallen = planted(
        dev_entropy=[0.7, 1.2, 3.7], dev_unended=[0.02, 0.1, 0.9], dev_length_ratio=[1.0, 1.2, 1.7], dev_bleu=[74.0, 46.0, 32.0]
    )  # fmt: skip
    diagnosis = diagnose(fallen, "joint", selected=0)
    assert diagnosis is not None
    assert diagnosis.sentence() == (
        "broken: the entropy ran away to 3.70 nats, 5.29 times the start (and endless samples, length drift, falling score); "
        "lower credit.tau or the actor's learning rate, or raise joint.mle_weight; "
        "the selected weights, of update 0, are from before"
    )


def test_since_when_and_whether_the_selected_weights_are_spared() -> None:
    records = planted(dev_entropy=[2.0, 3.2, 3.4])
    early, late = (diagnose(records, "joint", selected=step) for step in (0, 100))
    assert early is not None and late is not None
    assert early.findings[0].since == 100
    assert early.sentence().endswith("; the selected weights, of update 0, are from before")
    assert "selected" not in late.sentence()
    assert names(planted(dev_entropy=[2.0, 4.0, 2.2])) == []  # it came back


def test_a_stage_that_does_not_validate_its_start_is_compared_with_the_stages_before() -> None:
    before = {"kind": "dev", "stage": "critic", "step": 50, "dev_entropy": 1.0, "dev_unended": 0.0}
    records = [before, *planted(start=100, dev_unended=[0.2, 0.2, 0.2])]
    seen = observe(records, "joint")
    assert seen["entropy_ratio"] == pytest.approx(1.8)
    assert seen["unended_rise"] == 0.0  # a critic's samples have another limit
    assert observe([before, *planted()], "joint")["entropy_ratio"] == pytest.approx(0.9)


def test_numbers_that_are_not_there_decide_nothing() -> None:
    records = [{"kind": "dev", "stage": "critic", "step": 5, "dev_td_error": 0.2, "rank_correlation": None}]
    assert (
        names(records, "critic") == [] and diagnose(records, "joint") is None and observe([], "joint") == {}
    )
    old = [
        {**record, "rank_correlation": 0.02} for record in records
    ]  # of a version that logged no number of states
    assert names(old, "critic") == ["random order"]
    seen = observe(old, "critic")
    assert seen["rank_errors"] == pytest.approx(0.02 * math.sqrt(3 * 200))
    assert all(math.isfinite(value) for value in seen.values())


def test_a_random_order_is_called_random_as_often_as_stated() -> None:
    """The correlation of a random order of 4 tokens over n states has the standard error 1 / sqrt(3 n), also with ties."""
    from softbellman.training.health import _mean_spearman

    generator = torch.Generator().manual_seed(1)
    wrong = 0
    for _ in range(400):
        reached = torch.randint(0, 4, (180, 4), generator=generator).double()
        predicted = torch.rand(180, 4, generator=generator, dtype=torch.float64)
        states = float((reached.amax(1) > reached.amin(1)).sum())
        record = {"kind": "dev", "stage": "critic", "step": 1, "ranked_states": states,
                  "rank_correlation": _mean_spearman(predicted, reached)}  # fmt: skip
        wrong += names([record], "critic") == []
    assert 1 <= wrong <= 22  # 2.3 % of 400 are 9, with a standard deviation of 3


class Told(Observer):
    def __init__(self) -> None:
        self.told: list[tuple[str, str, bool]] = []

    def diagnosed(self, diagnosis: Any, *, final: bool) -> None:
        self.told.append((diagnosis.stage, diagnosis.verdict, final))


def test_a_run_of_far_too_large_steps_is_told_and_logged(tiny_settings: Settings) -> None:
    told = Told()
    quick = replace(
        tiny_settings.joint, actor_optimizer=OptimizerSettings(learning_rate=3e-2), mle_weight=0.0
    )
    folder = run(replace(tiny_settings, joint=quick), observer=told).folder
    assert [stage for stage, _, final in told.told if final] == ["actor", "critic", "joint"]
    assert ("joint", "broken", False) in told.told and told.told[-1] == ("joint", "broken", True)
    logged = {record["stage"]: record for record in metrics_of(folder) if record["kind"] == "health"}
    assert list(logged) == ["actor", "critic", "joint"]
    assert "falling score" in [finding["rule"] for finding in logged["joint"]["findings"]]
    again = diagnose_run(RunFolder(folder), ["actor", "critic", "joint"])
    assert [diagnosis.as_record() for diagnosis in again] == [
        {key: value for key, value in record.items() if key != "kind"} for record in logged.values()
    ]
    json.dumps([diagnosis.as_record() for diagnosis in again], allow_nan=False)
    for record in logged.values():
        for name, measure in record["measures"].items():
            assert measure["unit"] == MEASURES[name].unit and math.isfinite(measure["value"])
    assert "health of joint: broken: " in (folder / "log.txt").read_text()


def test_maximum_likelihood_continued_has_no_samples_that_lost_their_weight() -> None:
    """The control trains on the reference alone: one sequence of one has all the weight, which is not broken."""
    settings = settings_of({"algorithm": "raml", "augmented.start": "actor", "augmented.edits.samples": "1"})
    parts = Assembly(settings, load_task(settings.data), CPU)
    stage = parts.build("augmented")
    batch = next(parts.train_batches(stage.schedule, "augmented").epoch(0))
    assert "effective_samples" not in stage.update(batch, 0)
