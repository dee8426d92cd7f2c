"""Sweeps as experiments: seeds, varied settings, names, what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from tiny_settings_file import SETTINGS

from softbellman.cli.settings import load_settings
from softbellman.config import ConfigError
from softbellman.experiments.description import file_name, split_setting
from softbellman.experiments.plan import make_plan
from softbellman.experiments.sweeps import describe_sweep, parse_seeds
from softbellman.training.settings import Settings


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SETTINGS)
    return path


def resolve(names: Sequence[str], overrides: Sequence[tuple[str, str]]) -> Settings:
    return load_settings([Path(name) for name in names], overrides)


@pytest.mark.parametrize(
    ("words", "seeds"),
    [
        (["1..4"], (1, 2, 3, 4)),
        (["7"], (7,)),
        (["1,3", "5..6"], (1, 3, 5, 6)),
        (["9,2"], (9, 2)),
        (["3..3"], (3,)),
    ],
)
def test_seeds(words: list[str], seeds: tuple[int, ...]) -> None:
    assert parse_seeds(words) == seeds


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("x", "numbers and ranges such as 1..9 or 1,4,7, given 'x'"),
        ("1..", "numbers and ranges"),
        ("", "numbers and ranges"),
        ("0..3", "begin at 1 and ranges go up"),
        ("4..3", "begin at 1 and ranges go up"),
        ("1..3,2", "seed 2 is there twice"),
        ("1..999999999", "more than 10,000 seeds"),
        ("9" * 5000, "given '9999999999999999999999999999999999999999'"),
    ],
)
def test_bad_seeds(word: str, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_seeds([word])
    assert sentence in str(caught.value) and len(str(caught.value)) < 200


def test_every_combination_is_a_condition(tiny: Path, tmp_path: Path) -> None:
    vary = ["credit.tau=0.1,0.2", "joint.schedule.epochs=1,2"]
    experiment = describe_sweep(tiny, vary, [("model.hidden", "8")], resolve=resolve)
    assert [condition.name for condition in experiment.conditions] == [
        f"ERAC, tau {tau}, epochs {epochs}" for tau in ("0.1", "0.2") for epochs in ("1", "2")
    ]
    plan = make_plan(experiment, tmp_path / "s", resolve=resolve, seeds=(2, 5))
    assert [(job.seed, job.settings.credit.tau, job.settings.joint.schedule.epochs) for job in plan.jobs] == [
        (seed, tau, epochs) for seed in (2, 5) for tau in (0.1, 0.2) for epochs in (1, 2)
    ]
    assert {job.settings.model.hidden for job in plan.jobs} == {8}
    assert len({job.shared["actor"] for job in plan.jobs}) == 2  # one for each seed
    assert plan.jobs[0].folder.path == tmp_path / "s" / "runs" / "erac-tau-0.1-epochs-1-2"


def test_algorithms_are_varied_by_name(tiny: Path) -> None:
    experiment = describe_sweep(tiny, ["algorithm=ac,mle"], [], resolve=resolve)
    assert [condition.name for condition in experiment.conditions] == ["AC", "MLE"]
    assert describe_sweep(tiny, [], [("label", "mine")], resolve=resolve).conditions[0].name == "mine"


def test_own_algorithms_have_their_titles(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = "; ".join(f'{name} = Algorithm("{name[:4]} it", ("actor",))' for name in ("turn", "keep", "keep2"))
    (tmp_path / "mine.py").write_text(f"from softbellman.training import Algorithm\n{made}\n")
    monkeypatch.chdir(tmp_path)
    vary = ["algorithm=mle,./mine.py:turn,./mine.py:keep,./mine.py:keep2"]
    experiment = describe_sweep(tiny, vary, [], resolve=resolve)
    names = ["MLE", "turn it", "keep it", "keep it, ./mine.py:keep2"]
    assert [condition.name for condition in experiment.conditions] == names
    plan = make_plan(experiment, tmp_path / "s", resolve=resolve, seeds=(1,))
    folders = ["mle-1", "turn-it-1", "keep-it-1", "keep-it-.-mine.py-keep2-1"]
    assert [job.folder.path.name for job in plan.jobs] == folders


def test_no_folder_is_hidden() -> None:
    names = ["ERAC, tau .5", "./mine.py:turn", "..", "!"]
    assert [file_name(name) for name in names] == ["erac-tau-.5", "mine.py-turn", "unnamed", "unnamed"]


def test_commas_within_brackets_and_quotes_part_no_values(tiny: Path) -> None:
    vary = ["payoff.terms=[bleu=0.7,chrf=0.3], [bleu=1]", "label='a, b',it's"]
    experiment = describe_sweep(tiny, vary, [("payoff.metric", "sum")], resolve=resolve)
    assert [condition.set[1:] for condition in experiment.conditions] == [
        (f"payoff.terms={terms}", f"label={label}")
        for terms in ("[bleu=0.7,chrf=0.3]", "[bleu=1]")
        for label in ("'a, b'", "it's")
    ]
    first = experiment.conditions[0]
    settings = resolve([first.config], [split_setting(text) for text in first.set])
    assert settings.payoff.terms == ("bleu=0.7", "chrf=0.3")


@pytest.mark.parametrize(
    ("vary", "overrides", "sentence"),
    [
        (["credit.tau"], [], "a setting is written KEY=VALUE"),
        (["credit.tau=,"], [], "--vary credit.tau: there is no value"),
        (["credit.tau=1", "credit.tau=2"], [], "credit.tau: the setting is given twice"),
        (["credit.tau=1"], [("credit.tau", "2")], "credit.tau: the setting is given twice"),
        (["seed=1,2"], [], "--seeds says which seeds are trained"),
        (["credit.tav=1"], [], "unknown key 'credit.tav'; nearest: 'credit.tau'"),
        (["credit.tau=x"], [], "'credit.tau' expects"),
        (
            ["credit.tau=0.1,0.10"],
            [],
            "--vary: credit.tau=0.1 and credit.tau=0.10 are the same settings; leave",
        ),
        (
            ["credit.tau=0.1,0.1"],
            [],
            "--vary: credit.tau=0.1 and credit.tau=0.1 are the same settings; leave",
        ),
        (["payoff.terms=[bleu=1,chrf=1"], [], "a bracket or a quote has no other half in '[bleu=1,chrf=1'"),
        (["payoff.terms=bleu=1],[chrf=1"], [], "a bracket or a quote has no other half in 'bleu=1],[chrf=1'"),
        (["label='a,b"], [], "a bracket or a quote has no other half"),
        (["oracle.tau=1,2"], [], "the algorithm 'erac' does not use it"),
    ],
)
def test_bad_sweeps(tiny: Path, vary: list[str], overrides: list[tuple[str, str]], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        describe_sweep(tiny, vary, overrides, resolve=resolve)
    assert sentence in str(caught.value)
