"""Every differentiable operator against its float64 reference: shapes, types, strides and edge rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import softbellman as ops
from losses.families import FAMILIES
from losses.harness import (
    DTYPES,
    INFINITY,
    LAYOUTS,
    SHAPES,
    Arguments,
    Family,
    cast,
    compare,
    lay_out,
    random_upstream,
    run,
    tensors,
)
from losses.likelihood_families import MIXTURE, SOFT_TARGET

every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def make(family: Family, shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Arguments:
    return cast(family, family.make(shape, torch.Generator().manual_seed(seed)), dtype)


def with_mask(family: Family, arguments: Arguments, mask: Tensor, poison: bool) -> Arguments:
    """`arguments` under `mask`; where poisoned, masked rows hold NaN and token ids that do not exist."""
    changed: Arguments = {"mask": mask}
    for name in (*family.rows, *family.per_row) if poison else ():
        value = tensors(arguments)[name].clone()
        value[~mask] = float("nan") if value.is_floating_point() else -1
        changed[name] = value
    return {**arguments, **changed}


@every_family
@every_dtype
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes_and_types(family: Family, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    compare(family, make(family, shape, dtype))


@every_family
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", ((2, 3, 33), (3, 4, 130), (2, 5, 1)), ids=str)
def test_strides(family: Family, dtype: torch.dtype, layout: str, shape: tuple[int, ...]) -> None:
    arguments = make(family, shape, dtype)
    compare(
        family, {**arguments, **{name: lay_out(tensors(arguments)[name], layout) for name in family.rows}}
    )


@every_family
@every_dtype
def test_masked_rows(family: Family, dtype: torch.dtype) -> None:
    mask = torch.tensor([[True, False, True, True], [True, True, False, False]])
    arguments = make(family, (2, 4, 70), dtype)
    compare(family, with_mask(family, arguments, mask, poison=False))


@every_family
@every_dtype
@pytest.mark.parametrize("real", (0, 3), ids=("all masked", "some masked"))
def test_nan_in_a_masked_row_never_leaks(family: Family, dtype: torch.dtype, real: int) -> None:
    mask = torch.arange(5).repeat(2, 1) < real
    arguments = make(family, (2, 5, 70), dtype)
    upstream = random_upstream(family, arguments, torch.Generator().manual_seed(1))
    clean = run(family, ops, with_mask(family, arguments, mask, poison=False), upstream)
    upstream = {name: gradient.masked_fill(~mask, float("nan")) for name, gradient in upstream.items()}
    poisoned = run(family, ops, with_mask(family, arguments, mask, poison=True), upstream)
    for some, others in zip(poisoned, clean, strict=True):
        for name, value in some.items():
            assert torch.equal(value, others[name]), name
            assert not value[~mask].any(), f"{name} is not 0 in a masked row"


def edge_rows(vocabulary: int = 200) -> Tensor:
    """[6, V] of 0 and `-inf`, which is the first block, the last, all but one, all, every other, none."""
    rows = torch.zeros(6, vocabulary, dtype=torch.float64)
    rows[0, :64] = -INFINITY
    rows[1, -64:] = -INFINITY
    rows[2, :] = -INFINITY
    rows[2, 137] = 0.0
    rows[3, :] = -INFINITY
    rows[4, ::2] = -INFINITY
    return rows


@every_family
@every_dtype
def test_rows_with_negative_infinity(family: Family, dtype: torch.dtype) -> None:
    edges = edge_rows()
    edges = edges.view(6, 1, 200) if family.name.startswith("soft_bellman") else edges
    arguments = make(family, tuple(edges.shape), dtype)
    changed = {name: (tensors(arguments)[name].double() + edges).to(dtype) for name in family.rows}
    possible = (edges == 0).int().argmax(-1)  # a possible token where there is one
    changed |= {n: possible for n, t in tensors(arguments).items() if t.dtype == torch.int64}
    compare(family, {**arguments, **changed})


@pytest.mark.parametrize("family", (SOFT_TARGET, MIXTURE), ids=lambda family: family.name)
@every_dtype
def test_impossible_oracle_tokens(family: Family, dtype: torch.dtype) -> None:
    """An oracle q may be `-inf` where the policy is not."""
    arguments = make(family, (6, 200), dtype)
    compare(family, {**arguments, "q": (tensors(arguments)["q"].double() + edge_rows()).to(dtype)})


@every_family
@pytest.mark.parametrize("dtype", (torch.float64, torch.float32), ids=str)
@pytest.mark.parametrize("shift", (0.0, 1e4), ids=("around zero", "around 1e4"))
def test_huge_values_at_a_low_temperature(family: Family, dtype: torch.dtype, shift: float) -> None:
    arguments = make(family, (4, 3, 300), dtype)
    changed: Arguments = {name: tensors(arguments)[name] * 3e3 + shift for name in family.rows}
    if "tau" in arguments:
        changed["tau"] = 0.01
    compare(family, {**arguments, **changed})


@every_family
def test_a_constant_upstream_gradient_may_be_expanded(family: Family) -> None:
    """`result.sum()` sends one number with stride 0 upstream."""
    arguments = make(family, (3, 4, 33), torch.float32)
    shape = tensors(arguments)[family.rows[0]].shape[:-1]
    expanded = {name: torch.tensor(0.5).expand(shape) for name in family.outputs}
    dense = {name: gradient.contiguous() for name, gradient in expanded.items()}
    _, gradients = run(family, ops, arguments, expanded)
    _, expected = run(family, ops, arguments, dense)
    for name, gradient in gradients.items():
        assert torch.equal(gradient, expected[name])
