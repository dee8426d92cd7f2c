"""A reduced loss scales its saved gradients in place, with the bits of new tensors, and only where nobody can tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import softbellman as ops
from softbellman.losses.linear import _donation

from .harness import Arguments, tensors
from .linear_cases import CASES, CRITIC, HEAD, TOKEN, LinearCase, make

reducing = {name: case for name, case in CASES.items() if case.reduces}
every_case = pytest.mark.parametrize("case", reducing.values(), ids=reducing)
FACTOR = 0.7  # rounds in every type


def prepared(
    case: LinearCase, reduction: str = "sum", dtype: torch.dtype = torch.float32
) -> tuple[Arguments, list[Tensor]]:
    """Arguments of 11 rows with one masked, and the leaves hidden, weight and bias among them."""
    arguments = {**make(case, (11,), dtype=dtype), "reduction": reduction, "chunk_rows": 4}
    arguments["mask"] = torch.arange(11) != 5
    return arguments, [tensors(arguments)[name].requires_grad_() for name in HEAD]


def loss_of(case: LinearCase, arguments: Arguments) -> Tensor:
    return case.call(ops, arguments)["loss"]


def addresses(loss: Tensor) -> list[int]:
    """Of the saved gradients of hidden, weight and bias."""
    node: Any = loss.grad_fn
    while not hasattr(node, "saved_tensors"):
        node = node.next_functions[0][0]
    return [tensor.data_ptr() for tensor in node.saved_tensors[3:]]


def in_new_tensors(
    case: LinearCase,
    monkeypatch: pytest.MonkeyPatch,
    reduction: str = "sum",
    dtype: torch.dtype = torch.float32,
) -> list[Tensor]:
    """The gradients of `FACTOR * loss` with a torch that does not tell whether it may be in place."""
    with monkeypatch.context() as patch:
        patch.setattr(_donation, "_CAN_TELL", False)
        arguments, leaves = prepared(case, reduction, dtype)
        loss = loss_of(case, arguments)
        saved = addresses(loss)
        gradients = torch.autograd.grad(FACTOR * loss, leaves)
    assert not {gradient.data_ptr() for gradient in gradients} & set(saved)
    return list(gradients)


def assert_equal(actual: Any, expected: Any) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


@every_case
@pytest.mark.parametrize("reduction", ("sum", "mean"))
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64, torch.bfloat16, torch.float16), ids=str)
def test_the_saved_gradients_are_the_gradients_with_the_bits_of_new_ones(
    case: LinearCase, reduction: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, leaves = prepared(case, reduction, dtype)
    loss = loss_of(case, arguments)
    saved = addresses(loss)
    (FACTOR * loss).backward()
    gradients = [leaf.grad for leaf in leaves]
    assert_equal(gradients, in_new_tensors(case, monkeypatch, reduction, dtype))
    in_place = [
        gradient is not None and gradient.data_ptr() == at
        for gradient, at in zip(gradients, saved, strict=True)
    ]
    rounded = dtype in (torch.bfloat16, torch.float16)  # gradients of weight and bias, from float32
    assert in_place == [True, not rounded, not rounded]


@every_case
def test_a_kept_graph_gives_every_gradient_anew(case: LinearCase, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = in_new_tensors(case, monkeypatch)
    arguments, leaves = prepared(case)
    loss = loss_of(case, arguments)
    saved, scaled = addresses(loss), FACTOR * loss
    for kept in (True, True, False):
        gradients = torch.autograd.grad(scaled, leaves, retain_graph=kept)
        assert_equal(gradients, expected)
        assert [gradient.data_ptr() == at for gradient, at in zip(gradients, saved, strict=True)] == [
            not kept
        ] * 3
        for gradient in gradients:
            gradient.zero_()
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(scaled, leaves)


def test_a_kept_graph_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = in_new_tensors(TOKEN, monkeypatch)
    arguments, leaves = prepared(TOKEN)
    loss = FACTOR * loss_of(TOKEN, arguments)
    for kept in (True, True, False):
        loss.backward(retain_graph=kept)
    assert_equal([leaf.grad for leaf in leaves], [one + one + one for one in expected])


def test_a_graph_of_the_gradient_leaves_the_saved_ones_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is not kept."""
    expected = in_new_tensors(TOKEN, monkeypatch)
    for kept in (True, False):
        arguments, leaves = prepared(TOKEN)
        loss = loss_of(TOKEN, arguments)
        saved = addresses(loss)
        gradients = torch.autograd.grad(FACTOR * loss, leaves, create_graph=True, retain_graph=kept)
        assert_equal(gradients, expected)
        assert not {gradient.data_ptr() for gradient in gradients} & set(saved)
        with pytest.raises(RuntimeError, match="cannot be differentiated a second time"):
            torch.autograd.grad(gradients[0].sum(), leaves)


def test_a_gradient_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = in_new_tensors(TOKEN, monkeypatch)
    for number in range(3):
        arguments, leaves = prepared(TOKEN)
        assert_equal(
            torch.autograd.grad(FACTOR * loss_of(TOKEN, arguments), leaves[number]), [expected[number]]
        )


def test_losses_that_share_their_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    def gradients() -> tuple[Tensor, ...]:
        arguments, leaves = prepared(TOKEN)
        critic, _ = prepared(CRITIC)
        critic.update(zip(HEAD, leaves, strict=True))
        shared = loss_of(TOKEN, arguments)
        # One of them arrives twice at its node, and one goes to a product before the leaves.
        again = loss_of(TOKEN, {**arguments, "hidden": 2 * leaves[0]})
        return torch.autograd.grad(
            FACTOR * shared + shared.square() - loss_of(CRITIC, critic) + 3 * again, leaves
        )

    actual = gradients()
    monkeypatch.setattr(_donation, "_CAN_TELL", False)
    assert_equal(actual, gradients())


def test_gradients_are_added_to_those_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = in_new_tensors(TOKEN, monkeypatch)
    arguments, leaves = prepared(TOKEN)
    there = [torch.full_like(leaf, 3.0) for leaf in leaves]
    for leaf, gradient in zip(leaves, there, strict=True):
        leaf.grad = gradient
    for _ in range(2):
        (FACTOR * loss_of(TOKEN, arguments)).backward()
    assert_equal(there, [3.0 + one + one for one in expected])
    assert all(leaf.grad is gradient for leaf, gradient in zip(leaves, there, strict=True))


def keeping(kept: list[Tensor], change: Callable[[Tensor], Tensor]) -> tuple[Callable[[Tensor], Tensor], ...]:
    """Hooks that keep what they pack and what they unpack."""

    def seen(tensor: Tensor) -> Tensor:
        kept.append(change(tensor))
        return kept[-1]

    return seen, seen


@pytest.mark.parametrize(
    "change", (lambda t: t, torch.detach, torch.clone), ids=("identity", "alias", "copy")
)
@pytest.mark.parametrize("where", ("every tensor", "one tensor"))
def test_what_a_hook_saw_is_not_written(
    change: Callable[[Tensor], Tensor], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = in_new_tensors(TOKEN, monkeypatch)
    arguments, leaves = prepared(TOKEN)
    kept: list[Tensor] = []
    if where == "every tensor":
        with saved_tensors_hooks(*keeping(kept, change)):
            loss = loss_of(TOKEN, arguments)
    else:
        loss = loss_of(TOKEN, arguments)
        node: Any = loss.grad_fn
        for saved in node._raw_saved_tensors[3:]:
            saved.register_hooks(*keeping(kept, change))
    before = [tensor.clone() for tensor in kept]
    assert_equal(torch.autograd.grad(FACTOR * loss, leaves), expected)
    assert_equal(kept[: len(before)], before)
    assert len(kept) == 2 * len(before)
    assert_equal(kept[len(before) :], before)


def test_saved_elsewhere_or_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = in_new_tensors(TOKEN, monkeypatch)
    arguments, leaves = prepared(TOKEN)
    with save_on_cpu():
        loss = loss_of(TOKEN, arguments)
    assert_equal(torch.autograd.grad(FACTOR * loss, leaves), expected)
    for reentrant in (False, True):
        arguments, leaves = prepared(TOKEN)

        def call(hidden: Tensor, arguments: Arguments = arguments) -> Tensor:
            return loss_of(TOKEN, {**arguments, "hidden": hidden})

        loss = FACTOR * checkpoint(call, leaves[0], use_reentrant=reentrant)
        for kept in (True, False):
            loss.backward(retain_graph=kept)
        assert_equal([leaf.grad for leaf in leaves], [one + one for one in expected])


def test_what_a_caller_of_the_registered_operator_holds_is_not_written() -> None:
    """Its gradients are results like others there."""
    arguments, leaves = prepared(CRITIC)
    given = tensors(arguments)
    numbers = (given["actions"], given["targets"], 0.1, given["mask"], 4, 7)
    *_, total, grad_hidden, grad_weight, grad_bias = torch.ops.softbellman.linear_critic_loss(
        *leaves, *numbers
    )
    before = [gradient.clone() for gradient in (grad_hidden, grad_weight, grad_bias)]
    torch.autograd.grad(FACTOR * total, leaves)
    assert_equal((grad_hidden, grad_weight, grad_bias), before)


class Watching(TorchDispatchMode):
    """Names of the operators that a call runs."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def test_a_trace_sees_the_operator_that_writes_new_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = in_new_tensors(TOKEN, monkeypatch)
    arguments, leaves = prepared(TOKEN)
    loss = FACTOR * loss_of(TOKEN, arguments)
    with Watching() as watching:
        gradients = torch.autograd.grad(loss, leaves)
    assert_equal(gradients, expected)
    assert "softbellman.linear_sum_backward.default" in watching.names
    assert not any("mul_." in name for name in watching.names)


class Keeping(TorchDispatchMode):
    """Results of the operators of ours that a call runs."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[Tensor] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = function(*args, **(kwargs or {}))
        if function.namespace == "softbellman":
            self.results.extend(results)
        return results


def test_what_a_mode_saw_is_not_written() -> None:
    arguments, leaves = prepared(TOKEN)
    with Keeping() as keeping:
        loss = FACTOR * loss_of(TOKEN, arguments)
    before = [tensor.clone() for tensor in keeping.results]
    assert len(before) >= 3
    torch.autograd.grad(loss, leaves)
    assert_equal(keeping.results, before)


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_batched_upstream() -> None:
    """One pass for several factors: `vmap` over the backward pass."""
    arguments, leaves = prepared(TOKEN)
    loss, factors = loss_of(TOKEN, arguments), torch.tensor([1.0, -0.3, 2.5])
    batched = torch.autograd.grad(loss, leaves, factors, is_grads_batched=True, retain_graph=True)
    last = torch.autograd.grad(loss, leaves, factors, is_grads_batched=True)
    assert_equal(last, batched)
    for number, factor in enumerate(factors):
        one = torch.autograd.grad(factor * loss_of(TOKEN, arguments), leaves)
        assert_equal([gradient[number] for gradient in batched], one)


@pytest.mark.parametrize("backend", ("eager", "aot_eager"))
def test_compiled_without_a_graph_break_equals_eager(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = in_new_tensors(TOKEN, monkeypatch)
    torch._dynamo.reset()

    def call(*leaves: Tensor) -> Tensor:
        return FACTOR * loss_of(TOKEN, {**arguments, **dict(zip(HEAD, leaves, strict=True))})

    arguments, leaves = prepared(TOKEN)
    compiled = torch.compile(call, fullgraph=True, backend=backend)
    for _ in range(2):
        assert_equal(torch.autograd.grad(compiled(*leaves), leaves), expected)
    loss = compiled(*leaves)
    # Compiled code of torch's gives its own buffers away and refuses a graph that is kept.
    for kept in (True, True, False) if backend == "eager" else (False,):
        assert_equal(torch.autograd.grad(loss, leaves, retain_graph=kept), expected)


def test_a_pass_that_failed_behind_the_write_cannot_be_repeated() -> None:
    """Its gradients are scaled already: autograd refuses them."""
    arguments, leaves = prepared(TOKEN)
    loss = loss_of(TOKEN, arguments)

    def fail(*_: object) -> None:
        raise KeyError("a hook of the caller")

    handle = loss.grad_fn.register_hook(fail)
    with pytest.raises(KeyError):
        torch.autograd.grad(FACTOR * loss, leaves)
    handle.remove()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(FACTOR * loss, leaves)
