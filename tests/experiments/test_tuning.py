"""Settings chosen on validation data: which trials there are, which one wins, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from plans import plan_of, two

from softbellman.config import ConfigError
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


def test_runs_get_what_was_chosen_in_their_part(tmp_path: Path) -> None:
    parts = (Part(name="a", prefix="builtin_"), Part(name="b", prefix="builtin_"))
    better = Trial((f"{STEPS}=0.5",), (2.0,))
    choice = Choice("b", "ERAC", (Trial((f"{STEPS}=0.25",), (1.0,)), better))
    tuning = Tuning((11,), (choice,))
    write_tuning(tuning, tmp_path)
    assert read_tuning(tmp_path) == tuning and read_tuning(tmp_path / "elsewhere") is None
    jobs = plan_of(two(parts=parts, runs=1), tmp_path, chosen=tuning.settings()).jobs
    rates = {job.name: job.settings.joint.actor_optimizer.learning_rate for job in jobs}
    assert rates["b/erac-1"] == 0.5 and rates["a/erac-1"] == 2e-4
    assert tuning.of_part("a") is None and tuning.of_part("b") == tuning


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
