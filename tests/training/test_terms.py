"""The gradients of the terms of an actor's loss: those of an update with one term alone, and measuring them changes nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from small_updates import CPU, settings_of
from torch import Tensor

from softbellman.data import PAD, Batch
from softbellman.training import processes
from softbellman.training.assembly import Assembly
from softbellman.training.own_algorithm import algorithm_of
from softbellman.training.settings import ScheduleSettings
from softbellman.training.stages import Stage
from softbellman.training.task import Task, load_task
from softbellman.training.terms import gradient_norms, of_validation

STAGES: dict[str, tuple[str, dict[str, str]]] = {
    "learnt baseline": ("sequence", {"algorithm": "reinforce", "sequence.baseline": "learnt"}),
    "baseline of the batch": ("sequence", {"algorithm": "reinforce", "sequence.baseline": "batch"}),
    "self-critical": ("sequence", {"algorithm": "scst"}),
    "other samples": ("sequence", {"algorithm": "rloo", "sequence.samples": "3"}),
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
    settings = settings_of({**DRY, **own, f"{stage}.mle_weight": str(weight), **overrides})
    parts = Assembly(algorithm_of(settings).settle(settings), task, CPU)
    return parts, parts.build(stage), parts.first_of_dev(100, 50)


def norm_of(gradients: list[Tensor | None]) -> float:
    return math.sqrt(sum(float(one.double().square().sum()) for one in gradients if one is not None))


WHAT_IS_BUILT: dict[str, dict[str, object]] = {
    "learnt baseline": {"objective": "policy_gradient", "baseline": "learnt"},
    "baseline of the batch": {"objective": "policy_gradient", "baseline": "batch"},
    "self-critical": {"objective": "policy_gradient", "baseline": "greedy"},
    "other samples": {"objective": "policy_gradient", "baseline": "others"},
    "risk": {"objective": "minimum_risk", "with_reference": True},
    "risk, chunked": {"objective": "minimum_risk"},
    "values of the policy": {"value": "unified"},
    "values of states": {"value": "separate"},
    "completions of drawn": {"states": "samples"},
    "completions of edits": {"states": "edits"},
}


@pytest.mark.parametrize("case", STAGES)
def test_the_cases_are_what_they_are_called(task: Task, case: str) -> None:
    _, stage, _ = built(task, case, 0.3)
    found = {name: getattr(stage._settings, name) for name in WHAT_IS_BUILT[case]}
    assert found == WHAT_IS_BUILT[case]


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


class Few:
    """A batch by its size alone."""

    def __init__(self, count: int) -> None:
        self.count, self.source = count, torch.zeros(count, 1)

    def __len__(self) -> int:
        return self.count


def norms(actor: torch.nn.Module, term: Any, *batches: Any) -> dict[str, float]:
    return gradient_norms(actor, {"payoff": term}, batches)


def test_gradients_of_several_batches_are_of_their_mean() -> None:
    """Weighted by their sources; a weight that the term does not reach is left out."""
    actor = torch.nn.Linear(3, 1)
    found = norms(actor, lambda batch, step: (step + 1) * actor.weight.sum(), Few(1), Few(3))
    assert found == {"gradient_payoff": pytest.approx((0.25 * 1 + 0.75 * 2) * math.sqrt(3))}
    assert actor.weight.grad is None and actor.bias.grad is None


def test_running_means_stay_and_checkpointed_layers_work() -> None:
    """A model of one's own may have batch normalisation, or compute its activations again in the backward pass."""
    inner, norm = torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)
    actor = torch.nn.Sequential(inner, norm)
    actor(torch.randn(4, 3)).sum().backward()
    before = [buffer.clone() for buffer in actor.buffers()]
    kept = [weight.grad.clone() for weight in actor.parameters() if weight.grad is not None]
    assert len(kept) == 4

    def term(batch: Any, step: int) -> Tensor:
        inputs = torch.randn(4, 3, requires_grad=True)
        found = torch.utils.checkpoint.checkpoint(actor, inputs, use_reentrant=True)
        total: Tensor = found.square().sum() + found.pow(3).sum()
        return total

    assert norms(actor, term, Few(1))["gradient_payoff"] > 0
    for left, right in zip(before, actor.buffers(), strict=True):
        assert torch.equal(left, right)
    for gradient, weight in zip(kept, actor.parameters(), strict=True):
        assert weight.grad is not None and torch.equal(gradient, weight.grad)


def test_processes_do_not_wait_for_each_other_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them measure the same sentences: sums over the processes would count each several times."""
    monkeypatch.setattr(processes, "_current", object())
    seen = []
    actor = torch.nn.Linear(2, 1)

    def term(batch: Any, step: int) -> Tensor:
        seen.append(processes.current())
        return actor.weight.sum()

    norms(actor, term, Few(2))
    assert seen == [processes.ALONE] and processes.current() is not processes.ALONE


@pytest.mark.parametrize(
    ("schedule", "rows"),
    [
        (ScheduleSettings(batch_size=32), 32),
        (ScheduleSettings(batch_size=400), 50),
        (ScheduleSettings(batch_size=32, accumulate=8), 4),
        (ScheduleSettings(batch_size=2, accumulate=8), 1),
        (ScheduleSettings(batch_size=600, batch_unit="tokens"), 20),
    ],
)
def test_batches_are_no_larger_than_those_of_updates(schedule: ScheduleSettings, rows: int) -> None:
    asked: list[tuple[int, int]] = []

    class Parts:
        settings = settings_of({"data.max_length": "30"})

        def first_of_dev(self, count: int, batch_size: int) -> list[Batch]:
            asked.append((count, batch_size))
            return []

    of_validation(Parts(), schedule)()  # type: ignore[arg-type]
    assert asked == [(100, rows)]


def test_mixer_is_left_out(task: Task) -> None:
    """The references that it keeps are a likelihood within its own loss."""
    settings = settings_of({**DRY, "algorithm": "mixer", "sequence.mle_weight": "0.3"})
    stage = Assembly(algorithm_of(settings).settle(settings), task, CPU).build("sequence")
    assert not any(name.startswith("gradient") for name in stage.evaluate())
