"""The operator families of the tests: their arguments, how to call them, how large rounding errors may be."""

from __future__ import annotations

import math
from types import ModuleType

import torch

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
from losses.likelihood_families import (
    MIXTURE,
    SMOOTHED,
    SOFT_TARGET,
    TOKEN,
    TOKEN_OBJECTIVE,
    TOKEN_STATISTICS,
)
from softbellman import reference
from softbellman.reference.rows import log_softmax

# ---- soft value --------------------------------------------------------------------------------------------


def _soft_value_call(module: ModuleType, arguments: Arguments) -> Results:
    return {"value": module.soft_value(**arguments)}


def _soft_value_magnitude(arguments: Arguments, upstream: Results) -> Results:
    (q,) = unmasked(arguments, "q")
    tau = float(str(arguments["tau"]))
    share = log_softmax(q / tau)[0]
    amplified = share * (2 + 2 * largest(q) / tau)
    value = largest(q).squeeze(-1) + tau * (1 + math.log(q.shape[-1]))
    return {"value": value, "grad q": column(upstream["value"].abs()) * amplified}


SOFT_VALUE = Family(
    name="soft_value",
    make=lambda shape, generator: {"q": random_numbers(shape, generator), "tau": 0.7, "mask": None},
    call=_soft_value_call,
    rows=("q",),
    gradients=("q",),
    outputs=("value",),
    magnitude=_soft_value_magnitude,
)


# ---- soft Bellman residual ---------------------------------------------------------------------------------


def _bellman_make(shape: tuple[int, ...], generator: torch.Generator) -> Arguments:
    shape = (1,) * (3 - len(shape)) + shape
    return {
        "q": random_numbers(shape, generator),
        "actions": random_ids(shape, generator),
        "rewards": random_numbers(shape[:-1], generator),
        "mask": None,
        "tau": 0.7,
    }


def _bellman_call(module: ModuleType, arguments: Arguments) -> Results:
    return {"residual": module.soft_bellman_residual(**arguments)}


def _bellman_magnitude(arguments: Arguments, upstream: Results) -> Results:
    q, rewards = unmasked(arguments, "q", "rewards")
    (gradient,) = unmasked({**arguments, **upstream}, "residual")
    tau = float(str(arguments["tau"]))
    value = largest(q).squeeze(-1) + tau * (1 + math.log(q.shape[-1]))
    shift = torch.nn.functional.pad
    share = log_softmax(q / tau)[0] * (2 + 2 * largest(q) / tau)
    taken = one_hot(arguments, "actions", q)
    return {
        "residual": value + rewards.abs() + shift(value[:, 1:], (0, 1)),
        "grad q": column(gradient.abs()) * taken + column(shift(gradient.abs()[:, :-1], (1, 0))) * share,
        "grad rewards": gradient.abs(),
    }


SOFT_BELLMAN = Family(
    name="soft_bellman_residual",
    make=_bellman_make,
    call=_bellman_call,
    rows=("q",),
    gradients=("q", "rewards"),
    outputs=("residual",),
    magnitude=_bellman_magnitude,
    per_row=("actions", "rewards"),
)

# ---- policy value and actor --------------------------------------------------------------------------------


def _policy_magnitude(arguments: Arguments, upstream: Results) -> Results:
    logits, q = unmasked(arguments, "logits", "q")
    tau = float(str(arguments["tau"]))
    policy, log_policy = log_softmax(logits)
    if arguments.get("entropy") == "normalized":
        tau = tau / (1e-8 + log_policy.norm(dim=-1, keepdim=True))
    elif arguments.get("entropy") == "none":
        tau = 0.0
    tau = torch.as_tensor(tau, dtype=torch.float64)
    amplified = 2 + largest(logits) + log_policy.abs()
    entropy_terms = (policy * (log_policy.abs() + 1) * amplified).sum(-1, keepdim=True)
    value_terms = (
        (policy * finite(q).abs() * amplified).sum(-1, keepdim=True) + largest(q) + tau * entropy_terms
    )
    grad_value = column(upstream.get("value", upstream.get("loss")).abs())
    grad_entropy = column(upstream["entropy"].abs())
    advantage = finite(q).abs() + tau * log_policy.abs() + value_terms
    return {
        "value": value_terms.squeeze(-1),
        "loss": value_terms.squeeze(-1),
        "entropy": entropy_terms.squeeze(-1),
        "grad logits": policy
        * amplified
        * (grad_value * advantage + grad_entropy * (log_policy.abs() + entropy_terms)),
        "grad q": grad_value * policy * amplified,
    }


POLICY_VALUE = Family(
    name="policy_value",
    make=logits_and_values,
    call=lambda module, arguments: module.policy_value(**arguments)._asdict(),
    rows=("logits", "q"),
    gradients=("logits", "q"),
    outputs=("value", "entropy"),
    magnitude=_policy_magnitude,
)


def _actor(mode: str) -> Family:
    return Family(
        name=f"actor_loss {mode}",
        make=lambda shape, generator: {**logits_and_values(shape, generator), "entropy": mode},
        call=lambda module, arguments: module.actor_loss(**arguments)._asdict(),
        rows=("logits", "q"),
        gradients=("logits",),
        outputs=("loss", "entropy"),
        magnitude=_policy_magnitude,
    )


ACTORS = tuple(_actor(mode) for mode in ("exact", "normalized", "none"))

# ---- critic ------------------------------------------------------------------------------------------------


def _critic_make(shape: tuple[int, ...], generator: torch.Generator) -> Arguments:
    return {
        "q": random_numbers(shape, generator),
        "actions": random_ids(shape, generator),
        "targets": random_numbers(shape[:-1], generator),
        "mask": None,
        "smoothness": 0.05,
    }


def _critic_magnitude(arguments: Arguments, upstream: Results) -> Results:
    q, targets = unmasked(arguments, "q", "targets")
    smoothness = float(str(arguments["smoothness"]))
    taken = one_hot(arguments, "actions", q)
    possible = ~q.isinf()
    mean = finite(q).sum(-1, keepdim=True) / possible.sum(-1, keepdim=True).clamp(min=1)
    deviation = (finite(q) - mean).masked_fill(~possible, 0.0).abs()
    chosen = (finite(q) * taken).sum(-1)
    error_terms = chosen.abs() + targets.abs()
    spread_terms = (deviation * (deviation + 2 * largest(q))).sum(-1)
    gradient = column(upstream["loss"].abs())
    return {
        "td_error": error_terms,
        "spread": spread_terms,
        "loss": 2 * (chosen - targets).abs() * error_terms + smoothness * spread_terms,
        "grad q": 2 * gradient * (column(error_terms) * taken + smoothness * (deviation + largest(q))),
    }


CRITIC = Family(
    name="critic_loss",
    make=_critic_make,
    call=lambda module, arguments: module.critic_loss(**arguments)._asdict(),
    rows=("q",),
    gradients=("q",),
    outputs=("loss",),
    magnitude=_critic_magnitude,
    per_row=("actions", "targets"),
)

# ---- the critic's loss of ERAC ---------------------------------------------------------------------------------


def _erac_make(shape: tuple[int, ...], generator: torch.Generator) -> Arguments:
    shape = (1,) * (2 - len(shape)) + shape
    return {
        "logits": random_numbers(shape, generator),
        "target_q": random_numbers(shape, generator),
        "q": random_numbers(shape, generator),
        "actions": random_ids(shape, generator),
        "rewards": random_numbers(shape[:-1], generator),
        "mask": None,
        "tau": 0.3,
        "smoothness": 0.05,
    }


def _erac_magnitude(arguments: Arguments, upstream: Results) -> Results:
    policy = _policy_magnitude(
        {**arguments, "q": arguments["target_q"]}, {"value": upstream["loss"], "entropy": upstream["loss"]}
    )
    (rewards,) = unmasked(arguments, "rewards")
    targets = rewards.abs() + torch.nn.functional.pad(policy["value"][..., 1:], (0, 1))
    exact = reference.erac_critic_loss(**arguments).targets  # type: ignore[arg-type]
    critic = _critic_magnitude({**arguments, "targets": exact}, upstream)
    error_terms = critic["td_error"] + targets
    q, taken = unmasked(arguments, "q")[0], one_hot(arguments, "actions", unmasked(arguments, "q")[0])
    size = ((finite(q) * taken).sum(-1) - exact).abs()
    gradient = 2 * column(upstream["loss"].abs() * targets) * taken
    return {
        "value": policy["value"],
        "entropy": policy["entropy"],
        "targets": targets,
        "td_error": error_terms,
        "spread": critic["spread"],
        "loss": critic["loss"] + 2 * size * error_terms,
        "grad q": critic["grad q"] + gradient,
    }


ERAC = Family(
    name="erac_critic_loss",
    make=_erac_make,
    call=lambda module, arguments: module.erac_critic_loss(**arguments)._asdict(),
    rows=("logits", "target_q", "q"),
    gradients=("q",),
    outputs=("loss",),
    magnitude=_erac_magnitude,
    per_row=("actions", "rewards"),
)

FAMILIES = (
    SOFT_VALUE,
    SOFT_BELLMAN,
    POLICY_VALUE,
    *ACTORS,
    CRITIC,
    ERAC,
    SOFT_TARGET,
    MIXTURE,
    TOKEN,
    SMOOTHED,
    TOKEN_STATISTICS,
    TOKEN_OBJECTIVE,
)
