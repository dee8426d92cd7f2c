"""The edits on a GPU: the CPU's tokens and densities bit for bit, no waiting, graphs, streams."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import softbellman
from payoffs.edits_cases import WeightedBatch, weighted_batch
from softbellman import edit_log_density, sample_edits

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.skipif(
        not softbellman.build_info()["cuda"], reason="softbellman was built without CUDA kernels"
    ),
]
PROPOSALS = ("ngram", "corrupt", "hamming", "edit")


def arguments(proposal: str) -> dict[str, Any]:
    return {
        "samples": 16, "proposal": proposal, "vocabulary": 4568, "seed": 2**62 + 1, "offset": 5,
        "special_ids": (0, 1, 2, 3), "temperature": 3.0, "max_distance": 20, "keep_gold": True,
    }  # fmt: skip


def training_batch(tokens: torch.Tensor, proposal: str) -> WeightedBatch:
    return weighted_batch(softbellman, tokens, None, edits=arguments(proposal), payoff={}, tau=0.5)


@pytest.mark.parametrize("proposal", PROPOSALS)
@pytest.mark.parametrize("length", (1, 7, 33, 100))
def test_tokens_and_densities_are_those_of_the_cpu(proposal: str, length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    tokens = torch.randint(0, 4568, (500, length), generator=generator)
    lengths = torch.randint(0, length + 1, (500,), generator=generator)
    cpu = sample_edits(tokens, lengths, **arguments(proposal))
    gpu = sample_edits(tokens.cuda(), lengths.cuda(), **arguments(proposal))
    for one, other in zip(gpu, cpu, strict=True):
        assert torch.equal(one.cpu(), other)
    scoring = {
        name: value
        for name, value in arguments(proposal).items()
        if name not in ("samples", "seed", "offset")
    }
    density = edit_log_density(tokens.cuda(), gpu.tokens, lengths.cuda(), gpu.lengths, **scoring)
    assert torch.equal(density, gpu.log_density)


@pytest.mark.parametrize("proposal", PROPOSALS)
def test_no_waiting_streams_and_graphs(proposal: str) -> None:
    tokens = torch.randint(4, 4568, (50, 30), generator=torch.Generator().manual_seed(0)).cuda()
    expected = training_batch(tokens, proposal)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        again = training_batch(tokens, proposal)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    late = torch.full_like(tokens, 4)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        late.copy_(tokens)
        delayed = training_batch(late, proposal)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = training_batch(tokens, proposal)
    graph.replay()
    torch.cuda.synchronize()
    for answer in (again, delayed, captured):
        for one, other in zip(answer, expected, strict=True):
            assert torch.equal(one, other)
