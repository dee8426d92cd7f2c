"""CIDEr-D and ROUGE-L on a GPU: the CPU's scores, no waiting, streams, graphs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import softbellman
from payoffs.bleu_cases import BleuBatch, random_batch
from softbellman import DocumentFrequencies, cider_rewards, prefix_cider, prefix_rouge_l, rouge_l_rewards

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.skipif(
        not softbellman.build_info()["cuda"], reason="softbellman was built without CUDA kernels"
    ),
]


def on_gpu(batch: BleuBatch) -> BleuBatch:
    return BleuBatch(*(tensor.cuda() for tensor in batch))


@pytest.mark.parametrize("length", [1, 20, 33, 150])
@pytest.mark.parametrize("max_order", [4, 6])
def test_scores_are_those_of_the_cpu(max_order: int, length: int) -> None:
    batch = random_batch(0, sources=300, samples=5, references=5, length=length, reference_length=length + 3)
    frequencies = DocumentFrequencies.from_references(batch.references, max_order=max_order)
    there = on_gpu(batch)
    for eos, unmatched in ((None, None), (6, 5)):
        options = {"eos_id": eos, "unmatched_id": unmatched, "dtype": torch.float64}
        expected = prefix_cider(**batch.arguments(), frequencies=frequencies, **options)
        ours = prefix_cider(**there.arguments(), frequencies=frequencies.to("cuda"), **options)
        torch.testing.assert_close(ours.cpu(), expected, rtol=1e-12, atol=1e-12)
        expected = prefix_rouge_l(**batch.arguments(), **options)
        ours = prefix_rouge_l(**there.arguments(), **options)
        torch.testing.assert_close(ours.cpu(), expected, rtol=1e-15, atol=1e-15)


def test_no_waiting_streams_and_graphs() -> None:
    batch = random_batch(0, sources=50, samples=5, length=30, reference_length=30)
    frequencies = DocumentFrequencies.from_references(batch.references).to("cuda")
    there = on_gpu(batch)

    def rewards(hypotheses: Tensor) -> tuple[Tensor, Tensor]:
        arguments = there._replace(hypotheses=hypotheses).arguments()
        return cider_rewards(**arguments, frequencies=frequencies), rouge_l_rewards(**arguments)

    expected = rewards(there.hypotheses)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        again = rewards(there.hypotheses)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    late = torch.full_like(there.hypotheses, 4)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        late.copy_(there.hypotheses)
        delayed = rewards(late)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = rewards(there.hypotheses)
    graph.replay()
    torch.cuda.synchronize()
    for answer in (again, delayed, captured):
        for one, other in zip(answer, expected, strict=True):
            assert torch.equal(one, other)
