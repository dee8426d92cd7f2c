"""The same promises on a GPU: the reference tables, the CPU's tokens, streams, no waiting, 64-bit indices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

import softbellman
from losses.families import FAMILIES
from losses.harness import (
    DTYPES,
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
from losses.test_against_reference import edge_rows, with_mask
from losses.test_registration import everything
from softbellman import (
    actor_loss,
    critic_loss,
    policy_value,
    sample_tokens,
    soft_bellman_residual,
    soft_target_cross_entropy,
    soft_value,
    token_cross_entropy,
)

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.skipif(
        not softbellman.build_info()["cuda"], reason="softbellman was built without CUDA kernels"
    ),
]
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def on_gpu(arguments: Arguments) -> Arguments:
    return {name: value.cuda() if isinstance(value, Tensor) else value for name, value in arguments.items()}


def make(family: Family, shape: tuple[int, ...], dtype: torch.dtype) -> Arguments:
    return on_gpu(cast(family, family.make(shape, torch.Generator().manual_seed(0)), dtype))


@every_family
@every_dtype
@pytest.mark.parametrize("shape", (*SHAPES, (300, 33), (2, 50257), (1, 131072)), ids=str)
def test_shapes_and_types(family: Family, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    compare(family, make(family, shape, dtype))


@every_family
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides(family: Family, dtype: torch.dtype, layout: str) -> None:
    arguments = make(family, (3, 4, 1030), dtype)
    compare(
        family, {**arguments, **{name: lay_out(tensors(arguments)[name], layout) for name in family.rows}}
    )


@every_family
@every_dtype
def test_rows_with_negative_infinity(family: Family, dtype: torch.dtype) -> None:
    edges = edge_rows().view(6, 1, 200).cuda()
    arguments = make(family, (6, 1, 200), dtype)
    changed: Arguments = {name: (tensors(arguments)[name].double() + edges).to(dtype) for name in family.rows}
    possible = (edges == 0).int().argmax(-1)
    changed |= {n: possible for n, t in tensors(arguments).items() if t.dtype == torch.int64}
    compare(family, {**arguments, **changed})


@every_family
@every_dtype
@pytest.mark.parametrize("real", (0, 3), ids=("all masked", "some masked"))
def test_nan_in_a_masked_row_never_leaks(family: Family, dtype: torch.dtype, real: int) -> None:
    mask = (torch.arange(5).repeat(2, 1) < real).cuda()
    arguments = make(family, (2, 5, 70), dtype)
    upstream = random_upstream(family, arguments, torch.Generator().manual_seed(1))
    clean = run(family, softbellman, with_mask(family, arguments, mask, poison=False), upstream)
    upstream = {name: gradient.masked_fill(~mask, float("nan")) for name, gradient in upstream.items()}
    poisoned = run(family, softbellman, with_mask(family, arguments, mask, poison=True), upstream)
    for some, others in zip(poisoned, clean, strict=True):
        for name, value in some.items():
            assert torch.equal(value, others[name]), name
            assert not value[~mask].any(), f"{name} is not 0 in a masked row"


@every_dtype
@pytest.mark.parametrize("shape", ((1000, 33), (16, 8191), (2, 50257)), ids=str)
def test_the_tokens_are_those_of_the_cpu(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    logits = (3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))).to(dtype)
    forbidden = torch.arange(shape[1]) % 5 == 0
    for temperature in (1.0, 0.3):
        options = {"seed": 2**40 + 3, "offset": 7, "temperature": temperature}
        cpu = sample_tokens(logits, forbidden=forbidden, **options)  # type: ignore[arg-type]
        gpu = sample_tokens(logits.cuda(), forbidden=forbidden.cuda(), **options)  # type: ignore[arg-type]
        assert torch.equal(gpu.tokens.cpu(), cpu.tokens)
        options |= {name: torch.tensor(options[name], device="cuda") for name in ("seed", "offset")}
        some = sample_tokens(
            logits[1:].cuda(),
            forbidden=forbidden.cuda(),
            row_numbers=torch.arange(1, len(logits), device="cuda"),
            **options,  # type: ignore[arg-type]
        )
        assert torch.equal(some.tokens.cpu(), cpu.tokens[1:])
        torch.testing.assert_close(gpu.log_prob.cpu(), cpu.log_prob, rtol=0, atol=5e-5)
        torch.testing.assert_close(gpu.entropy.cpu(), cpu.entropy, rtol=0, atol=5e-5)


def example(rows: int = 64, vocabulary: int = 1031) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits, q = (
        torch.randn(2, rows, vocabulary, generator=generator).cuda().requires_grad_() for _ in range(2)
    )
    ids = torch.randint(0, vocabulary, (2, rows), generator=generator).cuda()
    numbers = torch.randn(2, rows, generator=generator).cuda()
    return logits, q, ids, numbers, numbers > -1


def all_gradients(*arguments: Tensor) -> list[Tensor]:
    results = everything(*arguments)
    graded = [result for result in results if result.requires_grad]
    upstream = [torch.linspace(-1, 1, result.numel(), device="cuda").view_as(result) for result in graded]
    return [*results, *torch.autograd.grad(graded, arguments[:2], upstream)]


def test_repetition_gives_the_same_bits() -> None:
    arguments = example()
    first = all_gradients(*arguments)
    for _ in range(50):
        for one, other in zip(all_gradients(*arguments), first, strict=True):
            assert torch.equal(one, other)


def test_work_is_ordered_on_the_current_stream() -> None:
    """Inputs arrive late on a side stream; kernels on any other stream would read them too early."""
    arguments = example()
    expected = all_gradients(*arguments)
    late = [torch.zeros_like(argument) for argument in arguments]
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        with torch.no_grad():
            for target, source in zip(late, arguments, strict=True):
                target.copy_(source)
        for target in late[:2]:
            target.requires_grad_()
        answers = all_gradients(*late)
    stream.synchronize()
    for one, other in zip(answers, expected, strict=True):
        assert torch.equal(one, other)


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_no_operator_waits_for_the_device() -> None:
    arguments = example()
    with waiting_is_an_error():
        all_gradients(*arguments)


def test_operators_can_be_captured_in_a_graph() -> None:
    arguments = example()
    expected = all_gradients(*arguments)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answers = all_gradients(*arguments)
    graph.replay()
    torch.cuda.synchronize()
    for one, other in zip(answers, expected, strict=True):
        assert torch.equal(one, other)


def long_rows(rows: int) -> tuple[Tensor, ...]:
    """`rows` sequences of the same two rows of 131,072 tokens: arguments of `everything`."""
    logits, q, ids, numbers, _ = example(1, 131_072)
    logits, q, ids, numbers = (
        tensor.detach().view(1, 2, *tensor.shape[2:]).expand(rows, *[-1] * (tensor.dim() - 1)).contiguous()
        for tensor in (logits, q, ids, numbers)
    )
    return logits.requires_grad_(), q.requires_grad_(), ids, numbers, torch.ones_like(ids, dtype=torch.bool)


def test_rows_shared_by_several_blocks_have_the_bits_of_a_large_batch() -> None:
    """Two rows are shared by many blocks, 2 * 800 have one each."""
    few, many = everything(*long_rows(1)), everything(*long_rows(800))
    for number, (one, other) in enumerate(zip(few, many, strict=True)):
        if number not in (8, 9):  # a drawn token and its log-probability depend on the row's number
            assert torch.equal(one[0], other[0]) and torch.equal(one[0], other[799]), number


def test_a_graph_of_shared_rows_can_be_replayed() -> None:
    arguments = long_rows(2)
    expected = all_gradients(*arguments)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answers = all_gradients(*arguments)
    for _ in range(20):
        graph.replay()
        all_gradients(*arguments)  # launches outside the graph have tickets of their own
    torch.cuda.synchronize()
    for one, other in zip(answers, expected, strict=True):
        assert torch.equal(one, other)


def test_shared_rows_on_two_streams_do_not_mix() -> None:
    arguments = long_rows(1)
    expected = all_gradients(*arguments)
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in range(2)]
    answers = []
    for _ in range(20):
        for stream in streams:
            with torch.cuda.stream(stream):
                answers.append(all_gradients(*arguments))
    torch.cuda.synchronize()
    for answer in answers:
        for one, other in zip(answer, expected, strict=True):
            assert torch.equal(one, other)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device only")
def test_a_second_device() -> None:
    q = torch.randn(5, 33)
    with torch.cuda.device(0):
        value = soft_value(q.to("cuda:1"), tau=0.5)
    assert value.device == torch.device("cuda:1")
    torch.testing.assert_close(value.cpu(), soft_value(q, tau=0.5))


def test_tensors_on_two_devices_are_refused() -> None:
    with pytest.raises(ValueError, match="q must be on the device of logits, cuda:0, got cpu"):
        policy_value(torch.zeros(2, 3).cuda(), torch.zeros(2, 3), tau=0.5)


def test_more_than_two_to_the_31_elements() -> None:
    """The last rows of [N, V] with N V > 2^31 give the bits they give alone, and the first rows too."""
    vocabulary, many = 32768, 70_000
    if torch.cuda.mem_get_info()[0] < 24 * 2**30:
        pytest.skip("needs 24 GiB of free device memory")
    few = (3 * torch.randn(64, vocabulary, generator=torch.Generator().manual_seed(0))).bfloat16().cuda()
    q = torch.zeros(many, vocabulary, dtype=torch.bfloat16, device="cuda")
    q[:64], q[-64:] = few, few
    ids = torch.arange(many, device="cuda") % 64
    ids[-64:] = ids[:64].clone()
    numbers = torch.ones(many, device="cuda")

    def results(rows: Tensor, ids: Tensor, numbers: Tensor) -> Iterator[Tensor]:
        leaf = rows.detach().requires_grad_()
        losses = (
            lambda: soft_value(leaf, tau=0.5),
            lambda: actor_loss(leaf, rows, tau=0.5).loss,
            lambda: critic_loss(leaf, ids, numbers, smoothness=0.1).loss,
            lambda: soft_target_cross_entropy(leaf, rows, tau=0.5),
            lambda: token_cross_entropy(leaf, ids),
            lambda: soft_bellman_residual(leaf.unsqueeze(1), ids[:, None], numbers[:, None], tau=0.5).squeeze(
                1
            ),
        )
        for loss in losses:
            value = loss()
            yield value.detach()
            yield torch.autograd.grad(value.sum(), leaf)[0]
        yield sample_tokens(rows, seed=1).log_prob[:0]

    small = [answer.clone() for answer in results(few, ids[:64], numbers[:64])]
    for large, alone in zip(results(q, ids, numbers), small, strict=True):
        assert torch.equal(large[: len(alone)], alone)
        if len(alone):
            assert torch.equal(large[-64:], alone)
        del large
