"""The printed table: rows, columns, decimals, notes, warnings; and runs that were really trained."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from softbellman.experiments import build_table, collect_runs, compute_missing
from softbellman.report import render
from softbellman.report.results import title
from softbellman.training import run
from softbellman.training.evaluation import METRICS, corpus_bleu
from softbellman.training.settings import (
    ActorStageSettings,
    CriticStageSettings,
    DataSettings,
    EvaluationSettings,
    JointStageSettings,
    ModelSettings,
    OptimizerSettings,
    ScheduleSettings,
    Settings,
    WarmUpSettings,
)
from softbellman.training.task import load_task


def lines_of(paths, *, baseline=None, metrics=(), **options):
    return render(
        build_table(collect_runs(paths), baseline=baseline, metrics=metrics), **options
    ).splitlines()


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_one_row_a_group(three_seeds):
    lines = lines_of(three_seeds, baseline="mle")
    assert re.split(r"\s{2,}", lines[0]) == ["system", "runs", "validation BLEU", "test BLEU", "length ratio"]
    mle, erac = (re.split(r"\s{2,}", line) for line in lines[2:4])
    assert mle == ["MLE", "3", "1.00 ± 0.00", "32.00 ± 2.00", "0.900 ± 0.000"]
    assert erac == ["ERAC", "3", "1.00 ± 0.00", "33.00 ± 2.00", "0.900 ± 0.000"]
    difference = re.split(r"\s{2,}", lines[7])
    assert difference == ["ERAC - MLE", "3", "+0.00 ± 0.00, 0/3", "+1.00 ± 2.00, 2/3", "+0.000 ± 0.000, 0/3"]
    assert lines[9:] == [
        "mean ± sample standard deviation over the runs of a row",
        "differences are paired by seed; then how many of them have the sign of their mean",
        "sacrebleu: tok:none",
    ]


def test_markdown_by_seed(three_seeds):
    lines = lines_of(three_seeds, baseline="mle", metrics=["bleu"], format="markdown", per_seed=True)
    assert cells(lines[0]) == ["system", "seed", "test BLEU"] and lines[1].endswith("-:|")
    assert [cells(line) for line in lines[7:12]] == [
        ["ERAC", "1", "35.00"],
        ["ERAC", "2", "33.00"],
        ["ERAC", "3", "31.00"],
        ["ERAC", "mean of 3", "33.00"],
        ["ERAC", "standard deviation", "2.00"],
    ]
    assert [cells(line)[1:] for line in lines[15:21]] == [
        ["1", "+3.00"],
        ["2", "-1.00"],
        ["3", "+1.00"],
        ["mean of 3", "+1.00"],
        ["standard deviation", "2.00"],
        ["agreeing in sign", "2 of 3"],
    ]
    assert "sacrebleu: `tok:none`" in lines


def test_json_has_every_number_unrounded(write_run):
    paths = [
        write_run(f"r{seed}", {"MLE": {"test_bleu": 30.0}, "ERAC": {"test_bleu": value}}, seed=seed)
        for seed, value in ((1, 31.123456789), (2, 32.0))
    ]
    table = build_table(collect_runs(paths), baseline="mle")
    record = json.loads(render(table, format="json"))
    erac = record["groups"][1]
    assert [(r["seed"], r["metrics"]["test_bleu"]) for r in erac["runs"]] == [(1, 31.123456789), (2, 32.0)]
    assert erac["runs"][0]["run"] == str(paths[0]) and erac["summary"]["test_bleu"]["count"] == 2
    difference = record["differences"][0]["metrics"]["test_bleu"]
    assert difference["agreeing_in_sign"] == 2
    assert difference["by_seed"]["1"] == pytest.approx(1.123456789, abs=1e-12)
    assert record["signatures"] == ["tok:none"] and record["warnings"] == []


def test_metrics_come_from_the_records_and_may_be_partial(write_run):
    a = write_run(
        "a", {"MLE": {"test_bleu": 30.0, "test_cider": 61.5, "test_rouge_l": 40.0}}, algorithm="mle"
    )
    b = write_run("b", {"MLE": {"test_bleu": 32.0, "test_new_thing": 0.25}}, algorithm="mle", seed=2)
    header, _, row, *_ = lines_of([a, b], format="markdown")
    shown = dict(zip(cells(header), cells(row), strict=True))
    assert shown["test CIDEr-D"] == "61.50 (1)" and shown["test new thing"] == "0.250 (1)"
    assert shown["test BLEU"] == "31.00 ± 1.41" and "test ROUGE-L" in shown
    assert not any("memory" in column for column in shown)
    assert cells(lines_of([a], format="markdown")[2])[1:3] == ["1", "1.00"]  # one run has no deviation
    seeds = lines_of([a, b], format="markdown", per_seed=True, metrics=["new_thing", "test_bleu"])
    assert [cells(line)[2:] for line in seeds[2:5]] == [
        ["-", "30.00"],
        ["0.250", "32.00"],
        ["0.250 (1)", "31.00"],
    ]
    with pytest.raises(ValueError, match="no run logged the metric 'ter'; logged: dev_bleu, test_bleu,"):
        build_table(collect_runs([a]), metrics=["ter"])


@pytest.mark.parametrize(
    ("name", "shown"),
    [("dev_bleu", "validation BLEU"), ("test_bleu3", "test BLEU-3"), ("length_ratio", "length ratio")],
)
def test_titles(name, shown):
    assert title(name) == shown


def test_what_does_not_fit_together_is_told(write_run):
    a = write_run("a", {"MLE": {"test_bleu": 30.0}, "ERAC": {}})
    b = write_run("b", {"MLE": {"test_bleu": 29.0, "signature": "tok:13a"}, "OCD": {}}, algorithm="ocd")
    c = write_run("c", {"MLE": {}})
    d = write_run("d", {"MLE": {}, "RAML": {}}, algorithm="raml", seed=5)
    told = build_table(collect_runs([a, b, c, d]), baseline="erac").warnings
    assert [any(text in sentence for sentence in told) for text in (
        "c is not finished", "MLE of seed 1 has other scores", "tok:none; tok:13a",
        "MLE has no ERAC beside it of seed 5", "RAML has no ERAC beside it of seed 5",
    )] == [True] * 5  # fmt: skip


def test_keys_that_names_leave_out_are_noted(write_run):
    paths = [
        write_run(str(n), {"MLE": {}, "ERAC": {}}, **{"credit.tau": f"0.{n}", "joint.mle_weight": f"0.{n}"})
        for n in (1, 2)
    ]
    assert "the groups of ERAC differ in joint.mle_weight as well" in lines_of(paths)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two seeds of ERAC on 200 generated pairs, the second with BLEU of other orders; and maximum likelihood alone."""
    schedule = ScheduleSettings(batch_size=50, epochs=1)
    learns = ActorStageSettings(
        optimizer=OptimizerSettings(name="adam", learning_rate=2e-2),
        schedule=ScheduleSettings(batch_size=20, epochs=3),
        dropout=0.0,
    )
    folder = tmp_path_factory.mktemp("runs")
    settings = Settings(
        device="cpu", threads=1,
        data=DataSettings(pairs=200, dev_pairs=20, test_pairs=20, difficulty=1.0, min_frequency=1),
        model=ModelSettings(embedding=8, hidden=8, attention_size=8),
        actor=learns, warmup=WarmUpSettings(schedule=schedule),
        critic=CriticStageSettings(schedule=schedule), joint=JointStageSettings(schedule=schedule),
        evaluation=EvaluationSettings(beam=1, batch_size=20, max_length=12),
    )  # fmt: skip
    metrics = replace(settings.evaluation, metrics=("bleu_orders",))
    made = [
        replace(settings, output=str(folder / "erac-1")),
        replace(settings, output=str(folder / "erac-2"), seed=2, evaluation=metrics),
        replace(settings, output=str(folder / "mle-1"), algorithm="mle"),
    ]
    return [run(each).folder for each in made]


def test_trained_runs(trained):
    table = build_table(collect_runs(trained), baseline="mle")
    assert [(g.name, g.seeds) for g in table.groups] == [("MLE", (1, 2)), ("ERAC", (1, 2))]
    assert table.warnings == ()  # maximum likelihood gave the same numbers twice
    assert table.groups[0].values("test_bleu1").keys() == {2}
    assert re.fullmatch(r"nrefs:\S+tok:none\S+", table.signatures[0])
    assert len(table.comparisons[0].differences["test_bleu"].by_seed) == 2


def test_missing_metrics_are_computed_from_the_hypotheses(trained):
    collected = compute_missing(collect_runs(trained), ["bleu_orders"])
    table = build_table(collected)
    mle, erac = table.groups
    assert mle.values("test_bleu1").keys() == erac.values("test_bleu1").keys() == {1, 2}
    task = load_task(collected.runs[0].settings.data)
    lines = (trained[0] / "hypotheses" / "test-joint.txt").read_text().splitlines()
    expected = corpus_bleu(lines, task.test.reference_texts, max_order=1).score
    assert erac.values("test_bleu1")[1] == expected > 0
    logged = collect_runs(trained).runs[1].systems[1].metrics["test_bleu1"]
    assert erac.values("test_bleu1")[2] == logged
    with pytest.raises(ValueError, match=f"'meteor' cannot be computed; these can: {', '.join(METRICS)}"):
        compute_missing(collected, ["meteor"])


def test_hypotheses_of_another_test_set_are_named(trained, tmp_path):
    (run_one,) = collect_runs(trained[:1]).runs
    path = trained[0] / "hypotheses" / "test-joint.txt"
    whole = path.read_text()
    try:
        path.write_text("one line\n")
        with pytest.raises(ValueError, match="hypotheses of stage joint have 1 lines, the test set 20"):
            compute_missing(collect_runs([run_one.path]), ["bleu_orders"])
        path.unlink()
        with pytest.raises(ValueError, match=r"test-joint\.txt does not exist"):
            compute_missing(collect_runs([run_one.path]), ["bleu_orders"])
    finally:
        path.write_text(whole)
