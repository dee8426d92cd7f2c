"""The payoff of a run: made from its settings, found again when the run is continued, tried on a sample of its data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from softbellman.core.objects import UserObject, facts_of, what_changed
from softbellman.payoffs.batches import pad_references
from softbellman.payoffs.payoff import Payoff, prepare_payoff
from softbellman.training.own_algorithm import algorithm_of
from softbellman.training.resumption import ResumeError
from softbellman.training.settings import MEAN_PAYOFF, Settings
from softbellman.training.task import Task

SAMPLED = 16
"""Training sources whose references are scored at the start."""

LARGE = 10.0
"""Payoff of a token, where one of BLEU's earns about 1, from which a temperature made for BLEU's is next to 0."""


def build_payoff(
    settings: Settings,
    task: Task,
    *,
    device: torch.device,
    given: UserObject | None = None,
    recorded: Sequence[dict[str, str]] = (),
) -> Payoff:
    """The payoff of a run.

    Args:
        settings, task: of the run.
        device: where hypotheses will be scored.
        given: what was handed over in Python, `payoff.metric` by name.
        recorded: objects of the run's record, where it is continued or read.

    Raises:
        ValueError, UserCodeError: as `prepare_payoff`.
        ResumeError: a file or a version is not the recorded one.
    """
    payoff = prepare_payoff(
        settings.payoff,
        task.train.references,
        device=device,
        eos_id=task.special.eos,
        unknown_id=task.special.unknown,
        decode=task.target_codec.decode,
        given=given,
        recorded=recorded,
    )
    check_objects(recorded, payoff.objects)
    return payoff


def check_objects(recorded: Sequence[dict[str, str]], found: Sequence[UserObject]) -> None:
    """Raises ResumeError that names a payoff which is not the one that the run was started with."""
    for one in found:
        known = facts_of(recorded, one.name)
        change = None if known is None else what_changed(known, one)
        if change is not None:
            raise ResumeError(
                f"the payoff {one.name} {change}: it is not the one that the run was started with; restore it, or start a "
                "new run"
            )


def try_payoff(payoff: Payoff, settings: Settings, task: Task, *, device: torch.device) -> list[str]:
    """Score a few sequences of the training data; sentences about what a run should not begin with.

    Each of some references is scored as it is, and so are its first half and the reference of the next source. A payoff of
    kernels is not tried.

    Args:
        payoff, settings, task: of the run.
        device: where hypotheses are scored.

    Raises:
        ValueError, UserCodeError: what the user's payoff did wrong.
    """
    algorithm = algorithm_of(settings)
    if settings.payoff.is_native:
        return []
    if not algorithm.uses("payoff.metric"):
        unread = payoff.objects and MEAN_PAYOFF not in settings.evaluation.measured
        return [f"payoff {settings.payoff.metric} is read by no stage of {algorithm.title}"] if unread else []
    groups = task.train.references[:SAMPLED]
    rows = [
        [own[0], own[0][: (len(own[0]) + 1) // 2], following[0]]
        for own, following in zip(groups, [*groups[1:], groups[0]], strict=True)
    ]
    tokens, lengths = pad_references([[[*row, task.special.eos] for row in group] for group in rows])
    references, reference_lengths = pad_references(groups)
    scores = payoff.rewards(
        tokens.to(device),
        references.to(device),
        hypothesis_lengths=lengths.to(device),
        reference_lengths=reference_lengths.to(device),
        dtype=torch.float64,
    ).sum(-1)  # (B, 3)
    return _judge(scores.cpu(), [len(group[0]) for group in groups], settings, len(task.target_codec))


def _judge(scores: torch.Tensor, lengths: Sequence[int], settings: Settings, vocabulary: int) -> list[str]:
    name, spread = settings.payoff.metric, scores.max(1).values - scores.min(1).values
    if not bool(spread.any()):
        return [
            f"payoff {name} scores right and wrong sentences of a source alike, in each of {len(scores)} samples: nothing can "
            "be learnt from it"
        ]
    found = _temperature(settings)
    if found is None:
        return []
    (key, tau), earned = found, float((spread / torch.tensor(lengths).double()).mean())
    said = f"payoff {name} tells sample sentences, right and wrong ones, apart by {earned:.3g} a token"
    if earned > LARGE:
        instead = f", or raise {key} from {tau:g}" if tau else ""
        return [f"{said}, where BLEU's tokens earn about 1: divide it{instead}"]
    worth = tau * math.log(vocabulary)
    if worth > earned:
        return [
            f"{said}, less than {key} log V = {worth:.3g}, what the entropy of a token is worth: multiply it, or lower {key} "
            f"from {tau:g}"
        ]
    return []


def _temperature(settings: Settings) -> tuple[str, float] | None:
    """The temperature that the payoff meets, with its key; None where it is logged alone."""
    algorithm = algorithm_of(settings)
    met = [spec.temperature for spec in algorithm.specs if spec.temperature is not None]
    return met[-1](settings, algorithm) if met else None
