"""What the operators from hidden states promise to PyTorch, and how little memory they take."""

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
from softbellman.losses.linear._rows import choose_chunk_rows

from .harness import Arguments, tensors
from .linear_cases import ACTORS, CASES, CRITIC, MIXTURE, POLICY, TOKEN, LinearCase, make, run

ROOT = Path(__file__).resolve().parents[2]
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def head(rows: int, width: int, dtype: torch.dtype, *, grad: bool = True, seed: int = 0) -> list[Tensor]:
    """hidden [2, rows, width], weight [5, width] and bias [5]."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((2, rows, width), (5, width), (5,))
    values = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes)
    return [value.requires_grad_(grad) for value in values]


def raw_calls() -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Every registered operator with arguments for `torch.library.opcheck`; gradients are given no graph."""
    registered = torch.ops.softbellman
    actor, critic = head(3, 4, torch.float32), head(3, 6, torch.float32, seed=1)
    constant = [value.detach() for value in critic]
    ids, mask = torch.randint(0, 5, (2, 3)), torch.tensor([[True, True, False], [True, True, True]])
    numbers = torch.rand(2, 3)
    for taken in (0, 7):
        yield (
            "linear_cross_entropy",
            (*actor, *constant, 0.5, ids, numbers, mask, numbers if taken else None, 2, taken),
        )
        yield "linear_critic_loss", (*critic, ids, numbers, 0.1, mask, 2, taken)
        yield "linear_policy", (*actor, *constant, 0.3, 1, mask, 2, taken)
    half = head(3, 4, torch.bfloat16)
    yield "linear_cross_entropy", (*half[:2], None, None, None, None, 1.0, ids, None, None, None, 0, 3)
    yield "linear_policy", (*actor, *critic, 0.3, 0, None, 0, 0)
    yield "linear_soft_value", (*critic, 0.5, torch.rand(5), ids, mask, 4)
    yield "linear_soft_value", (*half[:2], None, 0.5, None, None, None, 0)
    actor, critic = [value.detach() for value in actor], constant
    forbidden = torch.tensor([True, False, False, False, False])
    yield "linear_sample_tokens", (*actor, 1, 2, 0.5, forbidden, mask, 4)
    yield "linear_sample_tokens", (*actor, 0, 0, 0.5, None, None, 2, torch.tensor(1), torch.tensor(2), ids)
    loss = registered.linear_cross_entropy(*actor, *critic, 0.5, ids, numbers, mask, None, 2, 0)
    policy = registered.linear_policy(*actor, *critic, 0.3, 0, mask, 2, 0)
    regression = registered.linear_critic_loss(*critic, ids, numbers, 0.1, mask, 2, 7)
    *values, _ = registered.linear_soft_value(*critic, 0.5, None, ids, mask, 2)
    mixed = (*actor, *critic, 0.5, ids, numbers, mask, None, 2)
    yield "linear_cross_entropy_backward", (numbers, *mixed, *loss[1:5], 7)
    yield (
        "linear_critic_loss_backward",
        (numbers, *critic, ids, numbers, 0.1, mask, 2, *regression[1:4], 2),
    )
    yield "linear_soft_value_backward", (numbers, None, *critic, 0.5, None, ids, mask, 2, *values, 5)
    both = (*actor, *critic, 0.3, 0, mask, 2, *policy[:6])
    yield "linear_policy_backward", (numbers, None, *both, 2, 7)
    yield "linear_sum_backward", (torch.tensor(0.5), *critic, *regression[6:])


CALLS = list(raw_calls())


@pytest.mark.parametrize("call", CALLS, ids=[name for name, _ in CALLS])
def test_opcheck(call: tuple[str, tuple[Any, ...]]) -> None:
    name, arguments = call
    torch.library.opcheck(getattr(torch.ops.softbellman, name).default, arguments)


def test_opcheck_covers_every_operator() -> None:
    names = torch._C._dispatch_get_all_op_names()
    registered = {name.split("::")[1] for name in names if name.startswith("softbellman::linear_")}
    assert registered == {name for name, _ in CALLS}


@every_case
@pytest.mark.parametrize("reduction", ("none", "sum"))
def test_gradcheck(case: LinearCase, reduction: str) -> None:
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
    (hidden, weight, bias), (q_hidden, q_weight, q_bias) = actor, critic
    heads = (hidden, weight, q_hidden, q_weight, bias, q_bias)
    sums: dict[str, Any] = {"reduction": "sum"}
    mean: dict[str, Any] = {"reduction": "mean"}
    return (
        *sb.linear_policy_value(*heads, tau=0.3, mask=mask),
        *sb.linear_actor_loss(*heads, tau=0.3, mask=mask, entropy="normalized"),
        sb.linear_actor_loss(*heads, tau=0.3, mask=mask, **mean).loss,
        sb.linear_soft_target_cross_entropy(
            *heads, tau=0.4, mask=mask, targets=ids, oracle_weight=0.2, chunk_rows=3
        ),
        sb.linear_soft_target_cross_entropy(*heads, tau=0.4, **sums),
        sb.linear_token_cross_entropy(hidden, weight, ids, bias, mask),
        sb.linear_token_cross_entropy(hidden, weight, ids, None, mask, **mean),
        *sb.linear_critic_loss(q_hidden, q_weight, ids, numbers, q_bias, mask, smoothness=0.1),
        *sb.linear_critic_loss(q_hidden, q_weight, ids, numbers, q_bias, mask, **sums),
        sb.linear_soft_bellman_residual(q_hidden, q_weight, ids, numbers, q_bias, mask, tau=0.4),
        sb.linear_soft_value(q_hidden, q_weight, tau=0.5, mask=mask),
        *sb.linear_sample_tokens(hidden, weight, bias, seed=5, offset=1, mask=mask),
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
def test_a_second_derivative_is_refused(case: LinearCase) -> None:
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
def test_autocast_casts_the_heads_alone(case: LinearCase, reduction: str) -> None:
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
    assert choose_chunk_rows(500, weight, 0) == 64  # at least 64 rows
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
