"""Run folders read back: what decides a system, what is unfinished, what is another data set."""

from __future__ import annotations

import pytest

from softbellman import config
from softbellman.experiments import OtherDataError, UnfinishedRunError, collect_runs, read_run
from softbellman.experiments.collect import deciding_settings
from softbellman.training.algorithms import ALGORITHMS
from softbellman.training.runfolder import RunFolderError
from softbellman.training.settings import Settings

BOTH = {"MLE": {"test_bleu": 30.0}, "ERAC": {"test_bleu": 31.0, "test_new_thing": 3}}


def test_a_run_gives_its_systems_and_all_numbers_of_the_test(write_run):
    run = read_run(write_run("a", BOTH, seed=7))
    assert [(r.system, r.stage, r.final, r.seed) for r in run.systems] == [
        ("MLE", "actor", False, 7),
        ("ERAC", "joint", True, 7),
    ]
    assert run.systems[1].metrics == {
        "dev_bleu": 1.0,
        "test_bleu": 31.0,
        "test_new_thing": 3.0,
        "length_ratio": 0.9,
    }
    assert run.systems[0].signature == "tok:none"


def test_a_score_that_was_no_number_is_missing(write_run):
    run = read_run(write_run("a", {"MLE": {"test_bleu": float("nan")}}, algorithm="mle"))
    assert "test_bleu" not in run.systems[0].metrics


def test_unfinished_runs_are_named_and_left_out(write_run):
    whole = write_run("whole", BOTH)
    part = write_run("part", {"MLE": {"test_bleu": 30.0}})
    found = collect_runs([part, whole, whole, whole / ".." / "whole"])
    assert [run.path for run in found.runs] == [whole]
    (sentence,) = found.unfinished
    assert sentence.startswith(f"{part} is not finished: stage joint has no test record")
    with pytest.raises(UnfinishedRunError, match="part is not finished"):
        collect_runs([part])
    with pytest.raises(RunFolderError, match="not a run folder"):
        collect_runs([whole, whole / "checkpoints"])


def test_the_line_that_continues_a_run_is_quoted(write_run):
    part = write_run("a part #1", {"MLE": {"test_bleu": 30.0}})
    with pytest.raises(UnfinishedRunError, match=r"softbellman-train --resume '.*/a part #1' continues it"):
        read_run(part)


def test_a_stage_of_no_epochs_is_not_waited_for(write_run):
    path = write_run("a", {"ERAC": {"test_bleu": 31.0}}, **{"actor.schedule.epochs": "0"})
    assert [r.stage for r in read_run(path).systems] == ["joint"]


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"data.difficulty": "1"}, "data.difficulty is 1.0, not 3.0"),
        ({"data.seed": "4"}, "data.seed is 4, not 1"),
        ({"data.test_pairs": "10"}, "data.test_pairs is 10, not 1000"),
        ({"data.kind": "parallel", "data.path": "/x"}, "data.kind is 'parallel'"),
    ],
)
def test_another_data_set_is_refused_by_name(write_run, settings, key):
    first, second = write_run("first", BOTH), write_run("second", BOTH, **settings)
    with pytest.raises(OtherDataError, match=f"second was tested on other data than .*first: {key}"):
        collect_runs([first, second])


def test_training_text_and_place_may_differ(write_run):
    first = write_run("first", BOTH, **{"data.pairs": "500"})
    assert len(collect_runs([first, write_run("second", BOTH)]).runs) == 2
    files = {"data.kind": "parallel"}
    here = write_run("here", BOTH, **files, **{"data.path": "/here/multi30k"})
    there = write_run("there", BOTH, **files, **{"data.path": "/there/multi30k"})
    assert len(collect_runs([here, there]).runs) == 2  # the same vocabulary
    (there / "target.vocabulary.json").write_text("[]")
    with pytest.raises(OtherDataError, match=r"data\.path is '/there/multi30k', not '/here/multi30k'"):
        collect_runs([here, there])


def test_only_the_sections_an_algorithm_reads_decide():
    sections = {
        algorithm: {key.partition(".")[0] for key in deciding_settings(Settings(algorithm=algorithm), stage)}
        for algorithm, stage in [("erac", "joint"), ("raml", "augmented"), ("vaml", "augmented")]
    }
    common = {"data", "model", "precision", "payoff", "actor", "evaluation"}
    assert sections["erac"] == common | {"credit", "warmup", "critic", "joint"}
    assert sections["raml"] == common | {"augmented"}
    assert sections["vaml"] == common | {"warmup", "oracle", "augmented"}
    for algorithm in ALGORITHMS:
        settings = config.load(
            Settings, overrides=[("algorithm", algorithm), ("seed", "5"), ("output", "x"), ("threads", "2")]
        )
        assert deciding_settings(settings, "actor") == deciding_settings(Settings(), "actor")
    rloo = deciding_settings(Settings(algorithm="rloo"), "sequence")
    assert {key for key in rloo if key.startswith("credit.")} == {
        "credit.forbid_special",
        "credit.sampling_dropout",
    }
    pcl = deciding_settings(Settings(algorithm="pcl"), "consistency")
    assert {"credit.tau", "critic.dropout"} <= pcl.keys() and "critic.samples" not in pcl
    narrow = deciding_settings(Settings(precision="bfloat16"), "actor")
    assert narrow != deciding_settings(Settings(), "actor")
