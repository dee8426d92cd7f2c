"""From run folders to sections: who is compared with whom, by which runs, and what is said where things do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from study_runs import write_run, write_table

from softbellman import config
from softbellman.experiments.collect import UnfinishedRunError
from softbellman.experiments.description import Condition, Experiment, Part
from softbellman.experiments.gather import gather
from softbellman.experiments.orderings import Step, judge
from softbellman.experiments.study import Section, build_study
from softbellman.training.runfolder import RunFolder


def only(paths: list[Path], **options: object) -> Section:
    (section,) = build_study(paths, resamples=400, **options).sections  # type: ignore[arg-type]
    return section


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("table"))


def test_five_algorithms_against_their_baselines(table: Path) -> None:
    section = only([table])
    assert [group.name for group in section.groups] == ["MLE", "RAML", "VAML", "AC", "ERAC"]
    assert all(len(group.results) == 3 for group in section.groups)
    assert set(section.baselines) == {"AC", "ERAC", "RAML", "VAML"}
    erac = section.baselines["ERAC"]
    assert erac.baseline == "MLE" and [pair.system.seed for pair in erac.pairs] == [1, 2, 3]
    assert all(pair.baseline.run == pair.system.run for pair in erac.pairs)  # the start of the run itself
    logged = [pair.system.metrics["test_bleu"] - pair.baseline.metrics["test_bleu"] for pair in erac.pairs]
    assert erac.tests["bleu"].pooled.difference == pytest.approx(sum(logged) / 3)
    assert section.sentences == 120 and section.references == (1, 1) and not section.warnings


def test_each_step_of_the_papers_orderings_is_tested_once(table: Path) -> None:
    section = only([table])
    assert [str(step) for step in section.steps] == ["MLE < RAML", "RAML < VAML", "MLE < AC", "AC < ERAC"]
    assert judge(section.steps[Step("RAML", "VAML")].tests["bleu"]).startswith("holds")
    assert judge(section.steps[Step("MLE", "RAML")].tests["bleu"]) == "not decided"
    step = section.steps[Step("AC", "ERAC")]
    assert [(pair.system.seed, pair.baseline.seed) for pair in step.pairs] == [(1, 1), (2, 2), (3, 3)]


def test_orderings_and_baseline_of_ones_own(table: Path) -> None:
    section = only([table], orderings=["VAML < MLE"], baseline="ac")
    assert [str(step) for step in section.steps] == ["VAML < MLE"]
    assert judge(section.steps[Step("VAML", "MLE")].tests["bleu"]) == "does not hold"
    assert {contrast.baseline for contrast in section.baselines.values()} == {"AC"}
    with pytest.raises(ValueError, match=r"--baseline 'ocd' is none of the systems: 'MLE', 'RAML'"):
        build_study([table], baseline="ocd")
    with pytest.raises(ValueError, match="an ordering is names"):
        build_study([table], orderings=["MLE"])


def test_a_label_names_a_system_of_its_own(tmp_path: Path) -> None:
    write_run(tmp_path / "erac", "erac")
    write_run(tmp_path / "half", "erac", label="ERAC without future entropy", credit__future_entropy="false")
    write_run(tmp_path / "more", "raml", label="MLE continued", augmented__edits__samples="1")
    section = only([tmp_path])
    assert [group.name for group in section.groups] == [
        "MLE",
        "MLE continued",
        "ERAC",
        "ERAC without future entropy",
    ]
    assert Step("ERAC without future entropy", "ERAC") in section.steps
    assert Step("MLE continued", "ERAC") in section.steps


def test_runs_of_shared_actors_pair_by_seed_or_by_their_start(tmp_path: Path) -> None:
    """Four runs of two actors; the baseline has a run of each actor alone."""
    for seed in (1, 2, 3, 4):
        start = {"actor_seed": str((seed - 1) % 2 + 1)}
        write_run(tmp_path / f"erac-{seed}", "erac", seed=seed, **start)
    for seed in (1, 2):
        write_run(tmp_path / f"more-{seed}", "raml", seed=seed, label="MLE continued")
    section = only([tmp_path], orderings=["MLE continued < ERAC"])
    names = {group.name: group for group in section.groups}
    assert names["MLE"].seeds == (1, 2) and names["ERAC"].seeds == (1, 2, 3, 4)
    step = section.steps[Step("MLE continued", "ERAC")]
    assert [(pair.system.seed, pair.baseline.seed) for pair in step.pairs] == [(1, 1), (2, 2), (3, 1), (4, 2)]
    assert step.tests["bleu"].starts == 2


def test_captions_are_tested_by_all_their_metrics(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_run(tmp_path / f"erac-{seed}", "erac", seed=seed, references=3, metrics=("cider", "rouge_l"))
    section = only([tmp_path])
    assert section.tested == ("bleu", "cider", "rouge_l") and section.references == (3, 3)
    contrast = section.baselines["ERAC"]
    for metric in section.tested:
        for pair, test in zip(contrast.pairs, contrast.tests[metric].by_run, strict=True):
            logged = pair.system.metrics[f"test_{metric}"] - pair.baseline.metrics[f"test_{metric}"]
            assert test.difference == pytest.approx(logged)


def test_other_test_data_are_another_section_and_other_training_data_a_warning(tmp_path: Path) -> None:
    write_run(tmp_path / "one", "erac")
    write_run(tmp_path / "two", "erac", data_seed=8, sentences=50)
    study = build_study([tmp_path], resamples=100)
    assert [section.sentences for section in study.sections] == [120, 50]
    assert [section.title for section in study.sections] == [
        "built-in corpus, difficulty 3 (1)",
        "built-in corpus, difficulty 3 (2)",
    ]
    assert "tested on different data" in study.sections[1].warnings[-1]
    record = write_run(tmp_path / "three", "ac") / "record.json"
    content = json.loads(record.read_text())
    content["data"]["training_data"] = "bb" * 32
    record.write_text(json.dumps(content))
    first = build_study([tmp_path / "one", tmp_path / "three"], resamples=100).sections[0]
    assert "the training data is not the same in all runs" in first.warnings[0]


def test_hypotheses_that_were_changed_are_told(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one", "erac")
    path = run / "hypotheses" / "test-joint.jsonl"
    lines = path.read_text().splitlines()
    changed = [json.dumps({**json.loads(line), "hypothesis": "la la"}) for line in lines[:20]]
    path.write_text("\n".join([*changed, *lines[20:]]) + "\n")
    (warning,) = only([tmp_path]).warnings
    assert "the hypotheses of ERAC give" in warning and "was logged" in warning


def test_unfinished_runs_and_runs_without_hypotheses_are_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "whole", "erac")
    open_ = RunFolder(tmp_path / "open")
    open_.create((run / "config.yaml").read_text())
    open_.log(kind="dev", stage="actor", step=1, dev_bleu=1.0)
    (run / "hypotheses" / "test-joint.jsonl").unlink()
    (run / "hypotheses" / "test-joint.txt").unlink()
    study = build_study([tmp_path], resamples=50)
    assert "open is not finished" in study.left_out[0] and "no paired test of ERAC" in study.left_out[1]
    section = study.sections[0]
    assert [group.name for group in section.groups] == ["MLE", "ERAC"] and not section.baselines
    with pytest.raises(UnfinishedRunError, match="open is not finished"):
        build_study([tmp_path / "open"])


def test_an_experiments_file_decides_titles_baselines_and_orderings(tmp_path: Path) -> None:
    experiment = Experiment(
        title="Mine",
        conditions=(
            Condition(name="AC", config="x"),
            Condition(name="ERAC", config="x", baseline="AC"),
        ),
        parts=(Part(name="Built-in corpus"),),
        orderings=("ERAC < AC",),
    )
    (tmp_path / "experiment.yaml").write_text(config.dump(experiment))
    for algorithm in ("ac", "erac"):
        write_run(tmp_path / "built-in-corpus" / algorithm, algorithm)
    section = only([tmp_path])
    assert section.title == "Mine: Built-in corpus" and section.experiment == experiment
    assert section.baselines["ERAC"].baseline == "AC" and section.baselines["AC"].baseline == "MLE"
    assert [str(step) for step in section.steps] == ["ERAC < AC"]


# The compact form ---------------------------------------------------------------------------------------------------------


def test_the_compact_form_gives_the_same_report_without_checkpoints(table: Path, tmp_path: Path) -> None:
    copies = gather([table], tmp_path / "kept")
    assert len(copies) == 15
    files = {path.relative_to(copies[0]).as_posix() for path in copies[0].rglob("*") if path.is_file()}
    assert files == {
        "config.yaml",
        "metrics.jsonl",
        "record.json",
        "hypotheses/test-set.json",
        "hypotheses/test-actor.txt",
        "hypotheses/test-joint.txt",
    }
    assert len(list((tmp_path / "kept" / "test-sets").iterdir())) == 1
    own, copied = only([table]), only([tmp_path / "kept"])
    assert [step for step in own.steps] == [step for step in copied.steps]
    for step, contrast in own.steps.items():
        assert contrast.tests == copied.steps[step].tests


def test_a_compact_form_without_texts_gives_the_same_tests(tmp_path: Path) -> None:
    metrics = ("cider", "rouge_l", "ter")
    table = write_table(tmp_path / "runs", seeds=2, references=3, sentences=40, metrics=metrics)
    kept = tmp_path / "kept"
    copies = gather([table], kept, texts=False)
    assert gather([kept / "runs"], tmp_path / "again", texts=False)  # of a copy, too
    files = [path for path in kept.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".yaml", ".json", ".jsonl", ".npz"}
    said = (table / "erac-1" / "hypotheses" / "test-joint.txt").read_text().splitlines()
    assert not [path for path in files for line in said if line.encode() in path.read_bytes()]
    own, copied = only([table]), only([tmp_path / "again"])
    assert (own.sentences, own.references, own.tested) == (copied.sentences, copied.references, copied.tested)
    assert own.tested == ("bleu", *metrics) and own.sentences == 40 and own.references == (3, 3)
    assert list(own.steps) == list(copied.steps) and not copied.warnings
    for step, contrast in own.steps.items():
        for name, test in contrast.tests.items():
            found = copied.steps[step].tests[name]
            assert found.pooled.difference == pytest.approx(test.pooled.difference, abs=1e-5)
            assert found.pooled.interval == pytest.approx(test.pooled.interval, abs=1e-5)
            assert found.pooled.p == test.pooled.p
    assert len(copies) == 10


def test_texts_and_counts_of_one_test_set_are_compared(tmp_path: Path) -> None:
    """Runs with their texts and copies without, of two machines, say."""
    write_run(tmp_path / "here" / "ac-1", "ac", sentences=40)
    write_run(tmp_path / "there" / "erac-1", "erac", sentences=40)
    gather([tmp_path / "there"], tmp_path / "kept", texts=False)
    section = only([tmp_path / "here", tmp_path / "kept"])
    assert [str(step) for step in section.steps] == ["MLE < AC", "AC < ERAC"]


@pytest.mark.parametrize("broken", ("npz", "size"))
def test_damaged_counts_are_named(tmp_path: Path, broken: str) -> None:
    run = write_run(tmp_path / "erac-1", "erac", sentences=20)
    (copy,) = gather([run], tmp_path / "kept", texts=False)
    path = copy / "hypotheses" / ("test-joint.npz" if broken == "npz" else "test-set.json")
    path.write_text('{"digest": "x", "sentences": 21, "fewest": 1, "most": 1}' if broken == "size" else "no")
    study = build_study([copy], resamples=20)
    assert "test-joint.npz is damaged" in study.left_out[-1]


def test_the_compact_form_names_no_folder_and_no_machine(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "runs" / "erac-1", "erac", data__kind="parallel", data__path="/home/me/corpora/multi30k"
    )
    (copy,) = gather([run], tmp_path / "kept")
    for name in ("config.yaml", "record.json"):
        text = (copy / name).read_text()
        assert str(tmp_path) not in text and "/home" not in text and "machine-1" not in text
    record = json.loads((copy / "record.json").read_text())
    assert record["sessions"][0]["command"] == "softbellman-train --config x.yaml --seed 1 --output erac-1"
    assert record["settings"]["data.path"] == "multi30k"


def test_collecting_again_renews_and_another_run_of_that_place_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a" / "erac-1", "erac")
    gather([tmp_path / "a"], tmp_path / "kept")
    RunFolder(run).log(kind="dev", stage="joint", step=999, dev_bleu=1.0)
    (copy,) = gather([tmp_path / "a"], tmp_path / "kept")
    assert (copy / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()
    write_run(tmp_path / "b" / "a" / "erac-1", "erac", seed=2)
    with pytest.raises(ValueError, match="holds another run than"):
        gather([tmp_path / "b" / "a"], tmp_path / "kept")


def test_a_test_set_that_was_changed_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "erac-1", "erac")
    (copy,) = gather([run], tmp_path / "kept")
    (path,) = (tmp_path / "kept" / "test-sets").iterdir()
    path.write_text(path.read_text().replace("ba", "da"))
    study = build_study([copy], resamples=50)
    assert "damaged" in study.left_out[0] and not study.sections[0].baselines
