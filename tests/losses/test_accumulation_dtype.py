"""How a 16-bit weight gets its gradient: by columns, rounded once, or added up over the chunks in its own dtype."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import softbellman as sb
from softbellman import Head
from softbellman.core.chunks import HeadChunks
from softbellman.core.columns import HeadColumns

ROOT = Path(__file__).parents[2]
ROWS, WIDTH, VOCABULARY = 96, 8, 60


def gradients(dtype: torch.dtype | None, reduction: str = "sum", **options: object) -> tuple[Tensor, ...]:
    """Of hidden, weight and bias in bfloat16, and in float64 of the same numbers."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((ROWS, WIDTH), (VOCABULARY, WIDTH), (VOCABULARY,))
    parts = [torch.randn(shape, generator=generator).bfloat16() for shape in shapes]
    targets = torch.randint(0, VOCABULARY, (ROWS,), generator=generator)
    leaves = [part.requires_grad_() for part in parts]
    head = Head(*leaves, accumulation_dtype=dtype, chunk_rows=4, **options)  # type: ignore[arg-type]
    found = torch.autograd.grad(sb.token_cross_entropy(head, targets, reduction=reduction).sum(), leaves)
    wide = [part.detach().double().requires_grad_() for part in parts]
    loss = sb.token_cross_entropy(Head(*wide, **options), targets, reduction="sum")  # type: ignore[arg-type]
    return *found, *torch.autograd.grad(loss, wide)


def relative(actual: Tensor, exact: Tensor) -> float:
    return float((actual.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("reduction", ["none", "sum"])
@pytest.mark.parametrize("options", [{}, {"vocabulary": 50, "scale": 0.5, "softcap": 6.0}])
def test_sums_in_16_bits_round_at_every_chunk(reduction: str, options: dict[str, object]) -> None:
    """24 chunks: each rounding is at most 2^-9 of a partial sum."""
    *kept, exact_hidden, exact, exact_bias = gradients(None, reduction, **options)
    *narrow, _, _, _ = gradients(torch.bfloat16, reduction, **options)
    assert all(one.dtype == torch.bfloat16 for one in (*kept, *narrow))
    assert relative(kept[1], exact) < relative(narrow[1], exact) < 24**0.5 * 2**-9 + relative(kept[1], exact)
    assert relative(kept[0], exact_hidden) < 1.3 * relative(narrow[0], exact_hidden)
    assert relative(kept[2], exact_bias) < 0.02
    same = gradients(torch.float32, reduction, **options)
    assert all(torch.equal(one, other) for one, other in zip(kept, same, strict=False))


@pytest.mark.parametrize("reduction", ["none", "sum"])
@pytest.mark.parametrize(
    ("dtype", "masked", "softcap"),
    [(None, False, None), (torch.float32, True, 9.0), (torch.bfloat16, False, 9.0)],
)
def test_no_float32_weight_gradient_is_held(
    reduction: str,
    dtype: torch.dtype | None,
    masked: bool,
    softcap: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond gradients: a block, with a cap two, what a matmul holds, and float32 sums of hidden states."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks._memory import largest_bytes, peak_bytes

    rows, width, vocabulary = 1300, 128, 16000
    generator = torch.Generator().manual_seed(0)
    leaves = [
        torch.randn(size, width, generator=generator).bfloat16().requires_grad_()
        for size in (rows, vocabulary)
    ]
    mask = torch.arange(rows) < 1290 if masked else None
    head = Head(*leaves, accumulation_dtype=dtype, softcap=softcap)
    targets = torch.zeros(rows, dtype=torch.int64)

    def both() -> object:
        loss = sb.token_cross_entropy(head, targets, mask, reduction=reduction)
        return torch.autograd.grad(loss.sum(), leaves)

    blocks = (1 if softcap is None else 2) * rows * vocabulary * 2 // 20
    extra = peak_bytes(both, "cpu") - sum(leaf.nbytes for leaf in leaves)
    assert largest_bytes(both) < 1.1 * leaves[1].nbytes
    assert extra <= 1.05 * blocks + 3 * rows * width * 4 + (1 << 20)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("masked", [False, True])
def test_both_passes_round_the_logits_alike(
    dtype: torch.dtype, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last chunk has one row, of which a matmul adds up in another order: the normaliser saved of it is of these bits."""
    rows, width, vocabulary = 65, 2048, 30_000
    seen: dict[str, dict[tuple[int, int], Tensor]] = {"forward": {}, "backward": {}}

    def forward(self: HeadChunks, part: slice) -> Tensor:
        found = chunk_logits(self, part)
        seen["forward"][part.start, 0] = found.clone()
        return found

    def backward(self: HeadColumns, block: slice) -> Tensor:
        found = column_logits(self, block)
        seen["backward"][0, block.start] = found[:, : block.stop - block.start].clone()
        return found

    chunk_logits, column_logits = HeadChunks.logits, HeadColumns.logits
    monkeypatch.setattr(HeadChunks, "logits", forward)
    monkeypatch.setattr(HeadColumns, "logits", backward)
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (
        torch.randn(size, width, generator=generator).to(dtype) for size in (rows + 2 * masked, vocabulary)
    )
    mask = torch.arange(rows + 2) % 40 != 1 if masked else None
    head = Head(hidden, weight.requires_grad_(), chunk_rows=64)
    sb.soft_value(head, tau=1.0, mask=mask).sum().backward()
    assert len(seen["forward"]) == 2 and len(seen["backward"]) > 1
    whole = torch.cat([seen["forward"][key] for key in sorted(seen["forward"])])
    again = torch.cat([seen["backward"][key] for key in sorted(seen["backward"])], 1)
    assert torch.equal(whole, again)


def test_autocast_decides_the_dtype_of_the_weight() -> None:
    hidden, weight = torch.randn(5, 4), torch.randn(7, 4, requires_grad=True)
    head = Head(hidden, weight, accumulation_dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        sb.token_cross_entropy(head, torch.zeros(5, dtype=torch.int64), reduction="sum").backward()
    assert weight.grad is not None and weight.grad.dtype == torch.float32
    sentence = "accumulation_dtype must be None, torch.float32 or torch.float32 for a weight in torch.float32"
    with pytest.raises(TypeError, match=sentence):
        sb.token_cross_entropy(head, torch.zeros(5, dtype=torch.int64))


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_what_no_chunk_has_written_is_0(dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is not cleared holds NaN here; the gradient of padding and of no real row is 0 all the same."""
    new_empty = Tensor.new_empty

    def poisoned(self: Tensor, *shape: object, **how: object) -> Tensor:
        made = new_empty(self, *shape, **how)  # type: ignore[arg-type]
        return made.fill_(float("nan")) if made.is_floating_point() else made

    monkeypatch.setattr(Tensor, "new_empty", poisoned)
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(size, 4, generator=generator).bfloat16() for size in (6, 9))
    weight.requires_grad_()
    head = Head(hidden, weight, vocabulary=7, chunk_rows=2, accumulation_dtype=dtype)
    targets = torch.arange(6)
    for mask in (None, torch.arange(6) < 3, torch.zeros(6, dtype=torch.bool)):
        loss = sb.token_cross_entropy(head, targets, mask, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, weight)
        assert not gradient.isnan().any() and not gradient[7:].any()
        assert bool(gradient.any()) == (mask is None or bool(mask.any()))
