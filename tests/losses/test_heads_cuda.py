"""The operators on heads on a GPU: the reference, masked rows without waiting for the device, the CPU's draws."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import softbellman
import softbellman as ops
from losses.harness import Arguments
from losses.head_cases import CASES, HeadCase, make, poisoned, random_upstream, run
from losses.test_heads import assert_same
from softbellman import reference

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.skipif(
        not softbellman.build_info()["cuda"], reason="softbellman was built without CUDA kernels"
    ),
]
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def on_gpu(arguments: Arguments) -> Arguments:
    return {name: value.cuda() if isinstance(value, Tensor) else value for name, value in arguments.items()}


def sent(upstream: Any) -> Any:
    return upstream if upstream is None else on_gpu(upstream)


@every_case
@pytest.mark.parametrize("reduction", ("none", "sum"))
def test_results_and_gradients_with_masked_rows(case: HeadCase, reduction: str) -> None:
    arguments = {**make(case, (3, 70), hidden=16, vocabulary=301), "chunk_rows": 64}
    mask = torch.arange(70).expand(3, 70) < torch.tensor([[70], [9], [0]])
    upstream: Any = random_upstream(case, arguments)
    if reduction == "sum":
        if not case.reduces:
            pytest.skip("a value has no reduction")
        arguments["reduction"], upstream = "sum", None
    expected = run(case, partial(case.call, reference), on_gpu({**arguments, "mask": mask}), sent(upstream))
    dirty = on_gpu(poisoned(case, arguments, mask))
    assert_same(run(case, partial(case.call, ops), dirty, sent(upstream)), expected)


@every_case
def test_no_call_waits_for_the_device(case: HeadCase) -> None:
    arguments = on_gpu(make(case, (2, 5), dtype=torch.float32))
    arguments["mask"] = torch.ones(2, 5, dtype=torch.bool, device="cuda")
    run(case, partial(case.call, ops), arguments)  # the libraries' own set-up
    set_mode: Any = torch.cuda.set_sync_debug_mode
    set_mode("error")
    try:
        run(case, partial(case.call, ops), arguments)
    finally:
        set_mode("default")


def test_the_gradient_of_a_16_bit_weight_is_added_up_in_float32() -> None:
    rows, weight = 2000, torch.zeros(2, 1, dtype=torch.bfloat16, device="cuda", requires_grad=True)
    hidden = torch.ones(rows, 1, dtype=torch.bfloat16, device="cuda")
    targets = torch.zeros(rows, dtype=torch.int64, device="cuda")
    loss = softbellman.token_cross_entropy(softbellman.Head(hidden, weight, chunk_rows=1), targets)
    (gradient,) = torch.autograd.grad(loss.sum(), weight)
    assert gradient.flatten().tolist() == [-rows / 2, rows / 2]


def test_draws_are_those_of_the_cpu() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randint(-8, 8, (300, 6), generator=generator) / 8
    weight = torch.randint(-8, 8, (1000, 6), generator=generator) / 8
    options: Any = {"seed": 3, "offset": 7}
    expected = softbellman.sample_tokens(softbellman.Head(hidden, weight, chunk_rows=64), **options)
    device = softbellman.Head(hidden.cuda(), weight.cuda(), chunk_rows=64)
    drawn = softbellman.sample_tokens(device, **options)
    assert torch.equal(drawn.tokens.cpu(), expected.tokens)
    torch.testing.assert_close(drawn.log_prob.cpu(), expected.log_prob)
