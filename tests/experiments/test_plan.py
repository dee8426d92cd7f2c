"""From an experiment's file to its runs: conditions, seeds, what is shared, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plans import plan_of, two
from study_runs import write_run

from softbellman.cli.experiment import find_experiment
from softbellman.cli.settings import config_folders
from softbellman.config import ConfigError, flatten
from softbellman.core.objects import load_object
from softbellman.experiments.description import (
    Condition,
    Part,
    experiment_of,
    file_name,
    load_experiment,
)
from softbellman.experiments.plan import Job
from softbellman.experiments.tuning import trials_of
from softbellman.training.algorithms import ALGORITHMS
from softbellman.training.own_model import model_object, settle_model
from softbellman.training.record import RunRecord
from softbellman.training.resumption import ResumeError
from softbellman.training.settings import PRESETS, Settings

SHIPPED = sorted(file.stem for folder in config_folders() for file in (folder / "experiments").glob("*.yaml"))


def test_every_condition_has_its_runs_first_runs_first(tmp_path: Path) -> None:
    jobs = plan_of(two(), tmp_path).jobs
    assert [job.name for job in jobs] == [
        "built-in/erac-1",
        "built-in/raml-1",
        "built-in/erac-2",
        "built-in/raml-2",
    ]
    last = jobs[-1].settings
    assert (last.seed, last.label, last.algorithm) == (2, "RAML", "raml")
    assert last.output == str(tmp_path / "built-in" / "raml-2") and last.cache == str(tmp_path / "cache")


def test_runs_share_what_does_not_depend_on_what_tells_them_apart(tmp_path: Path) -> None:
    experiment = two(
        conditions=(
            Condition(name="ERAC", config="erac"),
            Condition(name="AC", config="erac", set=("algorithm=ac",)),
            Condition(name="VAML", config="vaml"),
        ),
        runs=4, actors=2,
    )  # fmt: skip
    jobs = {job.name.removeprefix("built-in/"): job for job in plan_of(experiment, tmp_path).jobs}

    def keys(stage: str, names: str) -> set[str]:
        return {jobs[name].shared[stage] for name in names.split()}

    assert len({job.shared["actor"] for job in jobs.values()}) == 2
    assert keys("actor", "erac-1 ac-1 vaml-3") == keys("actor", "erac-3") != keys("actor", "erac-2")
    assert keys("warmup", "erac-1 erac-4") == keys("warmup", "ac-1") != keys("warmup", "erac-3")
    assert keys("oracle", "vaml-1") == keys("oracle", "vaml-4") != keys("oracle", "vaml-3")
    every = " ".join(f"{name}-{number}" for name in ("erac", "ac") for number in (1, 2, 3, 4))
    assert len(keys("critic", every)) == 4  # of another actor; the prior leaves the temperature no part
    entropy = replace(experiment, conditions=tuple(
        replace(one, set=(*one.set, "credit.prior=none")) for one in experiment.conditions[:2]
    ))  # fmt: skip
    assert len({job.shared["critic"] for job in plan_of(entropy, tmp_path).jobs}) == 8
    assert "joint" not in jobs["erac-1"].shared


def test_settings_of_the_part_lie_below_those_of_the_condition(tmp_path: Path) -> None:
    experiment = two(
        conditions=(
            Condition(name="ERAC", config="erac", set=("joint.samples=3", "model.hidden=48")),
            Condition(name="RAML", config="raml"),
        ),
        parts=(
            Part(name="p", prefix="builtin_", set=("model.hidden=32", "joint.samples=2", "data.pairs=99")),
        ),
    )
    erac, raml = plan_of(experiment, tmp_path, runs=1).jobs
    assert (erac.settings.model.hidden, erac.settings.joint.samples) == (48, 3)
    assert (raml.settings.model.hidden, raml.settings.data.pairs) == (32, 99)  # RAML has no joint stage
    over = plan_of(experiment, tmp_path, overrides=[("model.hidden", "16"), ("joint.samples", "4")]).jobs
    assert over[0].settings.model.hidden == over[1].settings.model.hidden == 16
    assert over[0].settings.joint.samples == 4
    unknown = two(parts=(Part(name="p", prefix="builtin_", set=("model.hiden=32",)),))
    with pytest.raises(ConfigError, match=r"unknown key 'model\.hiden'; nearest: 'model\.hidden'"):
        plan_of(unknown, tmp_path)


def test_several_values_are_conditions_of_their_own(tmp_path: Path) -> None:
    sweep = Condition(name="ERAC", config="erac", vary=("credit.tau=0.1,0.2", "credit.target_speed=0.5,1"))
    experiment = two(conditions=(sweep,), runs=1, baseline="AC")
    jobs = plan_of(experiment, tmp_path).jobs
    assert [job.condition for job in jobs] == [
        "ERAC, tau 0.1, target speed 0.5", "ERAC, tau 0.1, target speed 1",
        "ERAC, tau 0.2, target speed 0.5", "ERAC, tau 0.2, target speed 1",
    ]  # fmt: skip
    assert [job.settings.credit.tau for job in jobs] == [0.1, 0.1, 0.2, 0.2]
    assert jobs[0].name == "built-in/erac-tau-0.1-target-speed-0.5-1"
    assert experiment.baseline_of(jobs[0].condition) == "AC"


def test_values_in_brackets_and_values_that_mean_the_same(tmp_path: Path) -> None:
    terms = Condition(
        name="ERAC",
        config="erac",
        set=("payoff.metric=sum",),
        vary=("payoff.terms=[bleu=0.7,chrf=0.3],[bleu=1]",),
    )
    jobs = plan_of(two(conditions=(terms,), runs=1), tmp_path).jobs
    assert [job.settings.payoff.terms for job in jobs] == [("bleu=0.7", "chrf=0.3"), ("bleu=1",)]
    same = replace(terms, set=("model.hidden=32",), vary=("credit.tau=0.1,0.10", "credit.target_speed=0.5"))
    message = (
        r"condition 'ERAC': credit\.tau=0\.1, credit\.target_speed=0\.5 and credit\.tau=0\.10, credit\.target_speed=0\.5 "
        "are the same settings; leave one out"
    )
    with pytest.raises(ConfigError, match=message):
        plan_of(two(conditions=(same,), runs=1), tmp_path)
    trials = trials_of(two(conditions=(replace(same, vary=(), choose=same.vary),)))
    assert trials is not None
    with pytest.raises(ConfigError, match=message):
        plan_of(trials, tmp_path)


def test_parts_without_their_data_are_left_out_and_named(tmp_path: Path) -> None:
    experiment = two(
        parts=(
            Part(name="small", prefix="builtin_", size="small"),
            Part(name="text", prefix="multi30k_", size="full", data="multi30k"),
            Part(name="both", prefix="builtin_"),
        )
    )
    assert {job.name.split("/")[0] for job in plan_of(experiment, tmp_path).jobs} == {"small", "both"}
    full = plan_of(experiment, tmp_path, size="full")
    assert {job.name.split("/")[0] for job in full.jobs} == {"both"}
    assert full.left_out == ("part text is left out; --data multi30k=DIR gives its data",)
    given = plan_of(experiment, tmp_path, size="full", data={"multi30k": "corpora/m"}).jobs
    assert {job.settings.data.path for job in given if job.name.startswith("text/")} == {"corpora/m"}
    with pytest.raises(ConfigError, match="--data wmt: with --size full the experiment reads multi30k"):
        plan_of(experiment, tmp_path, size="full", data={"wmt": "x"})
    alone = replace(experiment, parts=experiment.parts[1:2])
    with pytest.raises(ConfigError, match="part text is left out"):
        plan_of(alone, tmp_path, size="full")
    with pytest.raises(ConfigError, match="has no part of --size small"):
        plan_of(alone, tmp_path)


def test_a_run_that_was_begun_otherwise_is_refused_by_name(tmp_path: Path) -> None:
    job = plan_of(two(), tmp_path).jobs[0]
    write_run(job.folder.path, "erac")
    with pytest.raises(ResumeError, match="erac-1 was begun with other settings; give another --output"):
        plan_of(two(), tmp_path)


def test_runs_with_objects_of_the_user_s_go_on_until_these_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command was refused for the folder of the file; a payoff that had changed was taken."""
    monkeypatch.chdir(tmp_path)
    files = {"net.py": "def net(request): ...\n", "pay.py": "def pay(hypotheses, references): return [1.0]\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    raml = Condition(
        name="RAML", config="raml", set=("model.kind=./net.py:net", "payoff.metric=./pay.py:pay")
    )
    mine = two(conditions=(raml,), baseline="RAML", runs=1)
    (job,) = plan_of(mine, tmp_path / "runs").jobs
    settings = settle_model(job.settings)
    brought = [model_object(settings), load_object(settings.payoff.metric, key="payoff.metric")]
    job.folder.path.mkdir(parents=True)
    data = {"training_data": "d"}
    record = RunRecord.create(
        job.folder.path, flatten(settings), data, [one for one in brought if one is not None]
    )
    record.write()

    def again() -> None:
        plan_of(mine, tmp_path / "runs")

    again()
    for name, text in files.items():
        (tmp_path / name).write_text(text + "# changed\n")
        with pytest.raises(ResumeError, match=rf"raml-1 was begun .* \./{name}:\w+ was changed in .*{name}"):
            again()
        (tmp_path / name).write_text(text)
    again()


def test_the_state_of_a_run_is_that_of_its_folder(tmp_path: Path) -> None:
    from softbellman.training.lock import FolderLock
    from softbellman.training.runfolder import RunFolder

    run = write_run(tmp_path / "erac", "erac")
    job = Job("erac", "part", "ERAC", 1, Settings(), RunFolder(run), {"actor": "k"})
    assert job.state() == "finished" and job.unfinished() == {"k"}
    with FolderLock(run):
        assert job.state() == "running"
    record = run / "record.json"
    record.write_text(record.read_text().replace('"finished"', '"running"'))
    assert job.state() == "begun"
    assert replace(job, folder=RunFolder(tmp_path / "other")).state() == "new"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conditions": (Condition(name="A", config="erac"),) * 2}, "condition 'A' is there twice"),
        ({"parts": ()}, "there is no part"),
        ({"parts": (Part(name="p", conditions=("OCD",)),)}, "names condition 'OCD', which is not there"),
    ],
)
def test_what_an_experiment_cannot_be(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        two(**change)


def test_two_conditions_of_one_folder_and_settings_without_a_value(tmp_path: Path) -> None:
    twins = (Condition(name="A b", config="erac"), Condition(name="a-b", config="raml"))
    with pytest.raises(ConfigError, match="two conditions would have the folder built-in/a-b-1"):
        plan_of(two(conditions=twins), tmp_path)
    with pytest.raises(ConfigError, match=r"a setting is written KEY=VALUE, given 'credit\.tau'"):
        plan_of(two(conditions=(Condition(name="A", config="erac", set=("credit.tau",)),)), tmp_path)
    with pytest.raises(ConfigError, match=r"unknown key 'credit\.tua'"):
        plan_of(two(conditions=(Condition(name="A", config="erac", set=("credit.tua=1",)),)), tmp_path)


def test_an_experiment_comes_back_from_its_folder(tmp_path: Path) -> None:
    from softbellman import config

    assert experiment_of(tmp_path / "built-in" / "erac-1") == (None, "")
    (tmp_path / "experiment.yaml").write_text(config.dump(two()))
    assert load_experiment(tmp_path / "experiment.yaml") == two()
    assert experiment_of(tmp_path / "built-in" / "erac-1") == (two(), "Built-in")


# Those that are shipped --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["small", "full"])
def test_the_comparators_have_as_many_trials_and_updates(size: str, tmp_path: Path) -> None:
    experiment = load_experiment(find_experiment("comparators"))
    systems = [condition for condition in experiment.conditions if condition.name != "MLE"]
    tried = [replace(condition, vary=condition.choose, choose=()) for condition in systems]
    assert {len(list(condition.taken_apart())) for condition in tried} == {2}
    data = {part.data: "somewhere" for part in experiment.parts if part.data and size == "full"}
    updates: dict[str, set[int]] = {}
    for job in plan_of(experiment, tmp_path, size=size, data=data, runs=1).jobs:
        settings, algorithm = job.settings, ALGORITHMS[job.settings.algorithm]
        if settings.algorithm != "mle":
            stage = algorithm.section(settings, algorithm.stages[-1])
            assert stage.schedule.batch_size == 50 and getattr(stage, "samples", 5) in (1, 5)
            # 29,000 and 30,000 examples, of the captions a few are dropped
            epoch = {"translation": 580, "captions": 600}.get(job.part, stage.schedule.max_updates)
            most = stage.schedule.max_updates or epoch * stage.schedule.epochs
            updates.setdefault(job.part, set()).add(most - getattr(stage, "actor_delay", 0))
    assert updates and all(len(found) == 1 for found in updates.values()), updates


def test_what_is_shipped() -> None:
    assert SHIPPED == [
        "ablation",
        "comparators",
        "figure1",
        "presets",
        "scenes",
        "scratch",
        "table1",
        "table3",
        "table4",
    ]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_experiments_resolve_in_both_sizes(name: str, tmp_path: Path) -> None:
    experiment = load_experiment(find_experiment(name))
    data = {part.data: "somewhere" for part in experiment.parts if part.data}
    small = plan_of(experiment, tmp_path, runs=1).jobs
    full = plan_of(experiment, tmp_path, size="full", data=data, runs=1).jobs
    assert {job.settings.data.kind for job in small} <= {"builtin", "scenes"}
    assert {job.settings.data.path for job in full} == ({"somewhere"} if data else {""})
    names = {job.condition for job in small + full} | {"MLE"}
    assert {experiment.baseline_of(name) for name in names} <= names
    for text in experiment.orderings:
        for system in text.replace(">", "<").split("<"):
            assert system.strip() in names, f"{system} of {text}"
    for job in small:
        folder = {"builtin": "built-in-corpus", "scenes": "scenes"}[job.settings.data.kind]
        assert job.name == f"{folder}/{file_name(job.condition)}-1"


def test_table1_has_nine_runs_of_three_actors(tmp_path: Path) -> None:
    jobs = plan_of(load_experiment(find_experiment("table1")), tmp_path, runs=9).jobs
    counts = {
        name: [job for job in jobs if job.condition == name] for name in ("MLE", "RAML", "VAML", "AC", "ERAC")
    }
    assert {name: len(found) for name, found in counts.items()} == {
        "MLE": 3, "RAML": 9, "VAML": 9, "AC": 9, "ERAC": 9,
    }  # fmt: skip
    assert len({job.shared["actor"] for job in jobs}) == 3
    assert len({job.shared["oracle"] for job in counts["VAML"]}) == 3


def test_the_rows_of_the_published_preset_are_switched_one_by_one(tmp_path: Path) -> None:
    experiment = load_experiment(find_experiment("presets"))
    switched = [dict(text.split("=") for text in condition.set) for condition in experiment.conditions]
    together = {
        key: value for settings in switched for key, value in settings.items() if "oracle_share" not in key
    }
    assert (together.pop("credit.prior"), together.pop("credit.tau")) == (
        "none",
        "0.01",
    )  # of the paper's form, in all rows
    rows = {key: value for key, value in PRESETS["published"].items() if "oracle_share" not in key}
    del rows["evaluation.drop_long"]  # another test set
    assert together == rows


def test_rows_of_the_paper_have_nothing_of_ours(tmp_path: Path) -> None:
    """Whatever the shipped recipes of the data sets have beside the paper's."""
    data = {"multi30k": str(tmp_path)}
    for size in ("small", "full"):
        presets = load_experiment(find_experiment("presets"))
        for job in plan_of(presets, tmp_path / size, size=size, data=data if size == "full" else {}).jobs:
            settings = job.settings
            if settings.algorithm == "vaml":
                assert settings.augmented.average == 0, job.name
                continue
            credit = settings.credit
            assert credit.reference_weight == credit.trace == settings.joint.average == 0, job.name
            assert credit.prior == "none", job.name


@pytest.mark.parametrize(
    ("changed", "overrides", "sentence"),
    [
        ({}, [("seed", "5")], "--seed: seed cannot be set for an experiment: each run has its own; --seeds"),
        ({}, [("label", "x")], "--label: label cannot be set"),
        ({"part": ("seed=11",)}, [], "part 'built-in': seed cannot be set for an experiment"),
        ({"part": ("cache=x",)}, [], "part 'built-in': cache cannot be set"),
        ({"condition": ("output=x",)}, [], "condition 'ERAC': output cannot be set"),
        ({"condition": ("actor_seed=3",), "actors": 2}, [], "condition 'ERAC': actor_seed .* with actors: 2"),
        ({"condition": ("data.path=x",), "data": "mine"}, [], "data.path .* --data mine=DIR gives it"),
    ],
)
def test_what_every_run_is_given_anyway_is_refused(
    changed: dict[str, Any], overrides: list[tuple[str, str]], sentence: str, tmp_path: Path
) -> None:
    """A pilot with `set: [seed=11]` had seed 1, silently."""
    part = Part(name="built-in", prefix="builtin_", set=changed.get("part", ()), data=changed.get("data", ""))
    erac = Condition(name="ERAC", config="erac", set=changed.get("condition", ()))
    experiment = two(conditions=(erac,), parts=(part,), actors=changed.get("actors", 0))
    with pytest.raises(ConfigError, match=sentence):
        plan_of(experiment, tmp_path, overrides=overrides)


def test_an_actor_s_seed_is_a_setting_where_the_experiment_has_no_say(tmp_path: Path) -> None:
    erac = Condition(name="ERAC", config="erac", set=("actor_seed=3",))
    (job, *_) = plan_of(two(conditions=(erac,)), tmp_path).jobs
    assert job.settings.actor_seed == 3


def test_seeds_take_the_place_of_the_first_numbers(tmp_path: Path) -> None:
    jobs = plan_of(two(), tmp_path, seeds=(11, 4)).jobs
    assert {(job.name.rpartition("-")[2], job.settings.seed) for job in jobs} == {("11", 11), ("4", 4)}
