"""Comparison of an operator with its float64 reference, forward and backward, under a stated error model.

The error model. Inputs are exact: the reference reads the same rounded numbers. A kernel computes each result
in the statistic type A (unit roundoff u) from V terms; a family states the MAGNITUDE of a result, the sum of
the absolute values of what it is made of, each times one plus the amplification of its own rounding (an
exponential multiplies the relative error of its result by the absolute value of its argument). Rounding
errors of V additions add up like a random walk, so a result may be off by `(4 + sqrt V / 2) * u * magnitude`,
and by half a unit in the last place of the type in which it is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import softbellman as ops
from softbellman import reference

Arguments = dict[str, object]
Results = dict[str, Tensor]
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
SHAPES = (
    (1,),
    (2,),
    (1, 1),
    (5, 2),
    (3, 7),
    (2, 3, 33),
    (4, 257),
    (2, 1, 1000),
    (3, 8191),
    (0, 9),
    (2, 0, 4),
)
LAYOUTS = ("transposed", "sliced", "gapped", "expanded")
INFINITY = float("inf")


@dataclass(frozen=True)
class Family:
    """An operator as the tests see it; every argument that holds floating numbers is made in float64."""

    name: str
    make: Callable[[tuple[int, ...], torch.Generator], Arguments]  # shape [..., V] -> arguments
    call: Callable[[ModuleType, Arguments], Results]  # with softbellman or softbellman.reference
    rows: tuple[str, ...]  # the [..., V] arguments, given in every dtype and layout
    gradients: tuple[str, ...]  # the arguments differentiated with respect to
    outputs: tuple[str, ...]  # the results that carry a gradient
    magnitude: Callable[[Arguments, Results], Results]  # arguments, upstream -> of results and of gradients
    per_row: tuple[str, ...] = field(default=())  # further arguments [...] that a masked row must not read
    function: str = ""  # the operator, where its tests on heads are made from this family


def tensors(arguments: Arguments) -> dict[str, Tensor]:
    return {name: value for name, value in arguments.items() if isinstance(value, Tensor)}


def cast(family: Family, arguments: Arguments, dtype: torch.dtype) -> Arguments:
    """The row arguments in `dtype`, the floating numbers per row in its statistic type."""
    numbers = statistic_dtype(dtype)
    changed = {}
    for name, value in tensors(arguments).items():
        if value.is_floating_point():
            changed[name] = value.to(dtype if name in family.rows else numbers)
    return {**arguments, **changed}


def statistic_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def lay_out(values: Tensor, layout: str) -> Tensor:
    """`values` [..., V] in another memory layout; "expanded" repeats its first row."""
    *leading, vocabulary = values.shape
    if layout == "transposed":  # column stride is not 1
        laid = values.transpose(-1, 0).contiguous().transpose(-1, 0)
    elif layout == "sliced":  # rows inside wider ones of NaN, two elements off every alignment
        wide = values.new_full([*leading, vocabulary + 3], float("nan"))
        storage = values.new_full([wide.numel() + 1], float("nan"))[1:].view(wide.shape)
        laid = storage[..., 1 : vocabulary + 1].copy_(values)
    elif layout == "gapped":  # leading dimensions that no single stride describes
        wide = values.new_full([leading[0], *(size + 1 for size in leading[1:]), vocabulary], float("nan"))
        laid = wide[tuple(slice(0, size) for size in values.shape)].copy_(values)
    elif layout == "expanded":  # row stride 0
        laid = values.reshape(-1, vocabulary)[0].clone().expand(values.shape)
    else:
        raise ValueError(layout)
    return laid


def run(
    family: Family, module: ModuleType, arguments: Arguments, upstream: Results
) -> tuple[Results, Results]:
    """Results and gradients for the given upstream gradients of the differentiable results."""
    leaves = {name: tensors(arguments)[name].detach().requires_grad_() for name in family.gradients}
    results = family.call(module, {**arguments, **leaves})
    if not leaves:
        return results, {}
    outputs = [results[name] for name in family.outputs]
    gradients = torch.autograd.grad(
        outputs, list(leaves.values()), [upstream[name] for name in family.outputs]
    )
    detached = {name: value.detach() for name, value in results.items()}
    return detached, dict(zip(leaves, gradients, strict=True))


def random_upstream(family: Family, arguments: Arguments, generator: torch.Generator) -> Results:
    """Random, non-uniform gradients of either sign."""
    rows = tensors(arguments)[family.rows[0]]
    dtype = statistic_dtype(rows.dtype)
    return {
        name: torch.randn(rows.shape[:-1], generator=generator, dtype=torch.float64).to(rows.device, dtype)
        for name in family.outputs
    }


def compare(family: Family, arguments: Arguments, seed: int = 0) -> None:
    """Assert that results and gradients equal the float64 reference within the error model."""
    generator = torch.Generator().manual_seed(seed)
    upstream = random_upstream(family, arguments, generator)
    wide = {**arguments, **{n: t.double() for n, t in tensors(arguments).items() if t.is_floating_point()}}
    wide_upstream = {name: gradient.double() for name, gradient in upstream.items()}

    results, gradients = run(family, ops, arguments, upstream)
    expected, expected_gradients = run(family, reference, wide, wide_upstream)
    magnitude = family.magnitude(wide, wide_upstream)

    rows = tensors(arguments)[family.rows[0]]
    accumulated = statistic_dtype(rows.dtype)
    for name, result in results.items():
        assert result.dtype == (accumulated if result.is_floating_point() else torch.int64), name
        assert_close(f"{family.name} {name}", result, expected[name], magnitude[name], rows)
    for name, gradient in gradients.items():
        assert gradient.dtype == tensors(arguments)[name].dtype, name
        assert_close(
            f"{family.name} grad {name}", gradient, expected_gradients[name], magnitude[f"grad {name}"], rows
        )


def assert_close(what: str, actual: Tensor, expected: Tensor, magnitude: Tensor, rows: Tensor) -> None:
    """`|actual - expected|` within the error model; infinities must agree, NaN is never right."""
    assert actual.shape == expected.shape, f"{what}: shape {tuple(actual.shape)}, not {tuple(expected.shape)}"
    assert not expected.isnan().any(), f"{what}: the reference is NaN"
    assert not actual.isnan().any(), f"{what}: NaN"
    if not actual.is_floating_point():
        assert torch.equal(actual, expected), f"{what}: integers differ"
        return
    stored = torch.finfo(actual.dtype)
    actual, expected = actual.double(), expected.double()
    infinite = expected.isinf()
    assert torch.equal(actual[infinite], expected[infinite]), f"{what}: infinities differ"
    accumulated = torch.finfo(statistic_dtype(rows.dtype))
    terms = 4 + 0.5 * rows.shape[-1] ** 0.5
    tolerance = terms * accumulated.eps / 2 * magnitude.double() + stored.eps / 2 * expected.abs()
    tolerance = tolerance + stored.tiny * stored.eps + 16 * accumulated.tiny  # subnormal results
    error = (actual - expected).abs().masked_fill(infinite, 0.0)
    worst = (error / tolerance).max().item() if error.numel() else 0.0
    assert worst <= 1.0, f"{what}: error {error.max().item():.3e} is {worst:.2f} times the tolerance"


def registered_operators() -> set[str]:
    """The names of this package's operators but for `_detached`, the same kernel without a gradient."""
    names = {name.split("::")[1] for name in torch._C._dispatch_get_all_op_names() if "softbellman::" in name}
    detached = {name.removesuffix("_detached") for name in names if name.endswith("_detached")}
    assert detached <= names
    return {name for name in names if not name.endswith("_detached")}


def recorded_calls(run_once: Callable[[], object]) -> list[tuple[str, tuple[Any, ...]]]:
    """What `run_once` gives to the operators of this package, with arguments for `torch.library.opcheck`.

    Results of other operators are cut from their graph: an argument requires a gradient if it is a leaf that does.
    """
    calls: list[tuple[str, tuple[Any, ...]]] = []
    call = torch._ops.OpOverload.__call__

    def recording(self: Any, /, *arguments: Any, **options: Any) -> Any:
        if self.namespace == "softbellman":
            name = self._opname.removesuffix("_detached")
            kept = [one.detach().clone() if isinstance(one, Tensor) else one for one in arguments]
            for copy, one in zip(kept, arguments, strict=True):
                if (
                    isinstance(one, Tensor)
                    and one.requires_grad
                    and not name.endswith(("_backward", "scaled_gradient"))
                ):
                    copy.requires_grad_()
            calls.append((name, tuple(kept)))
        return call(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch._ops.OpOverload, "__call__", recording)
        run_once()
    return calls


def distinct(calls: Iterable[tuple[str, tuple[Any, ...]]]) -> list[tuple[str, tuple[Any, ...]]]:
    """Calls that differ in the operator, in what is absent or in the types of what is there."""

    def shape(one: object) -> object:
        return (one.dtype, one.requires_grad) if isinstance(one, Tensor) else type(one)

    return list({(name, *map(shape, arguments)): (name, arguments) for name, arguments in calls}.values())


def finite(values: Tensor) -> Tensor:
    return values.masked_fill(values.isinf(), 0.0)
