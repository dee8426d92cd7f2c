"""Calls that go round PyTorch's dispatcher: the same bits as through it, and only where it has nothing to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from softbellman import ops, prefix_bleu, sample_edits, sample_tokens, soft_value

from .families import FAMILIES
from .harness import Family, cast, dispatched, random_upstream, run, tensors

OPERATOR = torch.ops.softbellman.soft_value.default


class Passing(TorchDispatchMode):
    """Passes everything on and keeps the names of what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


class PassingFunctions(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


def rows(*shape: int, grad: bool = False) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_(grad)


def value(q: Tensor) -> Tensor:
    return soft_value(q, tau=0.5)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_same_bits_as_through_the_dispatcher(family: Family) -> None:
    arguments = cast(family, family.make((3, 4, 33), torch.Generator().manual_seed(0)), torch.float32)
    upstream = random_upstream(family, arguments, torch.Generator().manual_seed(1))
    with dispatched() as called:
        direct = run(family, ops, arguments, upstream)
        assert called == []
        with Passing():
            expected = run(family, ops, arguments, upstream)
        assert called != []
    for one, other in zip(direct, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert torch.equal(one[name], other[name]), name


def test_operators_without_gradients_are_direct() -> None:
    tokens = torch.tensor([[5, 6, 7]])
    with dispatched() as called:
        sample_tokens(rows(2, 5, grad=True), seed=1)
        sample_edits(tokens, samples=2, proposal="edit", vocabulary=9, seed=3)
        prefix_bleu(tokens, tokens)
    assert called == []


@pytest.mark.parametrize(
    "context",
    [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", dtype=torch.bfloat16)],
    ids=["no_grad", "inference_mode", "autocast"],
)
def test_direct_in_contexts_that_leave_the_call_as_it_is(context: Callable[[], Any]) -> None:
    q, parameter = rows(2, 5), torch.nn.Parameter(rows(2, 5))
    with torch.inference_mode():
        q_of_inference = rows(2, 5)
    with dispatched() as called, context():
        results = [value(q), value(parameter), value(q_of_inference)]
    assert called == []
    assert [result.is_inference() for result in results] == [context is torch.inference_mode] * 3
    for result in results:
        torch.testing.assert_close(result.detach(), value(q), rtol=0, atol=0)


def test_an_integer_for_a_float_is_direct_and_other_numbers_are_left_to_the_dispatcher() -> None:
    q = rows(2, 5)
    with dispatched() as called:
        assert torch.equal(soft_value(q, tau=1), soft_value(q, tau=1.0))
        assert called == []
        assert torch.equal(soft_value(q, tau=np.float64(0.5)), value(q))
        assert len(called) == 1


def test_the_graph_is_the_registered_one() -> None:
    q = rows(2, 5, grad=True)
    with dispatched() as called:
        direct = value(q)
        assert called == []
        with Passing():
            expected = value(q)
    assert type(direct.grad_fn).__name__ == type(expected.grad_fn).__name__
    (gradient,) = torch.autograd.grad(direct.sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="soft_value_backward is a gradient and cannot be differentiated"):
        gradient.sum().backward()
    with pytest.raises(NotImplementedError, match="jvp"), torch.autograd.forward_ad.dual_level():
        value(torch.autograd.forward_ad.make_dual(q, torch.ones_like(q)))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_no_gradient_is_filled_in_for_results_that_have_none(family: Family) -> None:
    if not family.gradients:
        pytest.skip("nothing is differentiable")
    arguments = cast(family, family.make((3, 4, 33), torch.Generator().manual_seed(0)), torch.float32)
    leaf = tensors(arguments)[family.gradients[0]].requires_grad_()
    result = family.call(ops, arguments)[family.outputs[0]]
    with Passing() as mode:
        torch.autograd.grad(result.sum(), leaf)
    assert "aten.zeros.default" not in mode.seen


def test_a_thread_that_excludes_autograd_records_nothing() -> None:
    with torch._C._AutoDispatchBelowAutograd():
        assert not value(rows(2, 5, grad=True)).requires_grad


@pytest.mark.parametrize("grad", (False, True))
@pytest.mark.parametrize("mode", (Passing, PassingFunctions))
def test_modes_see_the_operator(mode: Any, grad: bool) -> None:
    with mode() as active:
        value(rows(2, 5, grad=grad))
    assert any("softbellman.soft_value" in name for name in active.seen)


def test_fake_tensors_run_no_kernel() -> None:
    with FakeTensorMode() as mode:
        q = mode.from_tensor(rows(2, 5))
        inside = value(q)
    assert type(inside) is type(q) and inside.shape == (2,)
    assert type(value(q)) is type(q), "out of the mode, too"


def test_the_profiler_sees_the_operator() -> None:
    q = rows(2, 5)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        value(q)
    assert "softbellman::soft_value" in {event.key for event in profile.key_averages()}


@pytest.mark.parametrize("grad", (False, True))
def test_compiled_graphs_hold_the_operator(grad: bool) -> None:
    torch._dynamo.reset()
    called: list[Any] = []

    def backend(graph: torch.fx.GraphModule, _: list[Any]) -> Any:
        called.extend(node.target for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    compiled = torch.compile(value, fullgraph=True, backend=backend)
    q = rows(2, 5, grad=grad)
    assert torch.equal(compiled(q), value(q))
    assert OPERATOR in called


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_tracers_see_the_operator() -> None:
    q = rows(2, 5)
    assert "softbellman::soft_value" in str(torch.jit.trace(value, q).graph)
    assert OPERATOR in [node.target for node in make_fx(value)(q).graph.nodes]
    assert OPERATOR in [node.target for node in torch.export.export(Module(), (q,), strict=False).graph.nodes]


class Module(torch.nn.Module):
    def forward(self, q: Tensor) -> Tensor:
        return value(q)


def transforms(q: Tensor) -> Iterator[tuple[str, Callable[[], Tensor], Tensor]]:
    """Calls within `torch.func` and what they give."""
    yield "vmap", lambda: torch.vmap(value)(q), value(q)
    leaf = q.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(leaf).sum(), leaf)
    yield "functionalize", lambda: torch.func.functionalize(value)(q), value(q)
    yield "is_grads_batched", lambda: batched_gradient(leaf), torch.stack((gradient, 2 * gradient))


def batched_gradient(leaf: Tensor) -> Tensor:
    upstream = torch.ones(2, *leaf.shape[:-1]) * torch.tensor([[1.0], [2.0]])
    return torch.autograd.grad(value(leaf), leaf, upstream, is_grads_batched=True)[0]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_transforms_see_the_operator(number: int) -> None:
    name, call, expected = list(transforms(rows(3, 5)))[number]
    with dispatched() as called:
        torch.testing.assert_close(call(), expected, rtol=0, atol=0)
    assert called != [], name


def test_wrapped_and_unusual_tensors_take_the_dispatcher() -> None:
    class Subclass(Tensor):
        pass

    q = rows(2, 5)
    escaped: list[Tensor] = []
    torch.func.grad(lambda x: (escaped.append(x), x.sum())[1])(q)
    unusual = {
        "subclass": q.as_subclass(Subclass),
        "negated": torch._neg_view(-q),
        "functional": torch._to_functional_tensor(q),
        "left over from a transform": escaped[0],
    }
    for name, tensor in unusual.items():
        with dispatched() as called:
            result = value(tensor)
        assert set(called) == {"softbellman.soft_value.default"}, name
        if name == "functional":
            result = torch._from_functional_tensor(result)
        torch.testing.assert_close(result.as_subclass(Tensor), value(q), rtol=0, atol=0)
    with pytest.raises(NotImplementedError, match="SparseCPU"):
        value(q.to_sparse())


def test_arguments_that_do_not_fit_the_schema_are_refused_by_the_dispatcher() -> None:
    from softbellman.ops.soft_value import _soft_value

    with pytest.raises(RuntimeError, match="missing value for argument"):
        _soft_value(rows(2, 5), 0.5)
    with pytest.raises(RuntimeError, match="Expected a value of type 'float'"):
        _soft_value(rows(2, 5), "0.5", None, None)
