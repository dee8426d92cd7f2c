"""The operators on heads as their tests see them: arguments, differentiable inputs and results."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import pytest
import torch
from torch import Tensor

import softbellman as ops
from losses.families import FAMILIES
from losses.harness import Arguments, Family, Results, statistic_dtype, tensors
from softbellman import Head, reference

HEAD = ("hidden", "weight", "bias")
Q_HEAD = ("q_hidden", "q_weight", "q_bias")
OPTIONS = ("chunk_rows", "scale", "softcap")


@dataclass(frozen=True)
class HeadCase:
    """One operator; every floating argument is made in float64, `typed` ones are cast to the type under test."""

    name: str
    make: Callable[[tuple[int, ...], int, int, torch.Generator], Arguments]  # leading shape, H, V
    gradients: tuple[str, ...] = HEAD
    outputs: tuple[str, ...] = ("loss",)  # the results that carry a gradient
    per_row: tuple[str, ...] = ()  # arguments [...] that a masked row must not read
    reduces: bool = True
    family: Family | None = None  # whose first rows are the first head, the second the second

    def call(self, module: ModuleType, arguments: Arguments) -> Results:
        """The operator's results by name; the reference takes the logits that the heads stand for."""
        rest = {name: value for name, value in arguments.items() if name not in (*HEAD, *Q_HEAD, *OPTIONS)}
        options = {name: arguments[name] for name in OPTIONS if name in arguments}
        names = ("q" if "actions" in rest or self.name == "soft_value" else "logits", "q")
        if self.family is not None:
            names = (*self.family.rows, "q")[:2]
        rows = {names[0]: Head(*(arguments.get(name) for name in HEAD), **options)}  # type: ignore[arg-type]
        if "q_hidden" in arguments:
            rows[names[1]] = Head(*(arguments.get(name) for name in Q_HEAD), **options)  # type: ignore[arg-type]
        if module is reference:
            rows = {name: head.logits() for name, head in rows.items()}  # type: ignore[misc]
        if self.family is not None:
            return self.family.call(module, {**rows, **rest})
        result = getattr(module, self.name)(**rows, **rest)
        return {"loss": result} if isinstance(result, Tensor) else result._asdict()


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _head(leading: tuple[int, ...], hidden: int, vocabulary: int, generator: torch.Generator) -> Arguments:
    """Logits of standard deviation about 2."""
    return {
        "hidden": _normal((*leading, hidden), generator),
        "weight": _normal((vocabulary, hidden), generator) * 2 / hidden**0.5,
        "bias": _normal((vocabulary,), generator) / 2,
        "mask": None,
    }


def _heads(leading: tuple[int, ...], hidden: int, vocabulary: int, generator: torch.Generator) -> Arguments:
    other = _head(leading, hidden + 2, vocabulary, generator)
    return {
        **_head(leading, hidden, vocabulary, generator),
        **{f"q_{name}": other[name] for name in HEAD},
        "tau": 0.4,
    }


def _ids(leading: tuple[int, ...], vocabulary: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, vocabulary, leading, generator=generator)


def _token(leading: tuple[int, ...], hidden: int, vocabulary: int, generator: torch.Generator) -> Arguments:
    return {
        **_head(leading, hidden, vocabulary, generator),
        "targets": _ids(leading, vocabulary, generator),
    }


def _mixture(leading: tuple[int, ...], hidden: int, vocabulary: int, generator: torch.Generator) -> Arguments:
    weight = torch.rand(leading, generator=generator, dtype=torch.float64).float().double()
    return {
        **_heads(leading, hidden, vocabulary, generator),
        "targets": _ids(leading, vocabulary, generator),
        "oracle_weight": weight,
    }


def _value(leading: tuple[int, ...], hidden: int, vocabulary: int, generator: torch.Generator) -> Arguments:
    prior = _normal((vocabulary,), generator)
    return {**_head(leading, hidden, vocabulary, generator), "tau": 0.7, "prior": prior}


def _residual(
    leading: tuple[int, ...], hidden: int, vocabulary: int, generator: torch.Generator
) -> Arguments:
    leading = (1,) * (2 - len(leading)) + leading
    return {
        **_head(leading, hidden, vocabulary, generator),
        "actions": _ids(leading, vocabulary, generator),
        "rewards": _normal(leading, generator).float().double(),
        "terminal": torch.rand(leading, generator=generator) < 0.3,
        "tau": 0.7,
    }


def _critic(leading: tuple[int, ...], hidden: int, vocabulary: int, generator: torch.Generator) -> Arguments:
    return {
        **_head(leading, hidden, vocabulary, generator),
        "actions": _ids(leading, vocabulary, generator),
        "targets": _normal(leading, generator).float().double(),
        "smoothness": 0.05,
    }


def _actor(mode: str) -> HeadCase:
    def make(leading: tuple[int, ...], hidden: int, vocabulary: int, generator: torch.Generator) -> Arguments:
        return {**_heads(leading, hidden, vocabulary, generator), "entropy": mode}

    return HeadCase("actor_loss", make, outputs=("loss", "entropy"))


TOKEN = HeadCase("token_cross_entropy", _token, per_row=("targets",))
SOFT_TARGET = HeadCase("soft_target_cross_entropy", _heads)
MIXTURE = HeadCase("soft_target_cross_entropy", _mixture, per_row=("targets", "oracle_weight"))
VALUE = HeadCase("soft_value", _value, reduces=False)
RESIDUAL = HeadCase(
    "soft_bellman_residual",
    _residual,
    gradients=(*HEAD, "rewards"),
    per_row=("actions", "rewards"),
    reduces=False,
)
CRITIC = HeadCase("critic_loss", _critic, per_row=("actions", "targets"))
POLICY = HeadCase(
    "policy_value", _heads, gradients=(*HEAD, *Q_HEAD), outputs=("value", "entropy"), reduces=False
)
ACTORS = tuple(_actor(mode) for mode in ("exact", "normalized", "none"))


def of_family(family: Family) -> HeadCase:
    """The operator of a family with heads in the place of its one or two rows."""

    def make(leading: tuple[int, ...], hidden: int, vocabulary: int, generator: torch.Generator) -> Arguments:
        made = family.make((*leading, vocabulary), generator)
        rest = {name: value for name, value in made.items() if name not in family.rows}
        heads = (_head if len(family.rows) == 1 else _heads)(leading, hidden, vocabulary, generator)
        return {**{name: value for name, value in heads.items() if name != "tau"}, **rest}

    gradients = tuple(
        name
        for argument in family.gradients
        for name in ((HEAD, Q_HEAD)[family.rows.index(argument)] if argument in family.rows else (argument,))
    )
    reduces = "reduction" in inspect.signature(getattr(reference, family.function)).parameters
    return HeadCase(family.function, make, gradients, family.outputs, family.per_row, reduces, family)


def _divergence(kind: str) -> Family:
    """On heads alone: test_divergence.py has an error model of its own."""
    return Family(
        name=f"divergence {kind}",
        make=lambda shape, generator: {
            "logits": _normal(shape, generator),
            "other": _normal(shape, generator),
            "kind": kind,
            "temperature": 0.7,
            "mask": None,
        },
        call=lambda module, arguments: {"loss": module.divergence(**arguments)},
        rows=("logits", "other"),
        gradients=("logits", "other"),
        outputs=("loss",),
        magnitude=lambda arguments, upstream: upstream,
        function="divergence",
    )


def _sparse(direction: str, tail: str) -> Family:
    """On heads alone: test_sparse_divergence.py looks at stored rows."""

    def arguments(shape: tuple[int, ...], generator: torch.Generator) -> Arguments:
        order = torch.rand(shape, generator=generator).argsort(-1)
        ids = order[..., : max(1, min(3, shape[-1] - 1))]
        teacher = (2 * _normal(shape, generator)).log_softmax(-1).gather(-1, ids)
        return {
            "logits": _normal(shape, generator),
            "ids": ids,
            "log_probs": teacher.float().double(),
            "direction": direction,
            "tail": tail,
            "mask": None,
        }

    return Family(
        name=f"sparse_divergence {direction} {tail}",
        make=arguments,
        call=lambda module, given: {"loss": module.sparse_divergence(**given)},
        rows=("logits",),
        gradients=("logits",),
        outputs=("loss",),
        magnitude=lambda given, upstream: upstream,
        per_row=("ids", "log_probs"),
        function="sparse_divergence",
    )


SPARSE = (_sparse("forward", "bucket"), _sparse("reverse", "bucket"), _sparse("reverse", "drop"))
DIVERGENCES = tuple(_divergence(kind) for kind in ("forward_kl", "reverse_kl", "jsd"))


CASES = {
    "token": TOKEN,
    "soft target": SOFT_TARGET,
    "mixture": MIXTURE,
    "value": VALUE,
    "residual": RESIDUAL,
    "critic": CRITIC,
    "policy": POLICY,
    "actor exact": ACTORS[0],
    "actor normalized": ACTORS[1],
    "actor without entropy": ACTORS[2],
    **{family.name: of_family(family) for family in (*FAMILIES, *DIVERGENCES, *SPARSE) if family.function},
}


def make(
    case: HeadCase,
    leading: tuple[int, ...],
    *,
    hidden: int = 6,
    vocabulary: int = 33,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Arguments:
    """Arguments with the heads in `dtype` and the floating numbers per row in its statistic type."""
    arguments = case.make(leading, hidden, vocabulary, torch.Generator().manual_seed(seed))
    return cast(arguments, dtype)


def cast(arguments: Arguments, dtype: torch.dtype) -> Arguments:
    """The heads in `dtype`, other floating tensors in its statistic type."""
    changed = {
        name: value.to(dtype if name in (*HEAD, *Q_HEAD, "prior") else statistic_dtype(dtype))
        for name, value in tensors(arguments).items()
        if value.is_floating_point()
    }
    return {**arguments, **changed}


def widened(arguments: Arguments) -> Arguments:
    """The same numbers in float64."""
    return {
        name: value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in arguments.items()
    }


def composed(case: HeadCase, arguments: Arguments) -> Results:
    """The operator on whole logits, made by a matmul in the dtype of the arguments."""

    class Whole:
        """`softbellman` with heads written out."""

        def __getattr__(self, name: str) -> Callable[..., object]:
            def call(**given: object) -> object:
                whole = {
                    key: value.logits() if isinstance(value, Head) else value for key, value in given.items()
                }
                return getattr(ops, name)(**whole)

            return call

    return case.call(Whole(), arguments)  # type: ignore[arg-type]


def run(
    case: HeadCase,
    call: Callable[[Arguments], Results],
    arguments: Arguments,
    upstream: Results | None = None,
    wanted: tuple[str, ...] | None = None,
) -> tuple[Results, Results]:
    """Results and gradients; `upstream` None sends ones to every result that has a graph."""
    names = case.gradients if wanted is None else wanted
    leaves = {name: tensors(arguments)[name].detach().requires_grad_() for name in names}
    results = call({**arguments, **leaves})
    outputs = [name for name in case.outputs if results[name].requires_grad]
    sent = [torch.ones_like(results[n]) if upstream is None else upstream[n] for n in outputs]
    gradients = torch.autograd.grad([results[name] for name in outputs], list(leaves.values()), sent)
    return {n: r.detach() for n, r in results.items()}, dict(zip(leaves, gradients, strict=True))


def random_upstream(case: HeadCase, arguments: Arguments, seed: int = 1) -> Results:
    """Non-uniform gradients of either sign for results [...]."""
    hidden = tensors(arguments)["hidden"]
    generator = torch.Generator().manual_seed(seed)
    return {
        name: _normal(hidden.shape[:-1], generator).to(statistic_dtype(hidden.dtype)) for name in case.outputs
    }


def poisoned(case: HeadCase, arguments: Arguments, mask: Tensor) -> Arguments:
    """`arguments` under `mask`, where masked rows hold NaN and token ids that do not exist."""
    changed: Arguments = {"mask": mask}
    for name in ("hidden", "q_hidden", *case.per_row):
        if name in arguments:
            value = tensors(arguments)[name].clone()
            value[~mask] = float("nan") if value.is_floating_point() else -1
            changed[name] = value
    return {**arguments, **changed}


def assert_same(actual: tuple[Results, Results], expected: tuple[Results, Results]) -> None:
    """Equal but for the rounding of float64 sums in another order."""
    for some, others in zip(actual, expected, strict=True):
        assert some.keys() == others.keys()
        for name, value in some.items():
            torch.testing.assert_close(
                value, others[name], rtol=1e-9, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}"
            )


def compare(case: HeadCase, arguments: Arguments, upstream: Results | None = None) -> None:
    """float64 results and gradients equal the reference's."""
    actual = run(case, partial(case.call, ops), arguments, upstream)
    assert_same(actual, run(case, partial(case.call, reference), arguments, upstream))


every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
_REDUCING = {name: case for name, case in CASES.items() if case.reduces}
every_reducing_case = pytest.mark.parametrize("case", _REDUCING.values(), ids=_REDUCING)
