"""Algorithms and descriptions of stages say at once what of them is wrong."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from softbellman.training import ActorObjective, Algorithm, StageSettings, StageSpec


def spec(name: str, **given) -> StageSpec:
    return StageSpec(name, lambda parts, settings: None, **given)


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (("aktor",), "got 'aktor'; nearest: 'actor'"),
        (("actor", spec("joint")), "must have a name of its own, got 'joint'"),
        ((spec("mine"), spec("mine")), "must be different ones, got mine, mine"),
        ("actor", "the stages of Mine must be a tuple, got 'actor'; write a comma"),
        (spec("mine"), "the stages of Mine must be a tuple, got StageSpec"),
        (("actor", ActorObjective), "of the package or StageSpec objects, got <class 'softbellman"),
    ],
)
def test_an_algorithm_checks_its_stages(order, words):
    with pytest.raises(ValueError, match=words):
        Algorithm("Mine", order)


def test_an_algorithm_checks_its_reader():
    with pytest.raises(ValueError, match="reader of Mine must be critic or oracle, got 'reader'"):
        Algorithm("Mine", ("actor",), reader="reader")


@dataclass(frozen=True)
class Unscheduled:
    gamma: float = 1.0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"trains": ("critic",)}, "trains of the stage mine must be of actor, reader, got 'critic'"),
        ({"trains": "actor"}, "trains of the stage mine must be a tuple, got 'actor'; write"),
        ({"uses": ("actor", "oracle")}, "uses of the stage mine must be of actor, reader, got 'oracle'"),
        ({"traits": ("foo",)}, "traits of the stage mine must be of actor, values, .*, weights, got 'foo'"),
        ({"reads": ("paioff",)}, "reads of the stage mine must be sections .*, got 'paioff'; nearest: 'payoff'"),
        ({"reads": ("credit.tao",)}, r"or SECTION\.KEY, got 'credit\.tao'; nearest: 'credit\.tau'"),
        ({"reads": ("actor.schedule.epochs",)}, r"got 'actor\.schedule\.epochs'; nearest: 'actor\.schedule'"),
        ({"reads": ("seed",)}, "reads of the stage mine must be sections of the settings.*, got 'seed'"),
        ({"ignores": ("credit.trase",)}, r"ignores .* must be keys .*, got 'credit\.trase'; nearest: 'credit\.trace'"),
        ({"metrics": {"foo": "tokens"}}, r"metrics .* must be Metric\(per, unit\) objects, got 'tokens' for foo"),
        ({"settings": dict}, "settings .* must be a dataclass with a schedule.*, got <class 'dict'>"),
        ({"settings": Unscheduled}, "settings .* must be a dataclass with a schedule.*, got <class .*Unscheduled"),
        ({"settings": StageSettings()}, r"settings .* must be a dataclass with a schedule.*, got StageSettings\("),
    ],
)  # fmt: skip
def test_a_spec_checks_its_names(given, words):
    with pytest.raises(ValueError, match=words):
        spec("mine", **given)
    with pytest.raises(ValueError, match="must be of lower-case letters"):
        spec("My Stage", **given)


def test_a_stage_uses_what_it_trains():
    assert spec("mine", trains=("reader",)).uses == ("actor", "reader")
    assert spec("mine", trains=("reader",), uses=("reader",)).uses == ("reader",)
    read = ("payoff", "credit.tau", "evaluation")
    assert spec("mine", reads=read, ignores=("credit.trace",)).reads == read
