"""The divergence of a teacher known at K tokens: its definitions, its edges, and what its sums promise."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from losses.harness import DTYPES, INFINITY, LAYOUTS, lay_out, statistic_dtype
from softbellman import Head, divergence, reference, sparse_divergence

KINDS = tuple(itertools.product(("forward", "reverse"), ("bucket", "renormalise", "drop")))
every_kind = pytest.mark.parametrize(("direction", "tail"), KINDS)


def make(
    *shape: int, known: int = 4, dtype: torch.dtype = torch.float64, seed: int = 0, scale: float = 2.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Student's logits and the teacher's, ids and log-probabilities of `known` tokens of each row."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = scale * torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    log_probs, ids = teacher.log_softmax(-1).topk(min(known, shape[-1]), -1)
    return student.to(dtype), teacher, ids, log_probs


def both(logits: Tensor, ids: Tensor, log_probs: Tensor, **options: object) -> None:
    """Assert that result and gradient equal the float64 reference's."""
    leaf, wide = logits.detach().requires_grad_(), logits.detach().double().requires_grad_()
    found = sparse_divergence(leaf, ids, log_probs, **options)  # type: ignore[arg-type]
    expected = reference.sparse_divergence(wide, ids, log_probs.double(), **options)  # type: ignore[arg-type]
    upstream = torch.linspace(-1, 2, found.numel(), dtype=found.dtype).view(found.shape)
    (gradient,) = torch.autograd.grad(found, leaf, upstream)
    finite = expected.isfinite()
    (wanted,) = torch.autograd.grad(
        (expected[finite] * upstream.double()[finite]).sum() + 0 * wide.nansum(), wide
    )
    assert found.dtype == statistic_dtype(logits.dtype)
    tight = {"rtol": 1e-11, "atol": 1e-12} if logits.dtype == torch.float64 else {"rtol": 2e-5, "atol": 2e-6}
    torch.testing.assert_close(found.double(), expected, **tight)
    half = logits.dtype in (torch.bfloat16, torch.float16)
    of_gradient = {"rtol": float(torch.finfo(logits.dtype).eps), "atol": 2e-6} if half else tight
    torch.testing.assert_close(gradient.double(), wanted, **of_gradient)


@every_kind
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(9,), (1, 5), (3, 33), (2, 3, 500), (0, 7), (2, 0, 5)], ids=str)
def test_definition(direction: str, tail: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    logits, _, ids, log_probs = make(*shape, dtype=dtype)
    both(logits, ids, log_probs, direction=direction, tail=tail)


@every_kind
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides(direction: str, tail: str, layout: str) -> None:
    logits, _, ids, log_probs = make(2, 3, 33, dtype=torch.float32)
    if layout == "expanded":
        ids, log_probs = ids[:1, :1].expand(ids.shape), log_probs[:1, :1].expand(ids.shape)
    both(lay_out(logits, layout), ids, log_probs, direction=direction, tail=tail)


@every_kind
def test_masked_rows_are_not_read(direction: str, tail: str) -> None:
    logits, _, ids, log_probs = make(2, 4, 33, dtype=torch.float32)
    mask = torch.tensor([[True, False, True, True], [True, True, False, False]])
    both(logits, ids, log_probs, direction=direction, tail=tail, mask=mask)
    found = []
    for poison in (False, True):
        rows, where, known = logits.clone(), ids.clone(), log_probs.clone()
        if poison:
            rows[~mask], where[~mask], known[~mask] = math.nan, -7, math.nan
        rows.requires_grad_()
        loss = sparse_divergence(rows, where, known, direction=direction, tail=tail, mask=mask)
        upstream = torch.ones_like(loss).masked_fill(~mask, math.nan)
        (gradient,) = torch.autograd.grad(loss, rows, upstream)
        assert not loss[~mask].any() and not gradient[~mask].any()
        found.append((loss.detach(), gradient))
    for clean, poisoned in zip(*found, strict=True):
        assert torch.equal(clean, poisoned)


@every_kind
def test_gradcheck(direction: str, tail: str) -> None:
    logits, _, ids, log_probs = make(3, 7)
    assert torch.autograd.gradcheck(
        lambda rows: sparse_divergence(rows, ids, log_probs, direction=direction, tail=tail),
        (logits.requires_grad_(),),
    )


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("tail", ["bucket", "renormalise", "drop"])
def test_a_teacher_known_everywhere_is_the_divergence(direction: str, tail: str) -> None:
    logits, teacher, ids, log_probs = make(4, 12, known=12)
    found = sparse_divergence(logits, ids, log_probs, direction=direction, tail=tail)
    torch.testing.assert_close(found, divergence(logits, teacher, kind=f"{direction}_kl"))


def test_absent_entries_are_not_looked_at() -> None:
    logits, _, ids, log_probs = make(3, 20)
    padded_ids = torch.cat([ids, torch.tensor([[-1, 99], [0, 0], [5, 5]])], -1)
    padded = torch.cat([log_probs, torch.full((3, 2), -INFINITY, dtype=torch.float64)], -1)
    for direction, tail in KINDS:
        options = {"direction": direction, "tail": tail}
        leaf, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        found, wanted = (
            sparse_divergence(leaf, padded_ids, padded, **options),
            sparse_divergence(other, ids, log_probs, **options),
        )
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(
            torch.autograd.grad(found.sum(), leaf)[0], torch.autograd.grad(wanted.sum(), other)[0]
        )


@every_kind
def test_no_entry_at_all(direction: str, tail: str) -> None:
    logits = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    nothing = torch.full((2, 3), -INFINITY)
    found = sparse_divergence(
        logits, torch.zeros(2, 3, dtype=torch.int64), nothing, direction=direction, tail=tail
    )
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    torch.testing.assert_close(found, torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-15)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-15)


@every_kind
def test_rows_with_negative_infinity(direction: str, tail: str) -> None:
    """The student rules out nothing, a known token, all other tokens, all known tokens, everything."""
    logits, _, ids, log_probs = make(5, 9, seed=3)
    others = torch.ones(5, 9, dtype=torch.bool).scatter(1, ids, False)
    logits[1, ids[1, 0]] = -INFINITY
    logits[2, others[2]] = -INFINITY
    logits[3, ~others[3]] = -INFINITY
    logits[4] = -INFINITY
    found = sparse_divergence(logits, ids, log_probs, direction=direction, tail=tail)
    assert not found.isnan().any()
    both(logits, ids, log_probs, direction=direction, tail=tail)


def test_a_tiny_rest_keeps_its_digits() -> None:
    """The student's rest of 1e-12 is no difference of 1 and a sum."""
    logits = torch.full((1, 1000), -34.5, dtype=torch.float32)
    logits[0, :3] = torch.tensor([0.5, 0.2, -0.1])
    log_probs = torch.tensor([[0.4, 0.3, 0.2]]).log()
    for direction in ("forward", "reverse"):
        both(logits, torch.tensor([[0, 1, 2]]), log_probs, direction=direction)


def test_a_full_teacher_has_no_rest() -> None:
    """Probabilities that add up to 1 but for their rounding give finite losses in both directions."""
    logits, _, ids, log_probs = make(50, 40, known=39, dtype=torch.float32, scale=8.0)
    teacher = log_probs.log_softmax(-1).float()
    for direction in ("forward", "reverse"):
        found = sparse_divergence(logits, ids, teacher, direction=direction)
        assert found.isfinite().all() and (found >= 0).all()


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@every_kind
def test_a_padded_capped_head(direction: str, tail: str, reduction: str) -> None:
    generator = torch.Generator().manual_seed(1)
    hidden, weight = torch.randn(6, 5, generator=generator), torch.randn(23, 5, generator=generator)
    bias = torch.randn(23, generator=generator)
    _, _, ids, log_probs = make(6, 20)
    parts = [part.double().requires_grad_() for part in (hidden, weight, bias)]
    head = Head(*parts, scale=0.7, softcap=4.0, vocabulary=20, chunk_rows=4)
    weights = torch.rand(6, generator=generator, dtype=torch.float64)
    options = {"direction": direction, "tail": tail, "reduction": reduction, "row_weights": weights}
    found = sparse_divergence(head, ids, log_probs, **options)
    wanted = reference.sparse_divergence(head.logits(), ids, log_probs, **options)
    torch.testing.assert_close(found, wanted)
    got = torch.autograd.grad(found.sum(), parts)
    for one, other in zip(got, torch.autograd.grad(wanted.sum(), parts), strict=True):
        torch.testing.assert_close(one, other)
    assert not got[1][20:].any() and not got[2][20:].any()


def test_compiled() -> None:
    logits, _, ids, log_probs = make(3, 12, dtype=torch.float32)
    leaf = logits.requires_grad_()

    def loss(rows: Tensor) -> Tensor:
        return sparse_divergence(rows, ids, log_probs, direction="reverse", reduction="mean")

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(leaf), loss(leaf))
    assert torch.equal(*(torch.autograd.grad(call(leaf), leaf)[0] for call in (compiled, loss)))


def test_bad_input_is_refused() -> None:
    logits, _, ids, log_probs = make(3, 12)
    for wrong, message in (
        ({"direction": "back"}, "direction must be one of"),
        ({"tail": "cut"}, "tail must be one of"),
        ({"ids": ids[:2]}, r"ids must have shape \[3, K\]"),
        ({"ids": ids.int()}, "ids must hold int64"),
        ({"ids": ids + 12}, r"ids must lie in \[0, 12\), got"),
        ({"ids": torch.zeros_like(ids)}, "ids must differ within a row, got 0 twice"),
        ({"log_probs": log_probs[:, :2]}, "log_probs must have the shape of ids"),
        ({"log_probs": ids}, "log_probs must be a floating tensor"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            sparse_divergence(**{"logits": logits, "ids": ids, "log_probs": log_probs, **wrong})  # type: ignore[arg-type]
