"""What is promised of a device bit by bit, on the kernels' PTX; and what the PTX itself must look like."""

from __future__ import annotations

import ctypes
import mmap
import re

import pytest
import torch
from ptx_memory import Guarded
from simt_batch import Batch, native_fields
from simt_payoffs import payoffs_on
from torch import Tensor

import softbellman
from softbellman import reference
from softbellman.core import native

NOISE = {"seed": 2**63 + 11, "offset": 5_000_000_000, "row_base": 3}
ERAC_OF_CRITIC = ("loss", "td_error", "mean", "mean_low", "spread")


@pytest.mark.parametrize(
    ("vocabulary", "dtype"), [(33, torch.float32), (1030, torch.float64), (2057, torch.bfloat16)]
)
def test_the_critics_loss_is_that_of_its_two_halves(
    simt: Guarded, vocabulary: int, dtype: torch.dtype
) -> None:
    """ERAC's kernel in one pass, against the policy's value, a shift of one row and the critic's loss."""
    batch = Batch(vocabulary, dtype, rows=7)
    logits, target_q, q = (batch.matrix(3 * batch.random(7, vocabulary)) for _ in range(3))
    rewards = batch.random(7).to(batch.wide)
    names = (*ERAC_OF_CRITIC, "targets", "value", "entropy")
    found, halves = ({name: batch.statistic() for name in names} for _ in range(2))
    batch._outputs.clear()  # each call writes but a part of them
    common = {"mask": batch.mask, "actions": batch.actions, "q": q, "smoothness": 0.3}
    along = {"logits": logits, "target_q": target_q, "rewards": rewards, "steps": 7, "tau": 0.7}
    batch.call(simt.erac_forward, **common, **along, **found)
    of_policy = {name: halves[name] for name in ("value", "entropy")}
    batch.call(
        simt.policy_forward, logits=logits, q=target_q, tau=0.7, entropy_mode=0, mask=batch.mask, **of_policy
    )
    following = torch.cat([halves["value"][1:], torch.zeros(1, dtype=batch.wide)])
    halves["targets"].copy_((rewards + following).where(batch.mask, torch.zeros((), dtype=batch.wide)))
    of_critic = {name: halves[name] for name in ERAC_OF_CRITIC}
    batch.call(simt.critic_forward, **common, targets=halves["targets"], **of_critic)
    for name in names:
        assert torch.equal(found[name], halves[name]), name


def drawn(simt: Guarded, logits: Tensor, **options: object) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tokens, log-probabilities and entropies of the device's kernel and of the CPU's."""
    both = []
    for launcher, place in (
        (simt.sample_forward, {"device": 0, "stream": 0}),
        (native.cpu.sample_forward, {"threads": 1}),
    ):
        results: dict[str, Tensor] = {"tokens": torch.full((len(logits),), -5)}
        results |= {name: torch.zeros(len(logits)) for name in ("log_prob", "entropy")}
        launcher(**native_fields({"logits": logits, **NOISE, **options, **results}), **place)
        both.append(results)
    return both[0], both[1]


@pytest.mark.parametrize("approximate", [False, True])
@pytest.mark.parametrize(
    ("rows", "vocabulary", "temperature", "scale"),
    [(3000, 33, 1.0, 3.0), (300, 1031, 1.7, 0.05), (4, 20_000, 0.5, 3.0)],
)
def test_drawn_tokens_are_those_of_the_cpu(
    simt: Guarded, rows: int, vocabulary: int, temperature: float, scale: float, approximate: bool
) -> None:
    """Whatever the device's own exponential and logarithm make of the last bits."""
    simt.set_check_races(False)
    simt.set_approximate(approximate)
    generator = torch.Generator().manual_seed(vocabulary)
    for dtype in (torch.float32, torch.bfloat16):
        logits = (scale * torch.randn(rows, vocabulary, generator=generator)).to(dtype)
        found, expected = drawn(simt, logits, temperature=temperature)
        assert torch.equal(found["tokens"], expected["tokens"])
        for name in ("log_prob", "entropy"):
            torch.testing.assert_close(found[name], expected[name], rtol=2e-6, atol=2e-5)


def test_approximations_stay_within_the_tolerance_of_the_losses(simt: Guarded) -> None:
    simt.set_approximate(True)
    batch = Batch(1030, torch.float32)
    logits, q = (batch.matrix(3 * batch.random(7, 1030)) for _ in range(2))
    results = {name: batch.statistic() for name in ("value", "entropy")}
    batch.call(simt.policy_forward, logits=logits, q=q, tau=0.3, entropy_mode=0, mask=batch.mask, **results)
    expected = reference.policy_value(batch.leaf(logits), batch.leaf(q), tau=0.3, mask=batch.mask)
    for name in results:
        torch.testing.assert_close(
            results[name].double(), getattr(expected, name).detach(), rtol=2e-6, atol=2e-6
        )


@pytest.mark.parametrize("proposal", ["ngram", "corrupt", "hamming", "edit"])
def test_edits_of_long_rows_are_those_of_the_cpu(simt: Guarded, proposal: str) -> None:
    simt.set_check_races(False)
    generator = torch.Generator().manual_seed(7)
    tokens = torch.randint(0, 4568, (6, 100), generator=generator)
    lengths = torch.randint(0, 101, (6,), generator=generator)
    options = {
        "samples": 8,
        "proposal": proposal,
        "vocabulary": 4568,
        "seed": 2**62 + 1,
        "offset": 5,
        "temperature": 3.0,
    }
    options |= {"special_ids": (0, 1, 2, 3), "max_distance": 20, "keep_gold": True}
    expected = softbellman.sample_edits(tokens, lengths, **options)
    with payoffs_on(simt):
        found = softbellman.sample_edits(tokens, lengths, **options)
    assert all(map(torch.equal, found, expected))


def sparse_rows(rows: int, stride: int, vocabulary: int, dtype: torch.dtype) -> tuple[int, list[Tensor]]:
    """Rows `stride` elements apart in memory of which only what is touched exists."""
    size = dtype.itemsize
    no_reserve = 0x4000  # mmap.MAP_NORESERVE, from Python 3.13 on
    memory = mmap.mmap(-1, rows * stride * size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    views = [
        torch.frombuffer(memory, dtype=dtype, count=vocabulary, offset=r * stride * size) for r in range(rows)
    ]
    return start, views


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_may_lie_farther_apart_than_two_to_the_31(simt: Guarded, dtype: torch.dtype) -> None:
    rows, vocabulary, stride, code = 3, 300, 2**31 + 5, {torch.float32: 0, torch.bfloat16: 2}[dtype]
    start, q = sparse_rows(rows, stride, vocabulary, dtype)
    start_grad, grad = sparse_rows(rows, stride, vocabulary, dtype)
    values = (3 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(1))).to(dtype)
    for row, value in zip(q, values, strict=True):
        row.copy_(value)
    value, correction, upstream = torch.zeros(rows), torch.zeros(rows), torch.randn(rows)
    place = {"device": 0, "stream": 0, "tau": 0.4}
    matrix, matrix_grad = ((first, stride, rows, vocabulary, code) for first in (start, start_grad))
    saved = native_fields({"correction": correction})
    simt.soft_value_forward(q=matrix, **saved, **native_fields({"value": value}), **place)
    saved |= native_fields({"normalizer": value, "grad_value": upstream})
    simt.soft_value_backward(q=matrix, grad_q=matrix_grad, **saved, **place)
    leaf = values.double().requires_grad_()
    expected = reference.soft_value(leaf, tau=0.4)
    (expected_grad,) = torch.autograd.grad(expected, leaf, upstream.double())
    torch.testing.assert_close(value.double(), expected.detach(), rtol=4e-6, atol=4e-6)
    tolerance = 4e-6 if dtype == torch.float32 else 2**-8
    torch.testing.assert_close(torch.stack(grad).double(), expected_grad, rtol=tolerance, atol=4e-6)


def kernels_of(simt: Guarded, pattern: str) -> list[str]:
    return [name for name in simt.kernels() if re.search(pattern, name)]


def test_partial_states_are_stored_by_words(simt: Guarded) -> None:
    forward = kernels_of(simt, "_forward_kernel|sample_kernel")
    assert len(forward) >= 20
    for name in forward:
        single = [
            text for text in simt.instructions(name) if re.search(r"\bst(\.shared|\.global)?\.[bu]8\b", text)
        ]
        assert not single, f"{name} stores bytes: {single[:3]}"
