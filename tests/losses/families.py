"""The operator families of the tests: their arguments, how to call them, how large rounding errors may be."""

from __future__ import annotations

import math
from types import ModuleType

import torch
from torch import Tensor

from losses.harness import Arguments, Family, Results, finite
from softbellman import reference
from softbellman.reference.rows import log_softmax


def _random(shape: tuple[int, ...], generator: torch.Generator, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def _ids(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(0, shape[-1], shape[:-1], generator=generator)


def _largest(values: Tensor) -> Tensor:
    return finite(values).abs().amax(-1, keepdim=True)


def _column(values: Tensor) -> Tensor:
    return values.unsqueeze(-1)


def _one_hot(arguments: Arguments, name: str, like: Tensor) -> Tensor:
    ids = arguments[name]
    assert isinstance(ids, Tensor)
    mask = arguments.get("mask")
    if isinstance(mask, Tensor):
        ids = ids.masked_fill(~mask, 0)
    return torch.nn.functional.one_hot(ids, like.shape[-1]).to(like.dtype)


def _read(arguments: Arguments, *names: str) -> list[Tensor]:
    mask = arguments.get("mask")
    values = []
    for name in names:
        value = arguments[name]
        assert isinstance(value, Tensor)
        if isinstance(mask, Tensor) and value.is_floating_point():
            value = value.masked_fill(~(_column(mask) if value.dim() > mask.dim() else mask), 0.0)
        values.append(value)
    return values


# ---- soft value --------------------------------------------------------------------------------------------


def _soft_value_call(module: ModuleType, arguments: Arguments) -> Results:
    return {"value": module.soft_value(**arguments)}


def _soft_value_magnitude(arguments: Arguments, upstream: Results) -> Results:
    (q,) = _read(arguments, "q")
    tau = float(str(arguments["tau"]))
    share = log_softmax(q / tau)[0]
    amplified = share * (2 + 2 * _largest(q) / tau)
    value = _largest(q).squeeze(-1) + tau * (1 + math.log(q.shape[-1]))
    return {"value": value, "grad q": _column(upstream["value"].abs()) * amplified}


SOFT_VALUE = Family(
    name="soft_value",
    make=lambda shape, generator: {"q": _random(shape, generator), "tau": 0.7, "mask": None},
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
        "q": _random(shape, generator),
        "actions": _ids(shape, generator),
        "rewards": _random(shape[:-1], generator),
        "mask": None,
        "tau": 0.7,
    }


def _bellman_call(module: ModuleType, arguments: Arguments) -> Results:
    return {"residual": module.soft_bellman_residual(**arguments)}


def _bellman_magnitude(arguments: Arguments, upstream: Results) -> Results:
    q, rewards = _read(arguments, "q", "rewards")
    (gradient,) = _read({**arguments, **upstream}, "residual")
    tau = float(str(arguments["tau"]))
    value = _largest(q).squeeze(-1) + tau * (1 + math.log(q.shape[-1]))
    shift = torch.nn.functional.pad
    share = log_softmax(q / tau)[0] * (2 + 2 * _largest(q) / tau)
    taken = _one_hot(arguments, "actions", q)
    return {
        "residual": value + rewards.abs() + shift(value[:, 1:], (0, 1)),
        "grad q": _column(gradient.abs()) * taken + _column(shift(gradient.abs()[:, :-1], (1, 0))) * share,
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


def _policy_make(shape: tuple[int, ...], generator: torch.Generator) -> Arguments:
    return {"logits": _random(shape, generator), "q": _random(shape, generator), "tau": 0.3, "mask": None}


def _policy_magnitude(arguments: Arguments, upstream: Results) -> Results:
    logits, q = _read(arguments, "logits", "q")
    tau = float(str(arguments["tau"]))
    policy, log_policy = log_softmax(logits)
    if arguments.get("entropy") == "normalized":
        tau = tau / (1e-8 + log_policy.norm(dim=-1, keepdim=True))
    elif arguments.get("entropy") == "none":
        tau = 0.0
    tau = torch.as_tensor(tau, dtype=torch.float64)
    amplified = 2 + _largest(logits) + log_policy.abs()
    entropy_terms = (policy * (log_policy.abs() + 1) * amplified).sum(-1, keepdim=True)
    value_terms = (
        (policy * finite(q).abs() * amplified).sum(-1, keepdim=True) + _largest(q) + tau * entropy_terms
    )
    grad_value = _column(upstream.get("value", upstream.get("loss")).abs())
    grad_entropy = _column(upstream["entropy"].abs())
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
    make=_policy_make,
    call=lambda module, arguments: module.policy_value(**arguments)._asdict(),
    rows=("logits", "q"),
    gradients=("logits", "q"),
    outputs=("value", "entropy"),
    magnitude=_policy_magnitude,
)


def _actor(mode: str) -> Family:
    return Family(
        name=f"actor_loss {mode}",
        make=lambda shape, generator: {**_policy_make(shape, generator), "entropy": mode},
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
        "q": _random(shape, generator),
        "actions": _ids(shape, generator),
        "targets": _random(shape[:-1], generator),
        "mask": None,
        "smoothness": 0.05,
    }


def _critic_magnitude(arguments: Arguments, upstream: Results) -> Results:
    q, targets = _read(arguments, "q", "targets")
    smoothness = float(str(arguments["smoothness"]))
    taken = _one_hot(arguments, "actions", q)
    possible = ~q.isinf()
    mean = finite(q).sum(-1, keepdim=True) / possible.sum(-1, keepdim=True).clamp(min=1)
    deviation = (finite(q) - mean).masked_fill(~possible, 0.0).abs()
    chosen = (finite(q) * taken).sum(-1)
    error_terms = chosen.abs() + targets.abs()
    spread_terms = (deviation * (deviation + 2 * _largest(q))).sum(-1)
    gradient = _column(upstream["loss"].abs())
    return {
        "td_error": error_terms,
        "spread": spread_terms,
        "loss": 2 * (chosen - targets).abs() * error_terms + smoothness * spread_terms,
        "grad q": 2 * gradient * (_column(error_terms) * taken + smoothness * (deviation + _largest(q))),
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
        "logits": _random(shape, generator),
        "target_q": _random(shape, generator),
        "q": _random(shape, generator),
        "actions": _ids(shape, generator),
        "rewards": _random(shape[:-1], generator),
        "mask": None,
        "tau": 0.3,
        "smoothness": 0.05,
    }


def _erac_magnitude(arguments: Arguments, upstream: Results) -> Results:
    policy = _policy_magnitude(
        {**arguments, "q": arguments["target_q"]}, {"value": upstream["loss"], "entropy": upstream["loss"]}
    )
    (rewards,) = _read(arguments, "rewards")
    targets = rewards.abs() + torch.nn.functional.pad(policy["value"][..., 1:], (0, 1))
    exact = reference.erac_critic_loss(**arguments).targets  # type: ignore[arg-type]
    critic = _critic_magnitude({**arguments, "targets": exact}, upstream)
    error_terms = critic["td_error"] + targets
    q, taken = _read(arguments, "q")[0], _one_hot(arguments, "actions", _read(arguments, "q")[0])
    size = ((finite(q) * taken).sum(-1) - exact).abs()
    gradient = 2 * _column(upstream["loss"].abs() * targets) * taken
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

# ---- distillation ------------------------------------------------------------------------------------------


def _mixture_make(shape: tuple[int, ...], generator: torch.Generator) -> Arguments:
    weight = torch.rand(shape[:-1], generator=generator, dtype=torch.float64).to(torch.float32).double()
    return {
        "logits": _random(shape, generator),
        "q": _random(shape, generator),
        "tau": 0.7,
        "targets": _ids(shape, generator),
        "oracle_weight": weight,
        "mask": None,
    }


def _cross_entropy_magnitude(arguments: Arguments, upstream: Results) -> Results:
    (logits,) = _read(arguments, "logits")
    policy, log_policy = log_softmax(logits)
    gradient = _column(upstream["loss"].abs())
    loss = 2 * _largest(logits) + 1 + math.log(logits.shape[-1])
    grad_logits = policy * (2 + 2 * _largest(logits))
    if "q" in arguments:
        (q,) = _read(arguments, "q")
        tau = float(str(arguments["tau"]))
        oracle = log_softmax(q / tau)[0] * (2 + 2 * _largest(q) / tau)
        loss = loss + (oracle * (finite(log_policy).abs() + _largest(logits))).sum(-1, keepdim=True)
        grad_logits = grad_logits + oracle
    if arguments.get("targets") is not None:
        grad_logits = grad_logits + _one_hot(arguments, "targets", logits)
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
    make=lambda shape, generator: {**_policy_make(shape, generator), "tau": 0.7},
    call=_soft_target_call,
    rows=("logits", "q"),
    gradients=("logits",),
    outputs=("loss",),
    magnitude=_cross_entropy_magnitude,
)
TOKEN = Family(
    name="token_cross_entropy",
    make=lambda shape, generator: {
        "logits": _random(shape, generator),
        "targets": _ids(shape, generator),
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
    return {"logits": _random(shape, generator), "targets": _ids(shape, generator), "mask": None}


def _statistics_magnitude(arguments: Arguments, upstream: Results) -> Results:
    (logits,) = _read(arguments, "logits")
    policy, log_policy = log_softmax(logits)
    normalizer = _largest(logits) + 1 + math.log(logits.shape[-1])
    amplified = 2 + _largest(logits) + log_policy.abs()
    entropy = (policy * (log_policy.abs() + 1) * amplified).sum(-1, keepdim=True)
    of_target, of_entropy, of_normalizer = (_column(upstream[name].abs()) for name in STATISTICS)
    slope = of_target + of_normalizer + of_entropy * (log_policy.abs() + entropy)
    gradient = policy * amplified * slope + of_target * _one_hot(arguments, "targets", logits)
    return {
        "log_prob": (normalizer + _largest(logits)).squeeze(-1),
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
    weights = [weight.abs() for weight in _read(arguments, *OBJECTIVE_WEIGHTS)]
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
    (logits,) = _read(arguments, "logits")
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
