"""Settings chosen on validation data: which trials there are, which one wins, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from plans import plan_of, two

from softbellman.config import ConfigError
from softbellman.experiments import tuning
from softbellman.experiments.description import Condition, Part, load_experiment
from softbellman.experiments.tuning import (
    Choice,
    Trial,
    Tuning,
    check_seeds,
    read_tuning,
    trials_of,
    write_tuning,
)
from softbellman.report.study_text import choices, chosen_on
from softbellman.training.settings import EvaluationSettings, Settings

STEPS = "joint.actor_optimizer.learning_rate"
CHOSEN = Condition(
    name="ERAC", config="erac", set=("credit.tau=0.2",), choose=(f"{STEPS}=1e-4,3e-4", "joint.mle_weight=0,0.1"), runs=7
)  # fmt: skip
OTHER = Condition(name="RAML", config="raml")


def test_a_trial_for_each_combination_on_seeds_of_its_own(tmp_path: Path) -> None:
    trials = trials_of(two(conditions=(CHOSEN, OTHER), tuning_seeds=(4, 9)))
    assert trials is not None
    jobs = plan_of(trials, tmp_path, seeds=(4, 9)).jobs
    assert len(jobs) == 8 and {job.seed for job in jobs} == {4, 9}
    tried = {
        (job.settings.joint.actor_optimizer.learning_rate, job.settings.joint.mle_weight) for job in jobs
    }
    assert tried == {(1e-4, 0.0), (1e-4, 0.1), (3e-4, 0.0), (3e-4, 0.1)}
    assert {job.settings.credit.tau for job in jobs} == {0.2}


def test_nothing_to_choose_is_no_trial() -> None:
    assert trials_of(two()) is None


def test_only_parts_that_run_such_a_condition_have_trials() -> None:
    parts = (
        Part(name="a", prefix="builtin_", conditions=("RAML",)),
        Part(name="b", prefix="builtin_", conditions=("RAML", "ERAC")),
        Part(name="c", prefix="builtin_"),
    )
    trials = trials_of(two(conditions=(CHOSEN, OTHER), parts=parts))
    assert trials is not None
    assert [(part.name, part.conditions) for part in trials.parts] == [("b", ("ERAC",)), ("c", ())]


def test_the_best_mean_wins_and_the_first_of_equal_ones() -> None:
    trials = (Trial(("a=1",), (10.0, 12.0)), Trial(("a=2",), (9.0, 15.0)), Trial(("a=3",), (12.0, 12.0)))
    assert Choice("p", "c", trials).best.set == ("a=2",)


def test_of_errors_the_smallest_mean_wins() -> None:
    trials = (Trial(("a=1",), (60.0,)), Trial(("a=2",), (50.0,)), Trial(("a=3",), (50.0,)))
    choice = Choice("p", "c", trials, "ter")
    assert choice.best.set == ("a=2",) and choice.worst.set == ("a=1",)
    assert Choice("p", "c", trials).best.set == ("a=1",)
    header, rows = choices(Tuning((11,), (choice,)))
    assert header[3:] == ["validation TER", "of the worst"] and rows[0][3:] == ["50.00", "60.00"]
    assert chosen_on(Tuning((11,), (choice,))).startswith("Settings were chosen by validation TER on seed 11")


def test_trials_are_judged_by_what_selects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The score is that of `evaluation.select_by`; trials of two metrics cannot be compared."""
    by_ter = replace(CHOSEN, set=("evaluation.select_by=ter",), choose=("credit.tau=0.1,0.2",))
    trials = trials_of(two(conditions=(by_ter,), tuning_seeds=(4, 9)))
    assert trials is not None
    jobs = plan_of(trials, tmp_path, seeds=(4, 9)).jobs
    scores = {str(job.folder.path): 100.0 * job.settings.credit.tau + job.seed for job in jobs}

    def read(settings: Settings, path: Path) -> SimpleNamespace:
        metrics = {"dev_ter": scores[str(path)], "dev_bleu": 1.0 / scores[str(path)]}
        return SimpleNamespace(settings=settings, systems=[SimpleNamespace(metrics=metrics)])

    runs = {str(job.folder.path): read(job.settings, job.folder.path) for job in jobs}
    monkeypatch.setattr(tuning, "read_run", lambda path: runs[str(path)])
    (choice,) = tuning.choose(trials, jobs).choices
    assert choice.by == "ter" and choice.best == Trial(("credit.tau=0.1",), (14.0, 19.0))
    first = runs[str(jobs[0].folder.path)]
    first.settings = replace(first.settings, evaluation=EvaluationSettings())
    with pytest.raises(ConfigError, match=r"the trials of 'ERAC' cannot be compared: .* is bleu and ter"):
        tuning.choose(trials, jobs)


def test_runs_get_what_was_chosen_in_their_part(tmp_path: Path) -> None:
    parts = (Part(name="a", prefix="builtin_"), Part(name="b", prefix="builtin_"))
    better = Trial((f"{STEPS}=0.5",), (2.0,))
    choice = Choice("b", "ERAC", (Trial((f"{STEPS}=0.25",), (1.0,)), better))
    made = Tuning((11,), (choice,))
    write_tuning(made, tmp_path)
    assert read_tuning(tmp_path) == made and read_tuning(tmp_path / "elsewhere") is None
    jobs = plan_of(two(parts=parts, runs=1), tmp_path, chosen=made.settings()).jobs
    rates = {job.name: job.settings.joint.actor_optimizer.learning_rate for job in jobs}
    assert rates["b/erac-1"] == 0.5 and rates["a/erac-1"] == 2e-4
    assert made.of_part("a") is None and made.of_part("b") == made


def test_a_seed_that_chose_is_not_reported(tmp_path: Path) -> None:
    experiment = two(conditions=(CHOSEN, OTHER), tuning_seeds=(2,))
    with pytest.raises(ConfigError, match="seed 2 would choose settings and be reported"):
        check_seeds(experiment, plan_of(experiment, tmp_path).jobs)
    check_seeds(two(conditions=(CHOSEN, OTHER)), plan_of(experiment, tmp_path).jobs)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("vary: [credit.tau=1], choose: [credit.tau=1,2]", "condition 'E' has choose and vary"),
        ("choose: [credit.tau]", "a setting is written KEY=VALUE, given 'credit.tau'"),
    ],
)
def test_what_cannot_be_chosen_is_an_error(tmp_path: Path, words: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"title: x\nconditions: [{{name: E, config: erac, {words}}}]\nparts: [{{name: p, prefix: builtin_}}]\n"
    )
    with pytest.raises(ConfigError, match=message):
        load_experiment(path)


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ((), "has choose and no tuning_seeds"),
        ((0, 3), "tuning_seeds begin at 1, given 0"),
        ((3, 3), "twice in tuning_seeds"),
    ],
)
def test_seeds_of_trials_are_seeds(seeds: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        two(conditions=(CHOSEN, OTHER), tuning_seeds=seeds)
