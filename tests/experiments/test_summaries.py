"""Means, sample standard deviations and paired differences by hand."""

from __future__ import annotations

import math

import pytest

from softbellman.experiments import collect_runs, compare, group_runs, paired_difference, summarise


def test_summary_by_hand():
    assert summarise([]) is None
    assert summarise([4.0]) == (1, 4.0, None)
    count, mean, deviation = summarise([1.0, 2.0, 6.0])
    assert (count, mean) == (3, 3.0) and deviation == pytest.approx(math.sqrt((4 + 1 + 9) / 2))


def test_paired_difference_by_hand():
    found = paired_difference({1: 5.0, 2: 3.0, 3: 4.0, 4: 9.0}, {1: 2.0, 2: 4.0, 3: 4.0, 9: 1.0})
    assert found.by_seed == {1: 3.0, 2: -1.0, 3: 0.0}
    assert found.summary.mean == pytest.approx(2 / 3) and found.agreeing == 1
    assert found.summary.deviation == pytest.approx(math.sqrt(((3 - 2 / 3) ** 2 + (5 / 3) ** 2 + 4 / 9) / 2))
    assert paired_difference({1: 1.0, 2: 2.0}, {1: 2.0, 2: 3.0}).agreeing == 2
    assert paired_difference({1: 1.0}, {1: 1.0}).agreeing == 0
    assert paired_difference({1: 1.0}, {2: 1.0}) is None


def groups_of(*paths):
    return group_runs(collect_runs(paths).runs).groups


@pytest.mark.parametrize("name", ["mle", "MLE"])
def test_comparison_by_seed(three_seeds, name):
    (found,) = compare(groups_of(*three_seeds), name, ["test_bleu", "nothing"])
    assert found.group.name == "ERAC" and found.baseline.name == "MLE" and found.unpaired == ()
    difference = found.differences["test_bleu"]
    assert difference.by_seed == {1: 3.0, 2: -1.0, 3: 1.0}
    assert difference.summary == (3, 1.0, 2.0) and difference.agreeing == 2
    assert "nothing" not in found.differences


def test_seeds_without_a_partner_are_told(three_seeds, write_run):
    raml = [
        write_run(f"raml-{seed}", {"MLE": {"test_bleu": 1.0}, "RAML": {"test_bleu": 2.0}}, algorithm="raml",
                  seed=seed, **{"actor.dropout": "0.5"})
        for seed in (1, 8)
    ]  # fmt: skip
    groups = groups_of(*three_seeds, *raml)
    against = {found.group.name: found for found in compare(groups, "erac", ["test_bleu"])}
    assert against["RAML"].unpaired == (8,)
    assert against["RAML"].differences["test_bleu"].by_seed == {1: -33.0}


def test_each_group_is_compared_with_its_own_start(write_run):
    def pair(number, dropout, start, end):
        scores = {"MLE": {"test_bleu": start}, "ERAC": {"test_bleu": end}}
        return write_run(f"r{number}", scores, **{"actor.dropout": dropout})

    paths = [pair(1, "0.1", 10.0, 11.0), pair(2, "0.2", 20.0, 25.0)]
    found = compare(groups_of(*paths), "mle", ["test_bleu"])
    assert [(c.group.name, c.baseline.name) for c in found] == [
        ("ERAC (actor.dropout 0.1)", "MLE (dropout 0.1)"),
        ("ERAC (actor.dropout 0.2)", "MLE (dropout 0.2)"),
    ]
    assert [c.differences["test_bleu"].summary.mean for c in found] == [1.0, 5.0]
    (single, *_) = compare(groups_of(*paths), "MLE (dropout 0.2)", ["test_bleu"])
    assert single.baseline.name == "MLE (dropout 0.2)"
    raml = write_run("raml", {"MLE": {}, "RAML": {}}, algorithm="raml", **{"actor.dropout": "0.3"})
    with pytest.raises(ValueError, match=r"'erac' is several groups: 'ERAC .*0\.1.*; name the one that MLE"):
        compare(groups_of(*paths, raml), "erac", ["test_bleu"])
    with pytest.raises(ValueError, match="--baseline 'vaml' is none of the groups: 'MLE"):
        compare(groups_of(*paths), "vaml", ["test_bleu"])


def test_a_run_is_compared_with_the_start_it_had_itself(write_run):
    """Two starts of one seed differ, as with another thread count: the table has the first, each pair its own."""
    a = write_run("a", {"MLE": {"test_bleu": 30.0}, "ERAC": {"test_bleu": 31.0}})
    b = write_run("b", {"MLE": {"test_bleu": 28.0}, "RAML": {"test_bleu": 31.0}}, algorithm="raml")
    found = {
        c.group.name: c.differences["test_bleu"].by_seed
        for c in compare(groups_of(a, b), "mle", ["test_bleu"])
    }
    assert found == {"ERAC": {1: 1.0}, "RAML": {1: 3.0}}
