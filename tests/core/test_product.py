"""The native product of float32 matrices, and the output layer that is computed with it."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear as torch_linear

from softbellman import Head, token_cross_entropy
from softbellman.core import native, products

SIZES = (1, 5, 14, 33, 64, 127, 600)


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The native core multiplies, whatever the processor and the sizes."""
    monkeypatch.setattr(native.cpu, "PRODUCT_IS_FASTER", True)
    monkeypatch.setattr(products, "LEAST_SIDE", 1)
    monkeypatch.setattr(products, "LEAST_WORK", 1)
    yield


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def exact(left: Tensor, right: Tensor, bias: Tensor | None = None, scale: float = 1.0) -> Tensor:
    found = scale * (left.double() @ right.double())
    return found if bias is None else found + bias.double()


def bound(left: Tensor, right: Tensor, scale: float = 1.0) -> Tensor:
    """Largest error of sums of float32, element by element."""
    return abs(scale) * (left.abs().double() @ right.abs().double()) * (left.shape[1] + 2) * 2.0**-24 + 1e-30


@pytest.mark.parametrize("across", [False, True], ids=["left is transposed", "right is transposed"])
def test_every_size_and_layout(forced: None, across: bool) -> None:
    for rows, columns, inner in itertools.product(SIZES, SIZES, (1, 16, 513, 1030)):
        left = draw(rows, inner) if across else draw(inner, rows).t()
        right = draw(columns, inner, seed=1).t() if across else draw(inner, columns, seed=1)
        out = torch.full((rows, columns), math.nan)
        products.multiply(left, right, out)
        assert ((out - exact(left, right)).abs() <= bound(left, right)).all(), (rows, columns, inner)


@pytest.mark.parametrize(("rows", "columns"), [(40, 300), (300, 40)])
@pytest.mark.parametrize("inner", [0, 1, 700])
def test_scale_bias_and_what_was_there(forced: None, rows: int, columns: int, inner: int) -> None:
    left, right, bias = draw(rows, inner), draw(inner, columns, seed=1), draw(columns, seed=2)
    bias[3] = -math.inf
    wide = torch.full((rows, columns + 7), 5.0)
    out = wide[:, 2 : columns + 2]
    products.multiply(left, right, out, bias=bias, scale=-0.5)
    wanted = exact(left, right, bias, -0.5)
    room = bound(left, right, 0.5) + (bias.abs() + wanted.abs()).nan_to_num(posinf=0.0) * 2.0**-23
    assert (out[:, 3] == -math.inf).all()
    others = [column for column in range(columns) if column != 3]
    assert ((out - wanted).abs() <= room)[:, others].all()
    assert (wide[:, :2] == 5.0).all() and (wide[:, columns + 2 :] == 5.0).all()
    before = draw(rows, columns, seed=3)
    products.multiply(left, right, out.copy_(before), scale=2.0, keep=True)
    room = bound(left, right, 2.0) + (before.abs().double() + wanted.abs().nan_to_num(posinf=0.0)) * 2.0**-22
    assert ((out - (before.double() + exact(left, right, scale=2.0))).abs() <= room).all()


def test_nan_and_infinity_stay_in_their_row(forced: None) -> None:
    left, right = draw(50, 40), draw(40, 70, seed=1)
    left[7, 3], left[9, 0] = math.nan, math.inf
    out = products.multiply(left, right, torch.empty(50, 70))
    assert out[7].isnan().all() and not out[9].isfinite().any()
    kept = [row for row in range(50) if row not in (7, 9)]
    assert out[kept].isfinite().all()


@pytest.mark.parametrize(("rows", "columns", "inner"), [(200, 500, 700), (500, 200, 700), (90, 3000, 64)])
def test_an_element_has_its_bits_in_any_company(forced: None, rows: int, columns: int, inner: int) -> None:
    """With any number of threads, and with any other rows and columns, whichever factor is packed."""
    left, right = draw(rows, inner), draw(columns, inner, seed=1).t()
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(products.multiply(left, right, torch.empty(rows, columns)))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    for part in (slice(0, 1), slice(3, 40), slice(60, 90)):
        alone = products.multiply(left[part], right, torch.empty(len(left[part]), columns))
        assert torch.equal(alone, found[0][part])
        narrow = products.multiply(left, right[:, part], torch.empty(rows, alone.shape[0]))
        assert torch.equal(narrow, found[0][:, part])


def test_small_ones_and_other_dtypes_are_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native.cpu, "PRODUCT_IS_FASTER", True)
    for left, right in (
        (draw(31, 900), draw(900, 700)),
        (draw(40, 20), draw(20, 40)),
        (draw(64, 300).double(), draw(300, 64).double()),
        (draw(64, 300).bfloat16(), draw(300, 64).bfloat16()),
    ):
        out = left.new_empty(len(left), right.shape[1])
        assert torch.equal(products.multiply(left, right, out), torch.mm(left, right))
    monkeypatch.setattr(native.cpu, "PRODUCT_IS_FASTER", False)
    left, right, bias = draw(200, 300), draw(300, 200), draw(200)
    out = products.multiply(left, right, torch.empty(200, 200), bias=bias, scale=0.5)
    assert torch.equal(out, torch.addmm(bias, left, right, alpha=0.5))


# The output layer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_bias", [True, False])
def test_the_layer_is_torchs_linear(forced: None, with_bias: bool) -> None:
    leaves = [draw(4, 30, 48), draw(90, 48, seed=1), *([draw(90, seed=2)] if with_bias else [])]
    upstream = draw(4, 30, 90, seed=3)
    gradients = []
    for layer in (products.linear, torch_linear):
        own = [leaf.clone().requires_grad_() for leaf in leaves]
        found = layer(*own, *([] if with_bias else [None]))
        found.backward(upstream)
        gradients.append([found.detach(), *(leaf.grad for leaf in own)])
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-5, atol=2e-5)
    with torch.no_grad():
        torch.testing.assert_close(
            products.linear(*leaves, *([] if with_bias else [None])), gradients[1][0], rtol=2e-5, atol=2e-5
        )


def test_a_gradient_alone_is_computed_alone(forced: None) -> None:
    inputs, weight, bias = draw(40, 48), draw(90, 48), draw(90)
    for wanted in range(3):
        leaves = [
            one.clone().requires_grad_(place == wanted) for place, one in enumerate((inputs, weight, bias))
        ]
        products.linear(*leaves).sum().backward()
        assert [leaf.grad is not None for leaf in leaves] == [place == wanted for place in range(3)]


def test_logits_may_be_written_in_place(forced: None) -> None:
    """As tokens are forbidden in them."""
    found = []
    for layer in (products.linear, torch_linear):
        inputs, weight = draw(4, 30, 48).requires_grad_(), draw(90, 48, seed=1).requires_grad_()
        logits = layer(inputs, weight, None)
        logits.index_fill_(2, torch.tensor([3, 5]), -9.0).square().sum().backward()
        found.append((inputs.grad, weight.grad))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-3)


def test_second_derivatives_are_torchs(forced: None) -> None:
    found = []
    for layer, dtype in ((products.linear, torch.float32), (torch_linear, torch.float64)):
        inputs, weight = (
            draw(40, 48).to(dtype).requires_grad_(),
            draw(90, 48, seed=1).to(dtype).requires_grad_(),
        )
        (first,) = torch.autograd.grad(layer(inputs, weight, None).square().sum(), inputs, create_graph=True)
        first.square().sum().backward()
        found.append((inputs.grad, weight.grad))
    for mine, exact in zip(*found, strict=True):
        assert mine is not None and exact is not None
        assert (mine - exact).abs().max() < 1e-5 * exact.abs().max()


def test_transforms_compilers_and_autocast_get_torchs_layer(forced: None) -> None:
    inputs, weight, bias = draw(40, 48), draw(90, 48, seed=1), draw(90, seed=2)
    wanted = torch_linear(inputs, weight, bias)
    close = {"rtol": 2e-5, "atol": 2e-5}

    def total(w: Tensor) -> Tensor:
        return products.linear(inputs, w, bias).square().sum()

    reference = weight.clone().requires_grad_()
    torch_linear(inputs, reference, bias).square().sum().backward()
    torch.testing.assert_close(torch.func.grad(total)(weight), reference.grad, rtol=1e-4, atol=1e-3)
    per_row = torch.func.vmap(lambda row: products.linear(row, weight, bias))(inputs.unsqueeze(1))
    torch.testing.assert_close(per_row.squeeze(1), wanted, **close)
    _, tangent = torch.func.jvp(
        lambda x: products.linear(x, weight, bias), (inputs,), (torch.ones_like(inputs),)
    )
    torch.testing.assert_close(tangent, torch_linear(torch.ones_like(inputs), weight), **close)
    compiled = torch.compile(lambda x: products.linear(x, weight, bias), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(inputs), wanted, **close)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert products.linear(inputs, weight, bias).dtype == torch.bfloat16
    assert products.linear(inputs.double(), weight.double(), bias.double()).dtype == torch.float64
    meta = products.linear(inputs.to("meta"), weight.to("meta"), bias.to("meta"))
    assert meta.shape == wanted.shape


def test_a_head_gives_the_same_loss_and_gradients(forced: None, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for native_products in (True, False):
        monkeypatch.setattr(native.cpu, "PRODUCT_IS_FASTER", native_products)
        hidden, weight = draw(150, 40).requires_grad_(), draw(700, 40, seed=1).requires_grad_()
        bias, mask = draw(700, seed=2).requires_grad_(), torch.arange(150) % 5 > 0
        head = Head(hidden, weight, bias, scale=0.25, softcap=5.0)
        loss = token_cross_entropy(head, torch.arange(150) % 700, mask=mask, reduction="sum")
        loss.backward()
        found.append([loss.detach(), hidden.grad, weight.grad, bias.grad])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


# The kernel for other processors, and what it refuses -----------------------------------------------------------------

PROBE = """
import json, torch
from softbellman.core import native, products
products.LEAST_SIDE = products.LEAST_WORK = 1
made = torch.Generator().manual_seed(0)
worst = 0.0
for rows, columns, inner in ((7, 9, 3), (70, 33, 600), (33, 70, 5), (64, 64, 64)):
    left, right = torch.randn(rows, inner, generator=made), torch.randn(columns, inner, generator=made).t()
    bias = torch.randn(columns, generator=made)
    out = products.multiply(left, right, torch.empty(rows, columns), bias=bias)
    worst = max(worst, float((out - (left.double() @ right.double() + bias)).abs().max()))
print(json.dumps([bool(native.cpu.PRODUCT_IS_FASTER), native.build_info()["simd_active"], worst]))
"""


@pytest.mark.parametrize("simd", ["baseline", "avx2", "avx512"])
@pytest.mark.parametrize("products_of", ["native", "blas"])
def test_variables_choose_the_kernel(simd: str, products_of: str) -> None:
    environment = {**os.environ, "SOFTBELLMAN_SIMD": simd, "SOFTBELLMAN_PRODUCTS": products_of}
    told = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=True
    )
    ours, level, worst = json.loads(told.stdout)
    assert ours == (products_of == "native") and level in ("baseline", "avx2", "avx512") and worst < 1e-3


def test_what_the_kernel_refuses() -> None:
    good = {
        "rows": 2, "columns": 3, "inner": 4, "left": (64, 4, 1), "right": (64, 3, 1), "out": 64, "out_row": 3,
        "bias": 0, "scale": 1.0, "keep": False, "threads": 1,
    }  # fmt: skip
    for wrong, message in (
        ({"rows": -1}, "sizes must be from 0"),
        ({"inner": 1 << 41}, "sizes must be from 0"),
        ({"left": (0, 4, 1)}, "left must not be a null pointer"),
        ({"right": (0, 4, 1)}, "right must not be a null pointer"),
        ({"out": 0}, "out must not be a null pointer"),
        ({"out_row": 2}, "rows of out must not overlap"),
        ({"keep": True, "bias": 64}, "a bias is added to a new product alone"),
        ({"threads": 0}, "threads must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            native.cpu.product(**{**good, **wrong})
    native.cpu.product(**{**good, "rows": 0, "out": 0})  # nothing to do
