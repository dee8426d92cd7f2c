"""What the operators on heads promise to PyTorch, and how little memory they take."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import softbellman as ops
import softbellman as sb
from losses.harness import Arguments, distinct, recorded_calls, registered_operators, tensors
from losses.head_cases import ACTORS, CASES, CRITIC, MIXTURE, POLICY, TOKEN, HeadCase, every_case, make, run
from softbellman.core.chunks import choose_chunk_rows

ROOT = Path(__file__).resolve().parents[2]


def head(rows: int, width: int, dtype: torch.dtype, *, grad: bool = True, seed: int = 0) -> list[Tensor]:
    """hidden [2, rows, width], weight [5, width] and bias [5]."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((2, rows, width), (5, width), (5,))
    values = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes)
    return [value.requires_grad_(grad) for value in values]


def raw_calls() -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Every registered chunked operator with arguments for `torch.library.opcheck`; gradients are given no graph."""
    registered = torch.ops.softbellman
    actor, critic = head(3, 4, torch.float32), head(3, 6, torch.float32, seed=1)
    constant = [value.detach() for value in critic]
    ids, mask = torch.randint(0, 5, (2, 3)), torch.tensor([[True, True, False], [True, True, True]])
    numbers, nothing = torch.rand(2, 3), (None, None, None, 1.0, 0.0, 0, False)
    plain, capped, padded = (1.0, 0.0, 0, False), (0.5, 3.0, 0, False), (0.5, 3.0, 4, True)
    stored = (torch.randn(2, 3, 5, requires_grad=True), None, None, 1.0, 0.0, 0, False)
    for taken, inplace in ((0, False), (7, False), (7, True)):
        weights = numbers if taken else None
        yield (
            "cross_entropy_chunked",
            (*actor, *capped, *constant, *plain, 0.5, ids, numbers, mask, weights, 2, taken, inplace),
        )
        yield "critic_loss_chunked", (*critic, *plain, ids, numbers, 0.1, mask, weights, 2, taken, inplace)
    prior = (*constant, *plain)
    yield "policy_chunked", (*actor, *plain, *critic, *capped, *nothing, 0.3, 1, mask, None, 2, 0, False)
    yield "policy_chunked", (*actor, *plain, *stored, *prior, 0.3, 0, None, None, 2, 0, False)
    yield "policy_chunked", (*actor, *plain, *critic, *plain, *nothing, 0.3, 0, mask, numbers, 2, 63, False)
    half = head(3, 4, torch.bfloat16)
    yield (
        "cross_entropy_chunked",
        (*half[:2], None, *plain, *nothing, 1.0, ids, None, None, None, 0, 3, False),
    )
    yield "soft_value_chunked", (*critic, *plain, *nothing, 0.5, mask, None, 4, 0, False)
    yield "soft_value_chunked", (*critic, *padded, *actor, *padded, 0.5, mask, None, 4, 0, False)
    several = (*actor, *capped, *critic, *plain, *stored[:1], *stored[1:], *nothing, *nothing)
    several = (*several, 0, 0.5, 1.0, [1.0, 2.0], [0.5, 0.25], mask, None, 2)
    yield "several_divergences_chunked", (*several, 7, False)
    yield "action_soft_value_chunked", (*critic, *capped, 0.5, ids, mask, None, 4, 0, False)
    actor, critic = [value.detach() for value in actor], constant
    mixed = (*actor, *plain, *critic, *plain, 0.5, ids, numbers, mask, None, 2)
    loss = registered.cross_entropy_chunked(*mixed, 0, False)
    yield "cross_entropy_chunked_backward", (numbers, *mixed, *loss[1:5], 7)
    regression = (*critic, *plain, ids, numbers, 0.1, mask, None, 2)
    results = registered.critic_loss_chunked(*regression, 0, False)
    yield "critic_loss_chunked_backward", (numbers, *regression, results[1], *results[3:5], 2)
    values = (*critic, *plain, *nothing, 0.5, mask, None, 2)
    yield (
        "soft_value_chunked_backward",
        (numbers, *values, *registered.soft_value_chunked(*values, 0, False)[1:3], 5),
    )
    values = (*critic, *plain, 0.5, ids, mask, None, 2)
    value, _, correction = registered.action_soft_value_chunked(*values, 0, False)[:3]
    yield "action_soft_value_chunked_backward", (numbers, None, *values, value, correction, 5)
    both = (*actor, *plain, *critic, *capped, *nothing, 0.3, 0, mask, None, 2)
    policy = registered.policy_chunked(*both, 0, False)
    yield "policy_chunked_backward", (numbers, None, *both, *policy[:6], 2 + 8)
    several = (
        *actor,
        *plain,
        *critic,
        *plain,
        *nothing,
        *nothing,
        *nothing,
        0,
        0.5,
        1.0,
        [1.0],
        [0.5],
        mask,
        None,
        2,
    )
    saved = registered.several_divergences_chunked(*several, 0, False)[1:19]
    yield "several_divergences_chunked_backward", (numbers, *several, *saved, 7)
    for case in CASES.values():
        for options in ({}, {"reduction": "sum"}) if case.reduces else ({},):
            arguments = {**make(case, (2, 3), dtype=torch.float32), "mask": mask, "chunk_rows": 2, **options}
            if case.name == "soft_bellman_residual":
                arguments["mask"] = mask.flip(0)
            yield from recorded_calls(partial(run, case, partial(case.call, ops), arguments))
    yield "scaled_gradient", (torch.tensor(0.5), half[0].detach(), torch.rand(2, 3, 4))


CALLS = distinct(raw_calls())


@pytest.mark.parametrize("call", CALLS, ids=[name for name, _ in CALLS])
def test_opcheck(call: tuple[str, tuple[Any, ...]]) -> None:
    name, arguments = call
    torch.library.opcheck(getattr(torch.ops.softbellman, name).default, arguments)


def test_opcheck_covers_every_operator() -> None:
    registered = {name for name in registered_operators() if "chunked" in name}
    assert registered == {name for name, _ in CALLS} - {"scaled_gradient", "known_ids"}


@every_case
@pytest.mark.parametrize("reduction", ("none", "sum"))
def test_gradcheck(case: HeadCase, reduction: str) -> None:
    if case is ACTORS[1]:
        pytest.skip("its effective temperature is held constant, which finite differences do not do")
    arguments: Arguments = {**make(case, (2, 3), hidden=3, vocabulary=5), "chunk_rows": 2}
    arguments["mask"] = torch.tensor([[True, True, False], [True, True, True]])
    if reduction == "sum":
        if not case.reduces:
            pytest.skip("a value has no reduction")
        arguments["reduction"] = "sum"
    leaves = {name: tensors(arguments)[name].requires_grad_() for name in case.gradients}

    def call(*values: Tensor) -> tuple[Tensor, ...]:
        results = case.call(ops, {**arguments, **dict(zip(leaves, values, strict=True))})
        return tuple(results[name] for name in case.outputs if results[name].requires_grad)

    assert torch.autograd.gradcheck(call, tuple(leaves.values()))


def everything(
    actor: list[Tensor], critic: list[Tensor], ids: Tensor, numbers: Tensor, mask: Tensor
) -> tuple[Tensor, ...]:
    """One call of each operator, those that reduce in both ways."""
    policy, q = sb.Head(*actor), sb.Head(*critic)
    sums: dict[str, Any] = {"reduction": "sum"}
    mean: dict[str, Any] = {"reduction": "mean"}
    return (
        *sb.policy_value(policy, q, tau=0.3, mask=mask),
        *sb.actor_loss(policy, q, tau=0.3, mask=mask, entropy="normalized"),
        sb.actor_loss(policy, q, tau=0.3, mask=mask, **mean).loss,
        sb.soft_target_cross_entropy(policy, q, tau=0.4, mask=mask, targets=ids, oracle_weight=0.2),
        sb.soft_target_cross_entropy(policy, q, tau=0.4, **sums),
        sb.token_cross_entropy(policy, ids, mask),
        sb.token_cross_entropy(policy, ids, mask, **mean),
        *sb.critic_loss(q, ids, numbers, mask, smoothness=0.1),
        *sb.critic_loss(q, ids, numbers, mask, **sums),
        sb.soft_bellman_residual(q, ids, numbers, mask, tau=0.4),
        sb.soft_value(q, tau=0.5, mask=mask),
        *sb.sample_tokens(policy, seed=5, offset=1, mask=mask),
    )


def outputs_and_gradients(function: Any, rows: int) -> list[Tensor]:
    actor, critic = head(rows, 4, torch.float32), head(rows, 6, torch.float32, seed=1)
    ids = torch.arange(2 * rows).view(2, rows) % 5
    numbers = torch.randn(2, rows, generator=torch.Generator().manual_seed(2))
    results = function(actor, critic, ids, numbers, numbers > -1.0)
    graded = [result for result in results if result.requires_grad]
    assert len(graded) == 13
    upstream = [torch.full_like(result, 0.1 * number) for number, result in enumerate(graded)]
    return [*results, *torch.autograd.grad(graded, [*actor, *critic], upstream)]


def test_compiled_without_a_graph_break_equals_eager() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(everything, fullgraph=True, backend="aot_eager", dynamic=True)
    for rows in (3, 5):
        eager = outputs_and_gradients(everything, rows)
        for one, other in zip(outputs_and_gradients(compiled, rows), eager, strict=True):
            torch.testing.assert_close(one, other)


@every_case
def test_a_second_derivative_is_refused(case: HeadCase) -> None:
    for reduction in ("none", "sum") if case.reduces else ("none",):
        arguments = make(case, (2, 3))
        if reduction == "sum":
            arguments["reduction"] = reduction
        leaf = tensors(arguments)["hidden"].requires_grad_()
        result = case.call(ops, {**arguments, "hidden": leaf})[case.outputs[0]]
        (gradient,) = torch.autograd.grad(result.sum(), leaf, create_graph=True)
        with pytest.raises(RuntimeError, match="cannot be differentiated a second time"):
            gradient.sum().backward()


@pytest.mark.parametrize("reduction", ("none", "sum"))
def test_a_graph_may_be_walked_twice_and_inputs_are_not_written(reduction: str) -> None:
    arguments = {**make(CRITIC, (9,), dtype=torch.float32), "reduction": reduction, "chunk_rows": 4}
    before = {name: value.clone() for name, value in tensors(arguments).items()}
    leaves = [tensors(arguments)[name].requires_grad_() for name in CRITIC.gradients]
    loss = CRITIC.call(ops, arguments)["loss"].sum()
    once = torch.autograd.grad(loss, leaves, retain_graph=True)
    again = torch.autograd.grad(loss, leaves)
    for one, other in zip(once, again, strict=True):
        assert torch.equal(one, other)
    for name, value in tensors(arguments).items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("case", (TOKEN, MIXTURE), ids=("token", "mixture"))
@pytest.mark.parametrize("reduction", ("none", "sum"))
def test_autocast_casts_the_heads_alone(case: HeadCase, reduction: str) -> None:
    """The numbers are those of heads cast by hand; gradients come back in float32."""
    arguments = {**make(case, (2, 5), dtype=torch.float32), "reduction": reduction, "chunk_rows": 3}
    names = [name for name in arguments if name.removeprefix("q_") in ("hidden", "weight", "bias")]
    by_hand = run(
        case,
        lambda given: case.call(ops, {**given, **{n: tensors(given)[n].bfloat16() for n in names}}),
        arguments,
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        automatic = run(case, partial(case.call, ops), arguments)
    for some, others in zip(automatic, by_hand, strict=True):
        for name, value in some.items():
            assert value.dtype == torch.float32 and torch.equal(value, others[name]), name


def test_without_a_graph_nothing_requires_a_gradient() -> None:
    arguments = make(POLICY, (2, 3))
    tensors(arguments)["weight"].requires_grad_()
    with torch.no_grad():
        for value in POLICY.call(ops, arguments).values():
            assert not value.requires_grad


def test_the_critic_of_an_actor_gets_no_gradient() -> None:
    arguments = make(ACTORS[0], (2, 3))
    for name in ("weight", "q_weight", "q_hidden"):
        tensors(arguments)[name].requires_grad_()
    ACTORS[0].call(ops, arguments)["loss"].sum().backward()
    assert tensors(arguments)["weight"].grad is not None
    assert tensors(arguments)["q_weight"].grad is None and tensors(arguments)["q_hidden"].grad is None


def test_chunks_are_a_twentieth_of_the_rows_within_bounds() -> None:
    weight = torch.empty(1, 1).expand(5000, 1)
    assert choose_chunk_rows(100_000, weight, 0) == 64 * 2**20 // 20_000 // 16 * 16  # 64 MiB
    assert choose_chunk_rows(20_000, weight, 0) == 992  # 5 %
    assert choose_chunk_rows(1280, weight, 0) == 64  # at least 64 rows
    assert choose_chunk_rows(1279, weight, 0) == choose_chunk_rows(500, weight, 0) == 128  # of fewer 128
    assert (
        choose_chunk_rows(200, weight, 0) == 96 and choose_chunk_rows(100, weight, 0) == 64
    )  # half of very few
    assert choose_chunk_rows(500, torch.empty(200_000, 1), 0) == 80  # which 64 MiB hold
    assert choose_chunk_rows(40, weight, 0) == 40 and choose_chunk_rows(0, weight, 0) == 1
    assert choose_chunk_rows(500, weight, 7) == 7
    assert choose_chunk_rows(100_000, weight, 0, heads=2) == 32 * 2**20 // 20_000 // 16 * 16


@pytest.mark.parametrize(
    ("name", "reduction"),
    (
        *((name, "none") for name in ("token", "critic", "actor exact", "mixture", "policy", "residual")),
        *((name, "sum") for name in ("token", "critic", "actor exact", "mixture")),
    ),
)
@pytest.mark.parametrize("masked", (False, True), ids=("all real", "masked"))
def test_memory_beyond_the_results_is_a_twentieth_of_the_logits(
    name: str, reduction: str, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward and backward of 4,096 rows: gradients, once, chunks, numbers per row."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks._memory import peak_bytes

    case, rows, vocabulary = CASES[name], 4096, 3000
    arguments = make(case, (4, rows // 4), hidden=16, vocabulary=vocabulary, dtype=torch.float32)
    if masked:
        arguments["mask"] = torch.arange(rows // 4).expand(4, -1) < 900
    if reduction == "sum":
        arguments["reduction"] = reduction
    leaves = [tensors(arguments)[argument].requires_grad_() for argument in case.gradients]

    def both() -> object:
        results = case.call(ops, arguments)
        outputs = [results[output].sum() for output in case.outputs if results[output].requires_grad]
        return torch.autograd.grad(torch.stack(outputs).sum(), leaves)

    kept = sum(leaf.numel() * leaf.element_size() for leaf in leaves)
    heads = 2 if "q_hidden" in arguments else 1
    logits = heads * rows * vocabulary * 4
    extra = peak_bytes(both, "cpu") - kept
    assert 0 < extra <= 0.05 * logits + 64 * rows
