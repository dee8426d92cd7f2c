"""Averaged weights of the actor, in every stage that trains it."""

from __future__ import annotations

import itertools

import pytest
import torch
from small_updates import CPU, settings_of
from torch import Tensor, nn

from softbellman.training.assembly import Assembly
from softbellman.training.settings import Settings
from softbellman.training.stages import SPECS, Stage
from softbellman.training.stages.averaged import AveragedStage
from softbellman.training.task import Task, load_task

DECAY = 0.75
UPDATES = 4
STAGES = {
    "actor": {},
    "joint": {"joint.actor_delay": "1", "credit.prior": "start", "credit.tau": "0.3"},
    "augmented": {"algorithm": "raml", "augmented.start": "actor"},
    "completion": {"algorithm": "ocd", "completion.start": "actor"},
    "scheduled": {"algorithm": "scheduled", "scheduled.start": "actor"},
    "interpolated": {"algorithm": "interpolation", "interpolated.start": "actor"},
    "sequence": {"algorithm": "scst", "sequence.baseline": "greedy"},
    "consistency": {"algorithm": "pcl", "credit.tau": "0.3", "credit.prior": "start"},
    "search": {"algorithm": "bso"},
    "professor": {"algorithm": "professor_forcing", "professor.start": "actor"},
}


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(settings_of({}).data)


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def built(task: Task, name: str, overrides: dict[str, str], decay: float) -> tuple[Assembly, Stage]:
    settings: Settings = settings_of({"algorithm": "erac", **overrides, f"{name}.average": str(decay)})
    parts = Assembly(settings, task, CPU)
    return parts, parts.build(name)


def updated(parts: Assembly, stage: Stage, network: nn.Module) -> list[dict[str, Tensor]]:
    """The weights of a network before and after each of some updates."""
    found = [weights(network)]
    batches = parts.train_batches(stage.schedule, stage.name).epoch(0)
    for step, batch in enumerate(itertools.islice(batches, UPDATES)):
        torch.manual_seed(step)  # dropout
        stage.update(batch, step)
        found.append(weights(network))
    return found


def test_every_stage_that_trains_the_actor_is_here() -> None:
    fixed = {"future"}  # a value of the search; the actor stays
    assert {name for name, spec in SPECS.items() if spec.trains_actor} - fixed == set(STAGES)


@pytest.mark.parametrize("name", STAGES)
def test_the_average_is_that_of_the_weights_after_each_update(task: Task, name: str) -> None:
    parts, stage = built(task, name, STAGES[name], DECAY)
    assert isinstance(stage, AveragedStage) and stage.modules["actor"] is parts.actor
    path = updated(parts, stage, stage.modules["trained_actor"])
    expected = path[0]
    for after in path[1:]:
        expected = {key: DECAY * expected[key] + (1 - DECAY) * value for key, value in after.items()}
    assert any(not torch.equal(path[0][key], value) for key, value in path[-1].items()), "nothing was trained"
    for key, value in parts.actor.state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=1e-5, atol=1e-7)
    plain = built(task, name, STAGES[name], 0.0)
    for mine, other in zip(path, updated(*plain, plain[0].actor), strict=True):
        assert all(torch.equal(mine[key], value) for key, value in other.items()), (
            "the average changed training"
        )


def test_new_weights_at_the_start_are_those_of_the_average_too(task: Task) -> None:
    parts, stage = built(task, "augmented", {"algorithm": "raml", "augmented.start": "scratch"}, DECAY)
    before = weights(Assembly(parts.settings, task, CPU).actor)
    trained = stage.modules["trained_actor"].state_dict()
    assert all(torch.equal(value, trained[key]) for key, value in parts.actor.state_dict().items())
    assert any(not torch.equal(value, before[key]) for key, value in parts.actor.state_dict().items())


@pytest.mark.parametrize("name", STAGES)
def test_validation_decodes_the_average(task: Task, name: str) -> None:
    parts, stage = built(task, name, STAGES[name], DECAY)

    def ratio() -> float:
        return stage.evaluate()["dev_length_ratio"]

    def erase(network: nn.Module) -> None:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()

    before = ratio()
    erase(stage.modules["trained_actor"])
    assert ratio() == before
    erase(parts.actor)
    assert ratio() != before
