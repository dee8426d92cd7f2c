"""Statistics of tokens and their weighted sum, ignored targets, masks of integers, smoothed labels, padded heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import softbellman as sb
from softbellman import Head, reference, token_cross_entropy, token_objective, token_statistics

OUTPUTS = ("log_prob", "entropy", "log_normalizer")
INFINITY = float("inf")


def make(rows: int = 6, vocabulary: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, vocabulary, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), torch.randint(vocabulary, (rows,), generator=generator)


def make_head(**options: Any) -> tuple[Head, list[Tensor], Tensor]:
    """A head of 6 rows and 23 tokens, its tensors, and targets."""
    generator = torch.Generator().manual_seed(4)
    shapes = ((6, 5), (23, 5), (23,))
    parts = [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes
    ]
    targets = torch.randint(20, (6,), generator=generator)
    return Head(*parts, chunk_rows=4, **options), parts, targets


def test_outputs_come_in_the_order_asked_for() -> None:
    logits, targets = make()
    every = dict(zip(OUTPUTS, token_statistics(logits, targets), strict=True))
    for names in (("entropy",), ("log_normalizer", "log_prob"), OUTPUTS[::-1]):
        for name, found in zip(names, token_statistics(logits, targets, outputs=names), strict=True):
            assert torch.equal(found, every[name])
    entropy, normalizer = token_statistics(logits, None, outputs=("entropy", "log_normalizer"))
    assert torch.equal(entropy, every["entropy"]) and torch.equal(normalizer, every["log_normalizer"])
    (gradient,) = torch.autograd.grad(normalizer.sum(), logits)
    torch.testing.assert_close(gradient, logits.softmax(-1))


def test_it_is_what_the_other_operators_say() -> None:
    logits, targets = make()
    log_prob, entropy, normalizer = token_statistics(logits, targets)
    torch.testing.assert_close(log_prob, -token_cross_entropy(logits, targets))
    torch.testing.assert_close(entropy, sb.policy_value(logits, torch.zeros_like(logits), tau=1.0).entropy)
    torch.testing.assert_close(normalizer, sb.soft_value(logits, tau=1.0))


def test_an_impossible_target_gives_minus_infinity() -> None:
    logits = torch.tensor([0.0, -INFINITY, 1.0], requires_grad=True)
    log_prob, entropy, _ = token_statistics(logits, torch.tensor(1))
    assert log_prob == -INFINITY and entropy.isfinite()
    found = token_objective(logits, torch.tensor(1), log_prob_weights=0.0, entropy_weights=1.0)
    assert found.objective == entropy  # a weight of 0 counts nothing
    assert torch.autograd.grad(found.objective, logits)[0].isfinite().all()


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("as_head", [False, True], ids=["logits", "head"])
def test_objective_is_the_weighted_sum(reduction: str, as_head: bool) -> None:
    head, parts, targets = make_head(scale=0.5, softcap=6.0)
    rows = head if as_head else head.logits()
    mask = torch.tensor([True, True, False, True, True, True])
    weights = torch.linspace(-2, 2, 6, dtype=torch.float64)
    found = token_objective(
        rows, targets, log_prob_weights=weights, entropy_weights=0.1, normalizer_weights=-0.3,
        squared_normalizer_weights=0.01, mask=mask, reduction=reduction,
    )  # fmt: skip
    log_prob, entropy, normalizer = reference.token_statistics(head.logits(), targets, mask=mask)
    wanted = weights * log_prob + 0.1 * entropy - 0.3 * normalizer + 0.01 * normalizer.square()
    wanted = wanted.sum() / (5 if reduction == "mean" else 1)
    torch.testing.assert_close(found.objective, wanted)
    for statistic, truth in zip(found[1:], (log_prob, entropy, normalizer), strict=True):
        assert not statistic.requires_grad
        torch.testing.assert_close(statistic, truth.detach())
    for one, other in zip(
        torch.autograd.grad(found.objective, parts), torch.autograd.grad(wanted, parts), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_a_reduced_objective_of_a_head_makes_three_matmuls(monkeypatch: pytest.MonkeyPatch) -> None:
    head, parts, targets = make_head()
    made = 0

    def counted(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*arguments: Any, **options: Any) -> Tensor:
            nonlocal made
            made += 1
            return function(*arguments, **options)

        return call

    for owner, name in ((torch, "mm"), (torch, "addmm"), (Tensor, "mm"), (Tensor, "addmm_")):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    for loss, expected in (
        (lambda: token_objective(head, targets, entropy_weights=0.1).objective, 3),
        (lambda: torch.stack(token_statistics(head, targets)).sum(), 4),
    ):
        made = 0
        torch.autograd.grad(loss(), parts)
        assert made == 2 * expected  # of two chunks


Call = Callable[..., Tensor]
CALLS: dict[str, Call] = {
    "cross entropy": lambda rows, targets, **how: token_cross_entropy(rows, targets, reduction="mean", **how),
    "smoothed": lambda rows, targets, **how: token_cross_entropy(
        rows, targets, label_smoothing=0.2, reduction="mean", **how
    ),
    "statistics": lambda rows, targets, **how: torch.stack(token_statistics(rows, targets, **how)).sum(),
    "objective": lambda rows, targets, **how: (
        token_objective(rows, targets, entropy_weights=0.5, reduction="mean", **how).objective
    ),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@every_call
@pytest.mark.parametrize("ignore_index", [-100, 7])
@pytest.mark.parametrize("as_head", [False, True], ids=["logits", "head"])
def test_an_ignored_target_is_a_masked_row(call: Call, ignore_index: int, as_head: bool) -> None:
    head, parts, targets = make_head()
    targets = torch.where(targets == 7, 8, targets)
    rows: Tensor | Head = head if as_head else head.logits()
    ignored = torch.tensor([False, True, False, False, True, False])
    mask = torch.tensor([True, True, True, False, True, True])
    wanted = call(rows, targets, mask=mask & ~ignored)
    found = call(rows, targets.masked_fill(ignored, ignore_index), mask=mask, ignore_index=ignore_index)
    assert torch.equal(found, wanted)
    for one, other in zip(
        torch.autograd.grad(found, parts, retain_graph=True), torch.autograd.grad(wanted, parts), strict=True
    ):
        assert torch.equal(one, other)
    nothing = call(rows, torch.full_like(targets, ignore_index), ignore_index=ignore_index)
    assert nothing == 0


def test_ignored_targets_are_those_of_torch() -> None:
    logits, targets = make()
    targets[2] = -100
    found = token_cross_entropy(logits, targets, ignore_index=-100, label_smoothing=0.1, reduction="mean")
    torch.testing.assert_close(found, cross_entropy(logits, targets, label_smoothing=0.1))
    with pytest.raises(TypeError, match="ignore_index must be an int or None, got float"):
        token_cross_entropy(logits, targets, ignore_index=-100.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ids"):
        token_cross_entropy(logits, targets)


def masked_calls() -> dict[str, Callable[[Tensor], Any]]:
    """Every operator that takes a mask, as a function of the mask `[2, 3]`."""
    generator = torch.Generator().manual_seed(2)
    logits, q = torch.randn(2, 2, 3, 9, generator=generator)
    ids, numbers = torch.randint(9, (2, 3), generator=generator), torch.randn(2, 3, generator=generator)
    head = Head(torch.randn(2, 3, 4, generator=generator), torch.randn(9, 4, generator=generator))
    known = ids.unsqueeze(-1)
    return {
        "soft_value": lambda mask: sb.soft_value(q, tau=0.5, mask=mask),
        "soft_value of a head": lambda mask: sb.soft_value(head, tau=0.5, mask=mask),
        "soft_bellman_residual": lambda mask: sb.soft_bellman_residual(q, ids, numbers, mask, tau=0.5),
        "terminal": lambda mask: sb.soft_bellman_residual(q, ids, numbers, tau=0.5, terminal=mask),
        "policy_value": lambda mask: sb.policy_value(logits, q, tau=0.5, mask=mask),
        "actor_loss": lambda mask: sb.actor_loss(logits, q, tau=0.5, mask=mask, reduction="mean"),
        "critic_loss": lambda mask: sb.critic_loss(q, ids, numbers, mask, smoothness=0.1),
        "critic_loss of a head": lambda mask: sb.critic_loss(head, ids, numbers, mask, smoothness=0.1),
        "erac_critic_loss": lambda mask: sb.erac_critic_loss(
            logits, q, q, ids, numbers, mask, tau=0.5, smoothness=0.1
        ),
        "path_consistency": lambda mask: sb.path_consistency(logits, q, numbers, ids, numbers, mask, tau=0.5),
        "td_targets": lambda mask: sb.td_targets(numbers, numbers, mask, trace=0.5),
        "soft_target_cross_entropy": lambda mask: sb.soft_target_cross_entropy(logits, q, tau=0.5, mask=mask),
        "token_cross_entropy": lambda mask: sb.token_cross_entropy(logits, ids, mask, reduction="mean"),
        "token_statistics": lambda mask: sb.token_statistics(logits, ids, mask=mask),
        "token_objective": lambda mask: sb.token_objective(head, ids, mask=mask, row_weights=numbers),
        "divergence": lambda mask: sb.divergence(logits, q, mask=mask, reduction="mean"),
        "divergence of several": lambda mask: sb.divergence(logits, [q, head], mask=mask),
        "sparse_divergence": lambda mask: sb.sparse_divergence(
            logits, known, numbers[..., None] - 3, mask=mask
        ),
        "sample_tokens": lambda mask: sb.sample_tokens(logits, seed=1, mask=mask),
    }


@pytest.mark.parametrize("name", masked_calls())
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32, torch.int64], ids=str)
def test_integers_are_masks(name: str, dtype: torch.dtype) -> None:
    call, mask = masked_calls()[name], torch.tensor([[True, True, False], [True, False, False]])
    found, wanted = call(mask.to(dtype)), call(mask)
    as_tuple = (lambda one: (one,)) if isinstance(wanted, Tensor) else tuple
    for one, other in zip(as_tuple(found), as_tuple(wanted), strict=True):
        assert torch.equal(one, other)
    what = "terminal" if name == "terminal" else "mask"
    with pytest.raises(ValueError, match=f"{what} must be bool or hold integers 0 and 1, got 2"):
        call(2 * mask.to(dtype))
    with pytest.raises(TypeError, match=f"{what} must be a bool tensor or hold integers 0 and 1"):
        call(mask.float())


def test_every_operator_with_a_mask_is_among_them() -> None:
    import inspect

    masked = {name for name in sb.losses.__all__ if "mask" in inspect.signature(getattr(sb, name)).parameters}
    assert masked <= {name.split(" ")[0] for name in masked_calls()}


def test_integers_are_masks_of_the_reference() -> None:
    logits, targets = make()
    mask = torch.tensor([1, 1, 0, 1, 0, 1])
    found = reference.token_statistics(logits, targets, mask=mask)
    for one, other in zip(found, reference.token_statistics(logits, targets, mask=mask.bool()), strict=True):
        assert torch.equal(one, other)


def test_compiled_with_a_mask_of_integers() -> None:
    logits, targets = make()
    mask = torch.tensor([1, 1, 0, 1, 0, 1])
    targets[0] = -100

    def loss(rows: Tensor, real: Tensor) -> Tensor:
        statistics = token_statistics(rows, targets, mask=real, ignore_index=-100)
        smoothed = token_cross_entropy(rows, targets, real, ignore_index=-100, label_smoothing=0.1)
        objective = token_objective(
            rows, targets, entropy_weights=0.1, mask=real, ignore_index=-100
        ).objective
        return torch.stack([*statistics, smoothed]).sum() + objective

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(logits, mask), loss(logits, mask))
    assert torch.equal(*(torch.autograd.grad(call(logits, mask), logits)[0] for call in (compiled, loss)))
    with pytest.raises(ValueError, match="mask must be bool or hold integers 0 and 1, got 3"):
        compiled(logits, 3 * mask)


@pytest.mark.parametrize("smoothing", [0.1, 1.0])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_smoothed_labels_are_those_of_torch(smoothing: float, reduction: str) -> None:
    logits, targets = make()
    found = token_cross_entropy(logits, targets, label_smoothing=smoothing, reduction=reduction)
    wanted = cross_entropy(logits, targets, label_smoothing=smoothing, reduction=reduction)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(*(torch.autograd.grad(one.sum(), logits)[0] for one in (found, wanted)))


def test_padding_gets_no_share_of_a_label() -> None:
    head, parts, targets = make_head(vocabulary=20)
    found = token_cross_entropy(head, targets, label_smoothing=0.3, reduction="sum")
    tokens = Head(parts[0], parts[1][:20], parts[2][:20])
    wanted = cross_entropy(tokens.logits(), targets, label_smoothing=0.3, reduction="sum")
    torch.testing.assert_close(found, wanted)
    for one, other in zip(torch.autograd.grad(found, parts), torch.autograd.grad(wanted, parts), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    "options", [{}, {"softcap": 3.0}, {"scale": 0.5}, {"softcap": 3.0, "scale": 2.0}], ids=str
)
@pytest.mark.parametrize("biased", [True, False], ids=["bias", "no bias"])
def test_padding_of_a_head(options: dict[str, float], biased: bool) -> None:
    """NaN in the padding is not read; results are those of the tokens alone, the padding's gradient is 0."""
    _, parts, targets = make_head()
    parts = parts if biased else parts[:2]
    poisoned = [part.detach().clone() for part in parts]
    for part in poisoned[1:]:
        part[20:] = float("nan")
    leaves = [part.requires_grad_() for part in poisoned]
    padded = Head(*leaves, vocabulary=20, chunk_rows=4, **options)  # type: ignore[arg-type]
    short = Head(parts[0], *(part[:20] for part in parts[1:]), **options)  # type: ignore[arg-type]
    assert padded.shape == (6, 23) and (padded.logits()[:, 20:] == -INFINITY).all()
    torch.testing.assert_close(padded.logits()[:, :20], short.logits())
    q = Head(
        torch.ones(6, 2, dtype=torch.float64), torch.linspace(-1, 1, 46, dtype=torch.float64).view(23, 2)
    )
    calls: dict[str, Callable[[Head, Head], Tensor]] = {
        "soft_value": lambda one, _: sb.soft_value(one, tau=0.5),
        "critic_loss": lambda one, _: sb.critic_loss(one, targets, torch.ones(6), smoothness=0.1).loss,
        "actor_loss": lambda one, other: sb.actor_loss(one, other, tau=0.5, reduction="sum").loss,
        "divergence": lambda one, other: sb.divergence(one, other, kind="reverse_kl"),
        "statistics": lambda one, _: torch.stack(token_statistics(one, targets)),
        "objective": lambda one, _: token_objective(one, targets, entropy_weights=0.3).objective,
        "cross entropy": lambda one, _: token_cross_entropy(one, targets, reduction="mean"),
    }
    short_q = Head(q.hidden, q.weight[:20])
    for name, call in calls.items():
        found, wanted = call(padded, q), call(short, short_q)
        if name == "divergence":  # the other has mass on the padding, the student none
            found = call(padded, Head(q.hidden, q.weight, vocabulary=20))
        torch.testing.assert_close(found, wanted, msg=lambda m, n=name: f"{n}: {m}")
        got = torch.autograd.grad(found.sum(), leaves)
        for one, other in zip(got, torch.autograd.grad(wanted.sum(), parts), strict=True):
            torch.testing.assert_close(one, other, msg=lambda m, n=name: f"{n}: {m}")
    tokens = sb.sample_tokens(padded.detach()[[0] * 500], seed=3).tokens
    assert (tokens < 20).all()
    assert padded[2:4].vocabulary == 20 and padded.detach().vocabulary == 20


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_padding_of_a_head_in_other_dtypes(dtype: torch.dtype) -> None:
    _, parts, targets = make_head()
    leaves = [part.detach().to(dtype).requires_grad_() for part in parts]
    padded = Head(*leaves, vocabulary=20, chunk_rows=4)
    exact = token_objective(padded.logits().double(), targets, entropy_weights=0.5).objective
    found = token_objective(padded, targets, entropy_weights=0.5).objective
    torch.testing.assert_close(found.double(), exact, rtol=4 * torch.finfo(dtype).eps, atol=1e-3)
    for gradient in torch.autograd.grad(found, leaves)[1:]:
        assert gradient.isfinite().all() and not gradient[20:].any() and gradient[:20].any()


def test_bad_input_is_refused() -> None:
    logits, targets = make()
    _, parts, _ = make_head()
    for call, kind, message in (
        (lambda: token_statistics(logits, None), ValueError, "targets must be given where outputs has 'log_prob'"),
        (lambda: token_statistics(logits, None, outputs=("entropy",), ignore_index=1), ValueError, "with ignore_index"),
        (lambda: token_statistics(logits, targets, outputs=()), ValueError, "outputs must name some of"),
        (lambda: token_statistics(logits, targets, outputs=("entropies",)), ValueError, "outputs must name some of"),
        (lambda: token_statistics(logits, targets + 40), ValueError, "ids"),
        (lambda: token_objective(logits, targets, entropy_weights=INFINITY), ValueError, "entropy_weights must be finite"),
        (lambda: token_objective(logits, targets, entropy_weights=targets), TypeError, "entropy_weights must be a floating"),
        (lambda: token_objective(logits, targets, entropy_weights=True), TypeError, "entropy_weights must be a Python"),
        (lambda: token_cross_entropy(logits, targets, label_smoothing=1.5), ValueError, "label_smoothing must be between"),
        (lambda: Head(*parts, vocabulary=24), ValueError, "vocabulary must be between 1 and 23, got 24"),
        (lambda: Head(*parts, vocabulary=2.0), TypeError, "vocabulary must be an int or None, got float"),
    ):  # fmt: skip
        with pytest.raises(kind, match=message):
            call()
