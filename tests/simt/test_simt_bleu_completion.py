"""The completion values of BLEU on the SIMT shim: the operator of `softbellman.payoffs.bleu_completion` with these launchers
in place of the CPU's.

They share the index, the candidates and the formulas with the CPU; what is tested here is the prefix counted 32 positions at
a time, references taken by a warp, next tokens beyond 32, and the loops over sources and states. No claim about a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import ModuleType
from typing import Any

import pytest
import simt_build
import torch
from simt_payoffs import DEVICE, STREAM, payoffs_on
from torch import Tensor

from softbellman.core.launch import CODES
from softbellman.payoffs import bleu_completion as ops
from softbellman.payoffs.batches import token_field
from softbellman.reference import bleu_completion as reference

pytestmark = pytest.mark.skipif(simt_build.compiler() is None, reason="no g++ to build the SIMT shim with")

SENTINEL = 77.0
Launchers = Callable[[], None]


@pytest.fixture
def launchers(simt: ModuleType) -> Iterator[Launchers]:
    """From its call on the operators use the shim."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(payoffs_on(simt))


def random_batch(
    seed: int, sources: int, samples: int, references: int, length: int, width: int, alphabet: int
) -> dict[str, Tensor]:
    """Half of each hypothesis copied from the first reference."""
    generator = torch.Generator().manual_seed(seed)

    def draw(high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=generator)

    tokens, hypotheses = draw(alphabet, sources, references, width), draw(alphabet, sources, samples, length)
    shared = min(length, width)
    copied = draw(2, sources, samples, shared).bool()
    hypotheses[..., :shared] = torch.where(copied, tokens[:, :1, :shared], hypotheses[..., :shared])
    return {
        "hypotheses": hypotheses,
        "references": tokens,
        "hypothesis_lengths": draw(length + 1, sources, samples),
        "reference_lengths": draw(width + 1, sources, references),
    }


# Prefixes beyond 32 tokens; references of more than 32 different tokens; more states than the warps of three blocks.
BATCHES = [
    (1, 1, 1, 1, 1, 2),
    (5, 3, 2, 6, 5, 4),
    (2, 1, 1, 40, 9, 3),
    (1, 1, 2, 5, 40, 60),
    (2, 2, 1, 4, 0, 3),
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"smoothing": "none", "effective_order": True, "max_order": 3, "scale": "none"},
    {"smoothing": "exp", "max_order": 8, "unmatched_id": 1},
    {"smoothing": "floor", "max_order": 2, "special_ids": (2, 0)},
    {"smoothing": "add-one-all", "max_order": 1, "special_ids": (2,), "unmatched_id": 1},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", BATCHES, ids=str)
def test_values_are_those_of_the_cpu(
    launchers: Launchers, shape: tuple[int, int, int, int, int, int], options: dict[str, Any]
) -> None:
    batch = random_batch(sum(shape), *shape)
    cases = []
    for eos, dtype, tolerance in ((0, torch.float64, 1e-13), (1, torch.float32, 6e-8)):
        arguments = {**batch, **options, "vocabulary": 61, "eos_id": eos, "dtype": dtype}
        cases.append((arguments, tolerance, ops.bleu_completion_values(**arguments)))
    launchers()
    for arguments, tolerance, expected in cases:
        ours = ops.bleu_completion_values(**arguments)
        torch.testing.assert_close(ours, expected, rtol=tolerance, atol=40 * tolerance)


@pytest.mark.parametrize("schedule", [1, 2, 7])
def test_any_order_of_threads(simt: ModuleType, launchers: Launchers, schedule: int) -> None:
    batch = random_batch(3, 3, 2, 2, 7, 12, 5)
    options: dict[str, Any] = {"vocabulary": 6, "eos_id": 5, "dtype": torch.float64}
    expected = reference.bleu_completion_values(**batch, **options)
    launchers()
    first = ops.bleu_completion_values(**batch, **options)
    torch.testing.assert_close(first, expected, rtol=1e-13, atol=1e-12)
    simt.set_schedule(schedule)
    assert torch.equal(ops.bleu_completion_values(**batch, **options), first)


def array(tensor: Tensor) -> tuple[int, int, int]:
    return tensor.data_ptr(), tensor.numel(), CODES[tensor.dtype]


def test_what_lies_outside_is_neither_read_nor_written(simt: ModuleType) -> None:
    """Lengths outside their rows and reference ids outside [0, V), which a device cannot refuse."""
    vocabulary = 11
    batch = random_batch(2, 2, 2, 2, 4, 6, 5)
    batch["hypothesis_lengths"][0, 0], batch["reference_lengths"][0, 0] = 99, -5
    batch["references"][1, :, ::2] += torch.tensor([2**40, -100, vocabulary])
    sizes: dict[str, Any] = {
        name: token_field(name, batch[name], batch["references"]) for name in ("hypotheses", "references")
    }
    sizes["max_order"] = 4
    workspace = torch.full((simt.suffix_workspace(**sizes) + 16,), 255, dtype=torch.uint8)
    count = 2 * 2 * 4 * 13
    out = torch.full((count + 9,), SENTINEL)
    simt.suffix_values(
        **sizes,
        **{name: array(batch[name]) for name in ("hypothesis_lengths", "reference_lengths")},
        eos_id=1,
        unmatched_id=None,
        smoothing=2,
        smooth_value=1.0,
        effective_order=False,
        vocabulary=vocabulary,
        special_ids=[2],
        scaled=True,
        float64=False,
        out=array(out[4 : 4 + count]),
        workspace=array(workspace[:-16]),
        device=DEVICE,
        stream=STREAM,
    )
    assert (out[:4] == SENTINEL).all() and (out[4 + count :] == SENTINEL).all()
    assert (workspace[-16:] == 255).all()
    values = out[4 : 4 + count].view(2, 2, 4, 13)
    assert (values != SENTINEL).all() and bool(values.isfinite().all())
    known = {**batch, "hypothesis_lengths": batch["hypothesis_lengths"].clamp(max=4)}
    known["reference_lengths"] = batch["reference_lengths"].clamp(min=0)
    expected = ops.bleu_completions(
        **{name: tensor[:1] for name, tensor in known.items()},
        vocabulary=vocabulary,
        eos_id=1,
        special_ids=(2,),
    )
    torch.testing.assert_close(values[:1], expected.values)


def test_launches_on_the_given_device_and_stream(simt: ModuleType, launchers: Launchers) -> None:
    launchers()
    before = simt.last_launch()[2]
    ops.bleu_completions(**random_batch(0, 2, 2, 1, 5, 5, 3), vocabulary=6, eos_id=1)
    device, stream, launches, *_ = simt.last_launch()
    assert (device, stream, launches - before) == (DEVICE, STREAM, 2)
    assert simt.current_device() == 0
    nothing = torch.zeros((0, 5), dtype=torch.int64)
    ops.bleu_completions(nothing, nothing, vocabulary=6, eos_id=1)
    assert simt.last_launch()[2] == launches
