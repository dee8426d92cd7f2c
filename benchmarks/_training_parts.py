"""Where the time of our update goes: by part of the update, and by torch operator.

The parts are timed by wrapping the functions an update calls, under the names their modules use; a part's time
leaves out that of the parts it calls.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch

from benchmarks._training_cases import Case
from softbellman.data import Batch
from softbellman.payoffs.payoff import Payoff
from softbellman.training import edited, rollout
from softbellman.training import likelihood as of_references
from softbellman.training.stages import (
    actor_critic,
    augmented,
    completion,
    drawing,
    evaluating,
    likelihood,
)

FUNCTIONS: tuple[tuple[Any, str, str], ...] = (
    (drawing, "roll_out", "sampling"),
    (Payoff, "rewards", "payoff"),
    (edited, "sample_edits", "edits"),
    (edited, "importance_weights", "edits"),
    (augmented, "share_prefixes", "edits"),
    (evaluating.PolicyEvaluation, "encode", "actor forward"),
    (torch.Tensor, "backward", "backward"),
    *(
        (stage, loss, "losses")
        for stage, losses in (
            (evaluating, ("policy_value", "critic_objective")),
            (actor_critic, ("actor_objective", "policy_gradient")),
            (of_references, ("maximum_likelihood",)),
            (augmented, ("soft_q_objective", "weighted_likelihood", "oracle_distillation")),
            (completion, ("known_distillation",)),
        )
        for loss in losses
    ),
)
FORWARDS = (
    (evaluating, ("row_logits", "row_features")),
    (drawing, ("row_features",)),
    (rollout, ("row_logits", "row_features")),
)
DESCENTS = (actor_critic, likelihood, augmented)


class Clock:
    """Seconds by part, each without the parts it contains."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.seconds: dict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._turn()
        self._running.append(name)
        try:
            yield
        finally:
            self._turn()
            self._running.pop()

    def _turn(self) -> None:
        """Give the time since the last turn to the innermost part."""
        now = self.now()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now


def time_parts(
    case: Case, batches: list[Batch], now: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Mean seconds of each part of our update, by name."""
    clock = Clock(now)
    networks = {id(module): name for name, module in _networks(case).items()}
    descending: list[str] = []

    def timed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            label = f"{descending[-1]} backward" if name == "backward" and descending else name
            with clock.part(label):
                return function(*arguments, **options)

        return call

    def forward(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(model: Any, *arguments: Any, **options: Any) -> Any:
            with clock.part(f"{networks.get(id(model), 'network')} forward"):
                return function(model, *arguments, **options)

        return call

    def descent(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(loss: Any, module: Any, *arguments: Any, **options: Any) -> Any:
            descending.append(networks.get(id(module), "network"))
            try:
                with clock.part("clipping and optimiser"):
                    return function(loss, module, *arguments, **options)
            finally:
                descending.pop()

        return call

    with ExitStack() as stack:
        for owner, function_name, part in FUNCTIONS:
            wrapped = timed(getattr(owner, function_name), part)
            stack.enter_context(mock.patch.object(owner, function_name, wrapped))
        for owner, names in FORWARDS:
            for name in names:
                stack.enter_context(mock.patch.object(owner, name, forward(getattr(owner, name))))
        for owner in DESCENTS:
            stack.enter_context(mock.patch.object(owner, "descend", descent(owner.descend)))
        for batch in batches:
            with clock.part("the rest"):
                case.ours(batch)
    return {name: seconds / len(batches) for name, seconds in clock.seconds.items()}


def _networks(case: Case) -> dict[str, torch.nn.Module]:
    networks = dict(case.stage.modules)
    if getattr(case.stage, "evaluation", None) is not None:
        networks["actor"] = case.stage.evaluation.actor  # type: ignore[attr-defined]
    if getattr(case.stage, "oracle", None) is not None:
        networks["oracle"] = case.stage.oracle  # type: ignore[attr-defined]
    return networks


def operator_table(case: Case, batches: list[Batch], rows: int = 12) -> str:
    """Torch's own profile of our updates, the operators that take most first."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for batch in batches:
            case.ours(batch)
    events = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    lines = [
        f"    {event.self_cpu_time_total / total:6.1%}  {event.count / len(batches):7.1f} calls  {event.key}"
        for event in events[:rows]
    ]
    return "\n".join(lines)
