"""Groups of seeds and their names."""

from __future__ import annotations

import pytest

from softbellman.experiments import collect_runs, group_runs
from softbellman.experiments.groups import short_key


def grouped(*paths):
    return group_runs(collect_runs(paths).runs)


def test_seeds_form_one_group_and_every_run_counts_for_its_start(three_seeds, write_run):
    mle = write_run("mle", {"MLE": {"test_bleu": 40.0}}, algorithm="mle", seed=9, **{"credit.tau": "9"})
    first, second = grouped(*three_seeds, mle).groups
    assert (first.name, first.seeds) == ("MLE", (1, 2, 3, 9))
    assert (second.name, second.seeds, second.unnamed) == ("ERAC", (1, 2, 3), ())
    assert second.values("test_bleu") == {1: 35.0, 2: 33.0, 3: 31.0}


def test_names_are_the_shortest_that_tell_groups_apart(write_run):
    def runs(*variants):
        return [
            write_run(f"v{number}-{len(variants)}", {"MLE": {}, "ERAC": {}}, **settings)
            for number, settings in enumerate(variants)
        ]

    names = [g.name for g in grouped(*runs({"credit.tau": "0.1"}, {"credit.tau": "0.02"})).groups]
    assert names == ["MLE", "ERAC (tau 0.1)", "ERAC (tau 0.02)"]
    # two keys differ, each tells: the shorter one is named, the other is kept in mind
    both = grouped(
        *runs({"credit.tau": "0.1", "joint.schedule.epochs": "3"}, {"joint.schedule.epochs": "4"}, {})
    ).groups
    assert [g.name for g in both[1:]] == [f"ERAC (joint.schedule.epochs {n})" for n in (3, 4, 30)]
    assert both[1].unnamed == ("credit.tau",) and both[1].settings["credit.tau"] == 0.1
    # neither alone is enough
    square = [
        {"credit.tau": tau, "joint.follow": follow}
        for tau in ("0.1", "0.2")
        for follow in ("target", "critic")
    ]
    assert [g.name for g in grouped(*runs(*square)).groups[1:]] == [
        f"ERAC (tau {s['credit.tau']}, follow {s['joint.follow']})" for s in square
    ]


def test_many_differing_keys_still_tell(write_run):
    variants = [{}, {"model.hidden": "8"}, {"model.layers": "2"}, {"credit.tau": "1"}, {"joint.samples": "9"}]
    paths = [write_run(str(i), {"MLE": {}, "ERAC": {}}, **v) for i, v in enumerate(variants)]
    names = [g.name for g in grouped(*paths).groups if g.system == "ERAC"]
    assert len(set(names)) == 5 and all("samples" in name and "layers" in name for name in names)


def test_values_that_only_rounding_makes_equal_are_different(write_run):
    paths = [write_run(tau, {"MLE": {}, "ERAC": {}}, **{"credit.tau": tau}) for tau in ("0.1", "0.10000001")]
    assert [g.name for g in grouped(*paths).groups[1:]] == ["ERAC (tau 0.1)", "ERAC (tau 0.10000001)"]


def test_shared_starts_count_once_and_different_ones_are_a_conflict(write_run):
    def run(name, algorithm, start):
        final = "AC" if algorithm == "ac" else "ERAC"
        return write_run(name, {"MLE": {"test_bleu": start}, final: {"test_bleu": 31.0}}, algorithm=algorithm)

    shared = grouped(run("erac", "erac", 30.0), run("ac", "ac", 30.0))
    assert [(g.name, len(g.results)) for g in shared.groups] == [("MLE", 1), ("ERAC", 1), ("AC", 1)]
    assert shared.conflicts == ()
    other = grouped(run("erac2", "erac", 30.0), run("ac2", "ac", 29.0))
    (sentence,) = other.conflicts
    assert "MLE of seed 1 has other scores in" in sentence and "the table has those of" in sentence
    assert other.groups[0].values("test_bleu") == {1: 30.0}


def test_metrics_that_only_one_of_two_equal_runs_logged_are_joined(write_run):
    a = write_run("a", {"MLE": {"test_bleu": 30.0}, "ERAC": {}})
    b = write_run("b", {"MLE": {"test_bleu": 30.0, "test_cider": 50.0}}, algorithm="mle")
    group = grouped(a, b).groups[0]
    assert group.values("test_cider") == {1: 50.0} and group.values("test_bleu") == {1: 30.0}


@pytest.mark.parametrize(
    ("key", "short"),
    [
        ("credit.tau", "tau"),
        ("joint.schedule.epochs", "joint.schedule.epochs"),
        ("joint.mle_weight", "mle_weight"),
    ],
)
def test_short_keys_name_one_setting(key, short):
    keys = ["credit.tau", "joint.schedule.epochs", "actor.schedule.epochs", "joint.mle_weight", "a.b_tau"]
    assert short_key(key, keys) == short
