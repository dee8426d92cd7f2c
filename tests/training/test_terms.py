"""The gradients of the terms of an actor's loss: those of an update with one term alone, and measuring them changes nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from small_updates import CPU, settings_of
from torch import Tensor

from softbellman.data import PAD, Batch
from softbellman.training.assembly import Assembly
from softbellman.training.stages import Stage
from softbellman.training.task import Task, load_task
from softbellman.training.terms import gradient_norms

STAGES: dict[str, tuple[str, dict[str, str]]] = {
    "learnt baseline": ("sequence", {"algorithm": "reinforce"}),
    "baseline of the batch": ("sequence", {"algorithm": "reinforce", "sequence.baseline": "batch"}),
    "self-critical": ("sequence", {"algorithm": "scst"}),
    "other samples": ("sequence", {"algorithm": "rloo", "sequence.samples": "3"}),
    "references kept": ("sequence", {"algorithm": "mixer"}),
    "risk": ("sequence", {"algorithm": "mrt", "sequence.with_reference": "true"}),
    "risk, chunked": ("sequence", {"algorithm": "mrt", "logits": "chunked"}),
    "values of states": ("consistency", {"algorithm": "pcl", "credit.tau": "0.1"}),
    "values of the policy": (
        "consistency",
        {"algorithm": "pcl", "credit.tau": "0.1", "consistency.value": "unified"},
    ),
    "completions of drawn": ("completion", {"algorithm": "ocd", "completion.states": "samples"}),
    "completions of edits": ("completion", {"algorithm": "ocd", "completion.states": "edits"}),
}
DRY = {
    "actor.dropout": "0",
    "critic.dropout": "0",
    "sequence.optimizer.clip": "1e9",
    "consistency.actor_optimizer.clip": "1e9",
    "completion.optimizer.clip": "1e9",
}


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(settings_of({}).data)


def built(task: Task, case: str, weight: float, **overrides: str) -> tuple[Assembly, Any, list[Batch]]:
    """A stage with that weight of the likelihood, and the validation sentences it measures on."""
    stage, own = STAGES[case]
    parts = Assembly(settings_of({**DRY, **own, f"{stage}.mle_weight": str(weight), **overrides}), task, CPU)
    return parts, parts.build(stage), parts.first_of_dev(100, 50)


def norm_of(gradients: list[Tensor | None]) -> float:
    return math.sqrt(sum(float(one.double().square().sum()) for one in gradients if one is not None))


@pytest.mark.parametrize("case", STAGES)
def test_the_gradient_of_the_payoffs_is_that_of_an_update_without_likelihood(task: Task, case: str) -> None:
    _, stage, sentences = built(task, case, 0.3)
    assert len(sentences) == 1  # the small task has fewer than 50
    found = stage.evaluate()
    _, alone, _ = built(task, case, 0.0)
    assert not any(name.startswith("gradient") for name in alone.evaluate())
    alone.modules["actor"].train()
    alone.update(sentences[0], 0)
    wanted = norm_of([weight.grad for weight in alone.modules["actor"].parameters()])
    assert wanted > 1e-4
    assert found["gradient_payoff"] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("case", ["learnt baseline", "values of states", "completions of drawn"])
def test_the_gradient_of_the_likelihood_is_that_of_plain_pytorch(task: Task, case: str) -> None:
    parts, stage, sentences = built(task, case, 0.3)
    (batch,) = sentences
    found = stage.evaluate()["gradient_likelihood"]
    logits = parts.actor(batch.source, batch.prefix)
    nll = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.labels.flatten(), ignore_index=PAD, reduction="sum"
    )
    gradients = torch.autograd.grad(0.3 * nll / len(batch), list(parts.actor.parameters()), allow_unused=True)
    assert found == pytest.approx(norm_of(list(gradients)), rel=1e-4)


@pytest.mark.parametrize("case", STAGES)
def test_measuring_changes_nothing(task: Task, case: str) -> None:
    """Neither weights, gradients, the mode of the networks, nor draws, though dropout is on in it."""
    _, stage, sentences = built(task, case, 0.3, **{"actor.dropout": "0.3"})

    def state(stage: Stage) -> list[Tensor]:
        weights = [
            value.clone() for module in stage.modules.values() for value in module.state_dict().values()
        ]
        modes = [module.training for whole in stage.modules.values() for module in whole.modules()]
        return [*weights, torch.tensor(modes), torch.get_rng_state()]

    stage.update(sentences[0], 0)  # gradients to be kept
    gradients = [one.grad for module in stage.modules.values() for one in module.parameters()]
    before = state(stage)
    held = [None if one is None else one.clone() for one in gradients]
    first = stage.evaluate()
    torch.manual_seed(7)
    before[-1] = torch.get_rng_state()
    second = stage.evaluate()
    for left, right in zip(before, state(stage), strict=True):
        assert torch.equal(left, right)
    now = [one.grad for module in stage.modules.values() for one in module.parameters()]
    for kept, gradient in zip(held, now, strict=True):
        assert (kept is None) == (gradient is None)
        assert kept is None or (gradient is not None and torch.equal(kept, gradient))
    terms = ("gradient_payoff", "gradient_likelihood")
    assert [first[term] for term in terms] == [second[term] for term in terms]


def test_gradients_of_several_batches_are_of_their_mean() -> None:
    """Weighted by their sources; a term that does not reach a weight leaves it out."""
    actor = torch.nn.Linear(3, 1)
    used = actor.weight

    class Few:
        def __init__(self, count: int) -> None:
            self.count, self.source = count, torch.zeros(count, 1)

        def __len__(self) -> int:
            return self.count

    def term(batch: Any, step: int) -> Tensor:
        return (step + 1) * used.sum()

    found = gradient_norms(actor, {"payoff": term}, [Few(1), Few(3)])  # type: ignore[list-item]
    assert found == {"gradient_payoff": pytest.approx((0.25 * 1 + 0.75 * 2) * math.sqrt(3))}
