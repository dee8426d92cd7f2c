"""Distillation from several teachers, tiny divergences, and references of another dtype, width or making."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import softbellman as sb
from softbellman import Head, divergence, reference

KINDS = ("forward_kl", "reverse_kl", "jsd")


def rows(count: int, *shape: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(2 * torch.randn(count, *shape, generator=generator, dtype=torch.float64))


def head(
    width: int,
    dtype: torch.dtype = torch.float64,
    *,
    leading: tuple[int, ...] = (2, 3),
    seed: int = 0,
    **options: Any,
) -> Head:
    generator = torch.Generator().manual_seed(seed)
    parts = [
        torch.randn(shape, generator=generator).to(dtype) for shape in ((*leading, width), (17, width), (17,))
    ]
    return Head(*parts, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_of_stored_rows(kind: str, count: int, dtype: torch.dtype) -> None:
    student, *teachers = (one.to(dtype) for one in rows(count + 1, 3, 4, 21))
    mask = torch.arange(4).expand(3, 4) < torch.tensor([[4], [2], [0]])
    student[~mask] = float("nan")
    weights = [0.7, 0.0, 1.5, 0.2][:count]
    temperatures = [1.0, 2.0, 0.5, 3.0][:count]
    options = {"kind": kind, "beta": 0.3, "temperature": 0.8, "mask": mask}
    options |= {"other_weights": weights, "other_temperature": temperatures, "reduction": "mean"}
    leaf, wide = student.clone().requires_grad_(), student.double().requires_grad_()
    found = divergence(leaf, teachers, **options)
    wanted = reference.divergence(wide, [one.double() for one in teachers], **options)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)
    gradient, exact = torch.autograd.grad(found, leaf)[0], torch.autograd.grad(wanted, wide)[0]
    # Each teacher's gradient is rounded before they are added, and they may cancel.
    rounding = count * torch.finfo(dtype).eps * float(exact.abs().max())
    torch.testing.assert_close(gradient.double(), exact, rtol=1e-5, atol=max(rounding, 1e-6))
    assert not gradient[~mask].any()


def test_without_weights_it_is_the_mean() -> None:
    student, *teachers = rows(4, 5, 9)
    found = divergence(student, teachers, temperature=2.0)
    apart = [divergence(student, one, temperature=2.0) for one in teachers]
    torch.testing.assert_close(found, torch.stack(apart).mean(0))


@pytest.mark.parametrize("reduction", ["none", "sum"])
@pytest.mark.parametrize("softcap", [None, 3.0])
def test_of_heads_and_stored_rows(reduction: str, softcap: float | None) -> None:
    student = head(5, softcap=softcap, chunk_rows=4)
    teachers = [head(7, torch.float32, seed=1), rows(1, 2, 3, 17)[0], head(3, seed=2, scale=0.5)]
    parts = [part.requires_grad_() for part in (student.hidden, student.weight, student.bias)]
    weights = torch.rand(2, 3, dtype=torch.float64)
    options = {"other_weights": (0.5, 2.0, 1.0), "reduction": reduction, "row_weights": weights}
    found = divergence(student, teachers, **options)
    made = [one.logits().double() if isinstance(one, Head) else one for one in teachers]
    wanted = reference.divergence(student.logits(), made, **options)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    upstream = torch.rand(found.shape, dtype=torch.float64)
    pair = zip(
        torch.autograd.grad(found, parts, upstream), torch.autograd.grad(wanted, parts, upstream), strict=True
    )
    for one, other in pair:
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_gradcheck_and_compilation() -> None:
    student, *teachers = rows(3, 2, 5)
    options = {"kind": "jsd", "other_weights": [0.4, 1.2]}
    leaf = student.requires_grad_()
    assert torch.autograd.gradcheck(lambda one: divergence(one, teachers, **options), (leaf,))
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda one: divergence(one, teachers, **options).sum(), fullgraph=True, backend="aot_eager"
    )
    found, wanted = compiled(leaf), divergence(leaf, teachers, **options).sum()
    assert torch.equal(found, wanted)
    assert torch.equal(*(torch.autograd.grad(one, leaf)[0] for one in (found, wanted)))


def test_bad_lists_are_refused() -> None:
    student, *teachers = rows(6, 2, 5)
    for others, options, message in (
        ([], {}, "other must be 1 to 4 distributions, got 0"),
        (teachers, {}, "other must be 1 to 4 distributions, got 5"),
        (teachers[:2], {"other_weights": [1.0]}, "other_weights must have a number for each of the 2"),
        (teachers[:2], {"other_weights": [1.0, -1.0]}, r"other_weights\[1\] must be finite and at least 0"),
        (
            teachers[:2],
            {"other_temperature": [1.0]},
            "other_temperature must have a number for each of the 2",
        ),
        ([teachers[0], teachers[1][:1]], {}, r"other\[1\] must have the shape of logits"),
        (teachers[0], {"other_weights": [1.0]}, "other_weights must be None unless other is a list"),
    ):
        with pytest.raises(ValueError, match=message):
            divergence(student, others, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocabulary", [100, 5000])
@pytest.mark.parametrize(
    ("mean", "spread", "temperature"), [(100.0, 2.0, 1.0), (0.0, 100.0, 40.0)], ids=["mean", "spread"]
)
def test_a_tiny_divergence_of_large_logits_keeps_two_digits(
    kind: str, vocabulary: int, mean: float, spread: float, temperature: float
) -> None:
    """float32 logits of a size of 100, apart by so little that the divergence is about 1e-9: right within 1 %."""
    generator = torch.Generator().manual_seed(vocabulary)
    logits = (mean + spread * torch.randn(200, vocabulary, generator=generator, dtype=torch.float64)).float()
    apart = temperature * 1e-4 * torch.randn(200, vocabulary, generator=generator)
    other = torch.where(torch.rand(logits.shape, generator=generator) < 0.5, logits + apart, logits)
    options = {"kind": kind, "temperature": temperature}
    found = divergence(logits, other, **options)
    exact = reference.divergence(logits.double(), other.double(), **options)
    assert 2e-10 < exact.mean() < 5e-9
    assert (found >= 0).all()
    assert ((found.double() - exact).abs() <= 0.01 * exact).all()


TEACHERS = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)


@TEACHERS
@pytest.mark.parametrize("stored", [False, True], ids=["head", "logits"])
@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_a_reference_made_in_inference_mode(dtype: torch.dtype, stored: bool, reduction: str) -> None:
    """Priors and teachers that are constants, of another width and dtype, made where autograd kept nothing."""
    student = head(5, torch.float32, chunk_rows=2)
    with torch.inference_mode():
        made = head(8, dtype, seed=1)
        other: Head | Tensor = made.logits() if stored else made
        q: Head | Tensor = head(3, dtype, seed=2).logits() if stored else head(3, dtype, seed=2)
    plain = made.logits().clone().float()
    plain_q = (q if isinstance(q, Tensor) else q.logits()).clone().float()
    ids, numbers = torch.arange(6).view(2, 3), torch.ones(2, 3)
    parts = [part.requires_grad_() for part in (student.hidden, student.weight, student.bias)]
    known = torch.tensor([0, 3]).expand(2, 3, 2)

    def reduced(loss: Tensor) -> Tensor:
        return loss.sum()

    calls = {
        "soft_value": lambda rows, prior, _: reduced(sb.soft_value(rows, tau=0.5, prior=prior)),
        "policy_value": lambda rows, prior, of: reduced(
            sb.policy_value(rows, of, tau=0.5, prior=prior).value
        ),
        "actor_loss": lambda rows, prior, of: reduced(
            sb.actor_loss(rows, of, tau=0.5, prior=prior, reduction=reduction).loss
        ),
        "path_consistency": lambda rows, prior, _: reduced(
            sb.path_consistency(rows, prior, numbers, ids, numbers, tau=0.5).square()
        ),
        "divergence": lambda rows, prior, _: reduced(sb.divergence(rows, prior, reduction=reduction)),
        "several": lambda rows, prior, of: reduced(sb.divergence(rows, [prior, of], reduction=reduction)),
        "soft targets": lambda rows, prior, _: reduced(
            sb.soft_target_cross_entropy(rows, prior, tau=0.5, reduction=reduction)
        ),
        "sparse": lambda rows, prior, _: reduced(
            sb.sparse_divergence(rows, known, _log_probs(prior, known), reduction=reduction)
        ),
    }
    for name, call in calls.items():
        found, wanted = call(student, other, q), call(student.logits(), plain, plain_q)
        # 16-bit heads of an inference mode are made logits by a matmul of 16 bits on both sides.
        torch.testing.assert_close(
            found.float(), wanted.float(), rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )
        pair = zip(torch.autograd.grad(found, parts), torch.autograd.grad(wanted, parts), strict=True)
        for one, other_one in pair:
            torch.testing.assert_close(
                one, other_one, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
            )


def _log_probs(teacher: Head | Tensor, ids: Tensor) -> Tensor:
    logits = teacher.logits() if isinstance(teacher, Head) else teacher
    return logits.float().log_softmax(-1).gather(-1, ids)


def test_whole_rows_with_a_teacher_of_inference_mode() -> None:
    student, plain = (one.float() for one in rows(2, 4, 9))
    with torch.inference_mode():
        teacher = plain.clone()
    leaf = student.requires_grad_()
    for call in (
        lambda one: sb.divergence(leaf, one).sum(),
        lambda one: sb.actor_loss(leaf, one, tau=0.3, prior=one).loss.sum(),
        lambda one: sb.soft_value(leaf, tau=0.3, prior=one).sum(),
        lambda one: sb.divergence(leaf, [one, one]).sum(),
    ):
        assert torch.equal(*(torch.autograd.grad(call(one), leaf)[0] for one in (teacher, plain)))
