"""The edit distance kernels on the SIMT shim: the operators of `softbellman.payoffs.edit_distance` with these launchers in
place of the CPU's.

Everything is an integer until it is stored, so the bits must be the CPU's. What is tested here is the row of the distance in
chunks of 32 lanes, the ballots over it, the loops over hypotheses and rows, and the stores at every alignment. No claim
about a GPU.
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
from softbellman.payoffs import edit_distance as ops
from softbellman.payoffs.batches import token_field

pytestmark = pytest.mark.skipif(simt_build.compiler() is None, reason="no g++ to build the SIMT shim with")

SENTINEL = 77.0
Launchers = Callable[[], None]


@pytest.fixture
def launchers(simt: ModuleType) -> Iterator[Launchers]:
    """From its call on the operators use the shim."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(payoffs_on(simt))


def random_batch(seed: int, sources: int, samples: int, length: int, width: int) -> dict[str, Tensor]:
    """Two to six different tokens; half of each hypothesis copied from its reference."""
    generator = torch.Generator().manual_seed(seed)

    def draw(high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=generator)

    alphabet = 2 + seed % 5
    references, hypotheses = draw(alphabet, sources, width), draw(alphabet, sources, samples, length)
    shared = min(length, width)
    copied = draw(2, sources, samples, shared).bool()
    hypotheses[..., :shared] = torch.where(copied, references[:, None, :shared], hypotheses[..., :shared])
    return {
        "hypotheses": hypotheses,
        "references": references,
        "hypothesis_lengths": draw(length + 1, sources, samples),
        "reference_lengths": draw(width + 1, sources),
    }


# Rows of 31, 32, 33 and more than 64 entries: within one chunk, just full, beyond one, beyond two. The shim launches at most
# three blocks, so 15 hypotheses and all their states go round the loops over both.
BATCHES = [
    (1, 1, 1, 1),
    (5, 3, 6, 7),
    (2, 1, 4, 30),
    (2, 2, 5, 31),
    (2, 1, 5, 32),
    (2, 2, 40, 70),
    (2, 3, 3, 0),
]


@pytest.mark.parametrize("schedule", [0, 1, 7])
@pytest.mark.parametrize("shape", BATCHES, ids=str)
def test_bits_are_those_of_the_cpu(
    simt: ModuleType, launchers: Launchers, shape: tuple[int, int, int, int], schedule: int
) -> None:
    batches = [random_batch(seed, *shape) for seed in range(2)]
    batches.append({**batches[0], "hypothesis_lengths": None, "reference_lengths": None})  # type: ignore[dict-item]

    def everything() -> list[Tensor]:
        results = []
        for batch in batches:
            for eos in (None, 1):
                results.append(ops.prefix_edit_distance(**batch, eos_id=eos))
                results += [
                    ops.edit_distance_rewards(**batch, eos_id=eos, dtype=dtype)
                    for dtype in (torch.float32, torch.float64)
                ]
            for special_ids in ((), (0, 3, 1)):
                results.append(
                    ops.optimal_completion_values(**batch, vocabulary=9, eos_id=1, special_ids=special_ids)
                )
        return results

    expected = everything()
    launchers()
    simt.set_schedule(schedule)
    for one, other in zip(everything(), expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("vocabulary", [6, 7, 33, 1030, 2057])
def test_rows_of_any_length_and_type(launchers: Launchers, vocabulary: int, dtype: torch.dtype) -> None:
    """Odd rows start at every alignment; more than 256 vectors of 16 bytes get a block of their own."""
    batch = random_batch(4, 2, 2, 4, 6)
    options: dict[str, Any] = {"vocabulary": vocabulary, "eos_id": 0, "special_ids": (2, 5), "dtype": dtype}
    rows = torch.tensor([15, 3, 3, 0, 7])
    expected = ops.optimal_completion_values(**batch, **options)
    launchers()
    assert torch.equal(ops.optimal_completion_values(**batch, **options), expected)
    selected = ops.optimal_completion_values(**batch, **options, rows=rows)
    assert torch.equal(selected, expected.view(-1, vocabulary)[rows])


def array(tensor: Tensor) -> tuple[int, int, int]:
    return tensor.data_ptr(), tensor.numel(), CODES[tensor.dtype]


@pytest.mark.parametrize("shift", range(4))
def test_what_lies_outside_is_neither_read_nor_written(simt: ModuleType, shift: int) -> None:
    """Places outside the batch, lengths outside their rows and reference ids outside [0, V), which a device cannot refuse."""
    vocabulary = 11
    batch = random_batch(2, 2, 2, 4, 6)
    batch["hypothesis_lengths"][0, 0], batch["reference_lengths"][0] = 99, -5
    batch["references"][1, ::2] += torch.tensor([2**40, -100, vocabulary])
    rows = torch.tensor([3, -1, 16, 2**50, 12, 0])
    sizes = {name: token_field(name, batch[name], rows) for name in ("hypotheses", "references")}
    lengths = {name: array(batch[name]) for name in ("hypothesis_lengths", "reference_lengths")}
    workspace = torch.full((simt.completion_workspace(**sizes) + 16,), 255, dtype=torch.uint8)
    out = torch.full((shift + len(rows) * vocabulary + 5,), SENTINEL)
    simt.completion_values(
        **sizes,
        **lengths,
        eos_id=1,
        vocabulary=vocabulary,
        special_ids=[2],
        rows=array(rows),
        dtype=0,
        out=array(out[shift : shift + len(rows) * vocabulary]),
        workspace=array(workspace[:-16]),
        device=DEVICE,
        stream=STREAM,
    )
    assert (out[:shift] == SENTINEL).all() and (out[shift + len(rows) * vocabulary :] == SENTINEL).all()
    assert (workspace[-16:] == 255).all()
    values = out[shift : shift + len(rows) * vocabulary].view(len(rows), vocabulary)
    assert (values != SENTINEL).all() and not values[1:4].any()
    known = {**batch, "references": batch["references"].clone()}
    known["references"][1, ::2] = 2  # a special token is one that cannot be produced, too
    known["hypothesis_lengths"][0, 0], known["reference_lengths"][0] = 4, 0
    expected = ops.optimal_completion_values(**known, vocabulary=vocabulary, eos_id=1, special_ids=(2,))
    assert torch.equal(values[[0, 4, 5]], expected.view(-1, vocabulary)[[3, 12, 0]])


def test_launches_on_the_given_device_and_stream(simt: ModuleType, launchers: Launchers) -> None:
    launchers()
    batch = random_batch(0, 2, 2, 5, 5)
    for call, count in (
        (lambda: ops.prefix_edit_distance(**batch), 1),
        (lambda: ops.optimal_completion_values(**batch, vocabulary=6, eos_id=1), 2),
    ):
        before = simt.last_launch()[2]
        call()
        device, stream, launches, *_ = simt.last_launch()
        assert (device, stream, launches - before) == (DEVICE, STREAM, count)
    assert simt.current_device() == 0
    nothing = torch.zeros((0, 5), dtype=torch.int64)
    ops.prefix_edit_distance(nothing, nothing)
    ops.optimal_completion_values(nothing, nothing, vocabulary=6, eos_id=1)
    assert simt.last_launch()[2] == launches
