"""What is handed over in Python, and again to another process that loads or continues the run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import softbellman
from softbellman import config
from softbellman.core import objects
from softbellman.core.objects import UserCodeError
from softbellman.objectives import Objective
from softbellman.training import (
    ActorObjective,
    Algorithm,
    ModelRequest,
    StageSettings,
    StageSpec,
    load_critic,
    load_run,
    run,
)
from softbellman.training.cache import deciding_facts
from softbellman.training.files import DamagedFile
from softbellman.training.record import RunRecord
from softbellman.training.settings import Settings

WORDS = [*"abcdefgh"]


@dataclass(frozen=True)
class FlatSettings(StageSettings):
    pass


class Flat(ActorObjective):
    name = "flat"

    def objective(self, batch: Any, step: int) -> Objective:
        logits, _ = self.logits(batch)
        return Objective(logits.square().mean(), {"tokens": torch.ones(())})


def flat_then_erac() -> Algorithm:
    spec = StageSpec("flat", Flat, settings=FlatSettings)
    return Algorithm("Flat, then ERAC", ("actor", spec, "warmup", "critic", "joint"))


def network(width: int) -> Any:
    """A function without a name that leads to it."""

    class Net(nn.Module):
        def __init__(self, request: ModelRequest) -> None:
            super().__init__()
            self.target = nn.Embedding(request.target_size, width)
            self.output = nn.Linear(width, request.target_size)

        def features(self, source: Tensor, prefix: Tensor) -> Tensor:
            return self.target(prefix)

        def project(self, features: Tensor) -> Tensor:
            return self.output(features)

        def projection(self) -> tuple[Tensor, Tensor]:
            return self.output.weight, self.output.bias

        def forward(self, source: Tensor, prefix: Tensor) -> Tensor:
            return self.project(self.features(source, prefix))

    return Net


def corpus(count: int) -> Any:
    def pairs(split: str) -> Iterator[tuple[str, str]]:
        for number in range(count if split == "train" else 8):
            words = [WORDS[number // 8**place % 8] for place in range(2 + number % 3)]
            yield " ".join(words), " ".join(reversed(words))

    return pairs


def scorer() -> Any:
    def share(hypotheses: list[str], references: list[list[str]]) -> list[float]:
        wanted = [set(group[0].split()) for group in references]
        return [
            len(words & set(text.split())) / len(words)
            for text, words in zip(hypotheses, wanted, strict=True)
        ]

    return share


@pytest.fixture
def brought() -> dict[str, Any]:
    return {"algorithm": flat_then_erac(), "model": network(8), "payoff": scorer(), "data": corpus(60)}


@pytest.fixture
def own(tiny_settings: Settings) -> Settings:
    short = replace(tiny_settings.actor.schedule, epochs=1, max_updates=2)
    return replace(
        tiny_settings,
        actor=replace(tiny_settings.actor, schedule=short),
        warmup=replace(tiny_settings.warmup, schedule=short),
        critic=replace(tiny_settings.critic, schedule=short),
        joint=replace(tiny_settings.joint, schedule=short),
        stages={"flat": {"schedule": {"epochs": 1, "max_updates": 2}}},
    )


def test_another_process_is_told_what_is_missing_and_given_it(
    own: Settings, brought: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(own, **brought).folder
    record = RunRecord.read(folder)
    assert {facts["name"].partition(":")[0] for facts in record.objects} == {"python"} and len(
        record.objects
    ) == 4
    monkeypatch.setattr(objects, "_handed", {})  # as in another process

    def missing(name: str) -> str:
        return rf"^{name} is python:\S+, an object that was handed over .*load_run\(RUN, {name.partition('.')[0]}=OBJECT\)"

    with pytest.raises(ValueError, match=missing("algorithm")):
        softbellman.load_run(folder)
    with pytest.raises(ValueError, match=missing("model.kind")):
        softbellman.load_run(folder, algorithm=brought["algorithm"])
    known = {key: brought[key] for key in ("algorithm", "model")}
    loaded = softbellman.load_run(folder, **known)
    assert len(loaded.translate(["a b c"])) == 1
    with pytest.raises(ValueError, match=missing("data.kind")):
        loaded.score("test")
    loaded = softbellman.load_run(folder, **known, data=brought["data"])
    assert loaded.score("test")["bleu"] >= 0.0
    with pytest.raises(ValueError, match=missing("payoff.metric")):
        loaded.credit("a b", "b a", "b a")
    loaded = softbellman.load_run(folder, **brought)
    assert len(loaded.credit("a b", "b a", "b a")) == 3

    monkeypatch.setattr(objects, "_handed", {})
    with pytest.raises(ValueError, match=missing("algorithm")):
        load_critic(folder)
    assert load_critic(folder, **known).model.output.out_features == len(load_run(folder).target_codec)
    monkeypatch.setattr(objects, "_handed", {})
    with pytest.raises(ValueError, match=missing("algorithm")):
        run(replace(own, algorithm="python:Flat_then_ERAC"), folder)
    run(own, folder, **brought)


def test_another_object_is_refused_by_name_or_by_its_source(own: Settings, brought: dict[str, Any]) -> None:
    folder = run(own, **brought).folder
    with pytest.raises(
        ValueError, match=r"algorithm was handed over as python:other, but .* is a run with python:Flat_then"
    ):
        softbellman.load_run(folder, algorithm=Algorithm("other", ("actor",)))
    with pytest.raises(
        ValueError, match=r"payoff was handed over as python:corpus\S+, but .* a run with python:\S+share"
    ):
        softbellman.load_run(folder, payoff=corpus(3))
    with pytest.raises(DamagedFile, match="the algorithm python:Flat_then_ERAC was changed"):
        softbellman.load_run(
            folder, algorithm=Algorithm("Flat, then ERAC", ("actor", "warmup", "critic", "joint"))
        )
    named = run(replace(own, algorithm="mle", stages={}, output=f"{own.output}-mle")).folder
    with pytest.raises(
        ValueError, match=r"model was handed over as .*, but .* is a run with lstm: leave it out"
    ):
        load_run(named, model=network(8))


def test_a_model_of_unknown_source_is_not_shared(
    own: Settings, brought: dict[str, Any], tmp_path: Path
) -> None:
    cached = replace(own, algorithm="mle", stages={}, cache=str(tmp_path / "cache"))
    run(cached, model=brought["model"])
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").iterdir())
    assert deciding_facts(cached, "actor") is not None


def test_what_a_name_leads_to_is_recorded_by_it(own: Settings) -> None:
    folder = run(replace(own, algorithm="mle", stages={}), data=module_level).folder
    assert load_run(folder).settings.data.kind == f"{__name__}:module_level"


def module_level(split: str) -> Iterator[tuple[str, str]]:
    return corpus(30)(split)


def paid(hypotheses: list[str], references: list[list[str]]) -> list[float]:
    return scorer()(hypotheses, references)  # type: ignore[no-any-return]


class Judge:
    """Knows its version when it is made."""

    def __init__(self) -> None:
        self.version = "of an instance"

    def __call__(self, hypotheses: list[str], references: list[list[str]]) -> list[float]:
        return paid(hypotheses, references)


class Corpus:
    def __call__(self, split: str) -> Iterator[tuple[str, str]]:
        return module_level(split)


@pytest.mark.parametrize("named", [True, False])
def test_a_class_stands_for_an_instance(tiny_settings: Settings, named: bool) -> None:
    class Here(Judge):
        pass

    class There(Corpus):
        pass

    brought: dict[str, Any] = {"payoff": Judge, "data": Corpus} if named else {"payoff": Here, "data": There}
    settings = replace(tiny_settings, algorithm="raml")
    folder = run(settings, **brought).folder
    facts = {facts["name"]: facts for facts in RunRecord.read(folder).objects}
    inside = "python:test_a_class_stands_for_an_instance.<locals>."
    payoff, data = (
        (f"{__name__}:Judge", f"{__name__}:Corpus") if named else (f"{inside}Here", f"{inside}There")
    )
    assert facts.keys() == {payoff, data} and facts[payoff]["version"] == "of an instance"
    run(settings, resume=folder, **brought)
    assert softbellman.load_run(folder, **brought).score("dev")["bleu"] >= 0.0


@pytest.mark.parametrize("argument", ["payoff", "data"])
def test_a_class_that_cannot_be_made_is_one_sentence(tiny_settings: Settings, argument: str) -> None:
    class Wanting:
        def __init__(self, folder: str) -> None:
            pass

    with pytest.raises(
        UserCodeError, match=rf"^{argument}\.\S+ python:\S+Wanting: making an instance raised Type"
    ):
        run(replace(tiny_settings, algorithm="raml"), **{argument: Wanting})  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_settings_of_a_payoff_that_is_handed_over(tiny_settings: Settings, workers: int) -> None:
    words = {"payoff.metric": "python:NAME", "payoff.workers": str(workers), "payoff.batch_size": "50"}
    payoff = config.load(Settings, overrides=words.items()).payoff
    folder = run(replace(tiny_settings, algorithm="raml", payoff=payoff), payoff=paid).folder
    stored = RunRecord.read(folder).settings
    assert stored["payoff.metric"] == f"{__name__}:paid"
    assert (stored["payoff.workers"], stored["payoff.batch_size"]) == (workers, 50)
    words.pop("payoff.metric")
    with pytest.raises(
        ValueError, match=r"handed over to run\(payoff=\.\.\.\), say payoff\.metric: python:NAME"
    ):
        config.load(Settings, overrides=words.items())


def test_handed_over_it_must_be_handed_over_again(tiny_settings, monkeypatch, tmp_path):
    flat = StageSpec("flat", Flat, settings=FlatSettings, shared=True)
    mine = Algorithm("Flat logits!", ("actor", flat))
    settings = replace(
        tiny_settings, stages={"flat": {"schedule": {"epochs": 1}}}, cache=str(tmp_path / "cache")
    )
    folder = run(settings, algorithm=mine).folder
    (facts,) = RunRecord.read(folder).objects
    assert facts["name"] == "python:Flat_logits" and len(facts["digest"]) == 64
    assert load_run(folder).settings.algorithm == "python:Flat_logits"
    assert {path.name.partition("-")[0] for path in (tmp_path / "cache").iterdir()} == {
        "actor"
    }  # of unknown source
    run(settings, resume=folder, algorithm=mine)
    other = Algorithm("Flat logits!", (flat, "actor"))
    with pytest.raises(DamagedFile, match="the algorithm python:Flat_logits was changed"):
        run(settings, resume=folder, algorithm=other)
    monkeypatch.setattr(objects, "_handed", {})  # as in another process
    with pytest.raises(ValueError, match=r"was handed over in Python .* hand it over again"):
        load_run(folder)
    with pytest.raises(TypeError, match=r"algorithm must be a softbellman\.training\.Algorithm, got 3"):
        run(settings, algorithm=3)
