"""Families of operators that train a policy on known tokens or on targets: arguments, calls, bounds of rounding errors."""

from __future__ import annotations

import math
from types import ModuleType

import torch
from torch import Tensor

from losses.family_parts import (
    column,
    largest,
    logits_and_values,
    one_hot,
    random_ids,
    random_numbers,
    unmasked,
)
from losses.harness import Arguments, Family, Results, finite
from softbellman.reference.rows import log_softmax

# ---- distillation ------------------------------------------------------------------------------------------


def _mixture_make(shape: tuple[int, ...], generator: torch.Generator) -> Arguments:
    weight = torch.rand(shape[:-1], generator=generator, dtype=torch.float64).to(torch.float32).double()
    return {
        "logits": random_numbers(shape, generator),
        "q": random_numbers(shape, generator),
        "tau": 0.7,
        "targets": random_ids(shape, generator),
        "oracle_weight": weight,
        "mask": None,
    }


def _cross_entropy_magnitude(arguments: Arguments, upstream: Results) -> Results:
    (logits,) = unmasked(arguments, "logits")
    policy, log_policy = log_softmax(logits)
    gradient = column(upstream["loss"].abs())
    loss = 2 * largest(logits) + 1 + math.log(logits.shape[-1])
    grad_logits = policy * (2 + 2 * largest(logits))
    if "q" in arguments:
        (q,) = unmasked(arguments, "q")
        tau = float(str(arguments["tau"]))
        oracle = log_softmax(q / tau)[0] * (2 + 2 * largest(q) / tau)
        loss = loss + (oracle * (finite(log_policy).abs() + largest(logits))).sum(-1, keepdim=True)
        grad_logits = grad_logits + oracle
    if arguments.get("targets") is not None:
        grad_logits = grad_logits + one_hot(arguments, "targets", logits)
    return {"loss": loss.squeeze(-1), "grad logits": gradient * grad_logits}


def _soft_target_call(module: ModuleType, arguments: Arguments) -> Results:
    return {"loss": module.soft_target_cross_entropy(**arguments)}


MIXTURE = Family(
    name="soft_target_cross_entropy, mixed",
    make=_mixture_make,
    call=_soft_target_call,
    rows=("logits", "q"),
    gradients=("logits",),
    outputs=("loss",),
    magnitude=_cross_entropy_magnitude,
    per_row=("targets", "oracle_weight"),
)
SOFT_TARGET = Family(
    name="soft_target_cross_entropy",
    make=lambda shape, generator: {**logits_and_values(shape, generator), "tau": 0.7},
    call=_soft_target_call,
    rows=("logits", "q"),
    gradients=("logits",),
    outputs=("loss",),
    magnitude=_cross_entropy_magnitude,
)
TOKEN = Family(
    name="token_cross_entropy",
    make=lambda shape, generator: {
        "logits": random_numbers(shape, generator),
        "targets": random_ids(shape, generator),
        "mask": None,
    },
    call=lambda module, arguments: {"loss": module.token_cross_entropy(**arguments)},
    rows=("logits",),
    gradients=("logits",),
    outputs=("loss",),
    magnitude=_cross_entropy_magnitude,
    per_row=("targets",),
)

# ---- statistics of a token ----------------------------------------------------------------------------------

OBJECTIVE_WEIGHTS = (
    "log_prob_weights",
    "entropy_weights",
    "normalizer_weights",
    "squared_normalizer_weights",
)
STATISTICS = ("log_prob", "entropy", "log_normalizer")


def _statistics_make(shape: tuple[int, ...], generator: torch.Generator) -> Arguments:
    return {"logits": random_numbers(shape, generator), "targets": random_ids(shape, generator), "mask": None}


def _statistics_magnitude(arguments: Arguments, upstream: Results) -> Results:
    (logits,) = unmasked(arguments, "logits")
    policy, log_policy = log_softmax(logits)
    normalizer = largest(logits) + 1 + math.log(logits.shape[-1])
    amplified = 2 + largest(logits) + log_policy.abs()
    entropy = (policy * (log_policy.abs() + 1) * amplified).sum(-1, keepdim=True)
    of_target, of_entropy, of_normalizer = (column(upstream[name].abs()) for name in STATISTICS)
    slope = of_target + of_normalizer + of_entropy * (log_policy.abs() + entropy)
    gradient = policy * amplified * slope + of_target * one_hot(arguments, "targets", logits)
    return {
        "log_prob": (normalizer + largest(logits)).squeeze(-1),
        "entropy": entropy.squeeze(-1),
        "log_normalizer": normalizer.squeeze(-1),
        "grad logits": gradient,
    }


TOKEN_STATISTICS = Family(
    name="token_statistics",
    make=_statistics_make,
    call=lambda module, arguments: dict(zip(STATISTICS, module.token_statistics(**arguments), strict=True)),
    rows=("logits",),
    gradients=("logits",),
    outputs=STATISTICS,
    magnitude=_statistics_magnitude,
    per_row=("targets",),
    function="token_statistics",
)


def _objective_make(shape: tuple[int, ...], generator: torch.Generator) -> Arguments:
    def weights() -> Tensor:
        return torch.randn(shape[:-1], generator=generator, dtype=torch.float64).float().double()

    return {**_statistics_make(shape, generator), **{name: weights() for name in OBJECTIVE_WEIGHTS}}


def _objective_magnitude(arguments: Arguments, upstream: Results) -> Results:
    weights = [weight.abs() for weight in unmasked(arguments, *OBJECTIVE_WEIGHTS)]
    arriving = upstream["loss"].abs()
    plain = {name: arguments[name] for name in ("logits", "targets", "mask")}
    zero = {name: torch.zeros_like(arriving) for name in STATISTICS}
    size = _statistics_magnitude(plain, zero)
    of_square = 2 * size["log_normalizer"]
    through = (arriving * weights[0], arriving * weights[1], arriving * (weights[2] + weights[3] * of_square))
    size = _statistics_magnitude(plain, dict(zip(STATISTICS, through, strict=True)))
    terms = [size[name] for name in STATISTICS]
    terms.append(of_square * size["log_normalizer"])
    loss = sum(
        (weight * term for weight, term in zip(weights, terms, strict=True)), torch.zeros_like(arriving)
    )
    return {**size, "loss": 2 * loss, "grad logits": 2 * size["grad logits"]}


def _objective_call(module: ModuleType, arguments: Arguments) -> Results:
    result = module.token_objective(**{"reduction": "none", **arguments})._asdict()
    return {"loss": result.pop("objective"), **result}


TOKEN_OBJECTIVE = Family(
    name="token_objective",
    make=_objective_make,
    call=_objective_call,
    rows=("logits",),
    gradients=("logits",),
    outputs=("loss",),
    magnitude=_objective_magnitude,
    per_row=("targets", *OBJECTIVE_WEIGHTS),
    function="token_objective",
)


def _smoothed_magnitude(arguments: Arguments, upstream: Results) -> Results:
    """The even part is a softmax of zeros beside the target."""
    (logits,) = unmasked(arguments, "logits")
    even = {**arguments, "q": torch.zeros_like(logits), "tau": 1.0}
    return _cross_entropy_magnitude(even, upstream)


SMOOTHED = Family(
    name="token_cross_entropy, smoothed",
    make=lambda shape, generator: {**_statistics_make(shape, generator), "label_smoothing": 0.3},
    call=lambda module, arguments: {"loss": module.token_cross_entropy(**arguments)},
    rows=("logits",),
    gradients=("logits",),
    outputs=("loss",),
    magnitude=_smoothed_magnitude,
    per_row=("targets",),
)
