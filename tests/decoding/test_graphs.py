"""Sampling by a captured step: the draws of `sample`, from few graphs, whatever changes between two calls."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from decoding.recorded_graph import RecordedGraph
from decoding.small_models import TableModel
from softbellman import build_info
from softbellman.decoding import Samples, Tempered, sample
from softbellman.decoding.experimental import GraphSampler
from softbellman.models import AttentionSeq2Seq, Captioner
from softbellman.models.projection import bfloat16_products


def network(**changes: Any) -> AttentionSeq2Seq:
    torch.manual_seed(8)
    options = {"embedding": 6, "hidden": 8, "init_range": 0.6, **changes}
    return AttentionSeq2Seq(12, 9, **options).double().eval()


def batch(sources: int, positions: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(4, 12, (sources, positions), generator=generator)
    lengths = torch.randint(1, positions + 1, (sources, 1), generator=generator)
    return source.masked_fill(torch.arange(positions) >= lengths, 0)


def recorded(model: Any, **options: Any) -> GraphSampler:
    return GraphSampler(model, capture=RecordedGraph, **options)


def assert_same(drawn: Samples, expected: Samples) -> None:
    assert torch.equal(drawn.tokens, expected.tokens)
    assert torch.equal(drawn.lengths, expected.lengths)
    torch.testing.assert_close(drawn.log_probs, expected.log_probs, rtol=0, atol=1e-12)
    if expected.logits is None:
        assert drawn.logits is None
    else:
        assert drawn.logits is not None
        torch.testing.assert_close(drawn.logits, expected.logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("keep_logits", [False, True])
@pytest.mark.parametrize(("attention", "layers"), [("dot", 1), ("mlp", 2)])
@pytest.mark.parametrize("input_feeding", [False, True])
def test_the_draws_are_those_of_sample(
    attention: str, layers: int, input_feeding: bool, keep_logits: bool
) -> None:
    model = network(attention=attention, layers=layers, input_feeding=input_feeding)
    sampler = recorded(model, sources_multiple=4, positions_multiple=4, check_every=3)
    for seed, (sources, positions, samples) in enumerate(
        ((5, 6, 1), (6, 7, 1), (3, 5, 4), (4, 8, 4), (5, 5, 1))
    ):
        source = batch(sources, positions, seed)
        options = {
            "max_length": torch.arange(sources) % 9 + 1,
            "seed": 2**60 + seed,
            "offset": 100 * seed,
            "samples": samples,
            "temperature": 1.5,
            "keep_logits": keep_logits,
        }
        assert_same(sampler(source, **options), sample(model, source, **options))
    assert sampler.graphs == 2  # two shapes of five batches


def test_a_source_without_any_token_attends_to_its_padding() -> None:
    model, source = network(), torch.tensor([[0, 0, 0], [4, 5, 3]])
    options = {"max_length": 6, "seed": 1, "samples": 5}
    assert_same(recorded(model)(source, **options), sample(model, source, **options))


def test_images_with_and_without_attention() -> None:
    torch.manual_seed(0)
    for model, features in (
        (Captioner(5, 9, embedding=6, hidden=8, init_range=0.6), torch.randn(3, 5)),
        (Captioner(5, 9, embedding=6, hidden=8, attention="mlp", init_range=0.6), torch.randn(3, 7, 5)),
    ):
        model, features = model.double().eval(), features.double()
        options = {"max_length": 8, "seed": 3, "samples": 2}
        assert_same(recorded(model)(features, **options), sample(model, features, **options))


def test_a_given_start_and_forbidden_tokens() -> None:
    model, source = network(), batch(3, 5)
    sampler = recorded(Tempered(model, 2.0))
    forbidden = torch.tensor([True, True, True, False, False, True, False, False, False])
    seen = set()
    for change in (False, True):
        forbidden[7] = change  # in place
        options: dict[str, Any] = {"max_length": 9, "seed": 3, "samples": 20, "forbidden": forbidden}
        drawn = sampler(source, start=model.begin(source), **options)
        assert_same(drawn, sample(Tempered(model, 2.0), source, **options))
        assert not torch.isin(drawn.tokens, torch.tensor([1, 2, 5])).any()
        seen.add(bool((drawn.tokens == 7).any()))
    assert seen == {False, True}
    options["forbidden"] = [0, 1, 2]
    assert_same(sampler(source, **options), sample(Tempered(model, 2.0), source, **options))
    assert sampler.graphs == 1


def test_weights_may_change_in_place_and_may_move() -> None:
    model, source = network(), batch(4, 6)
    sampler, options = recorded(model), {"max_length": 9, "seed": 1, "samples": 6}
    first = sampler(source, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.7)
    changed = sampler(source, **options)
    assert_same(changed, sample(model, source, **options))
    assert changed.tokens.shape != first.tokens.shape or not torch.equal(changed.tokens, first.tokens)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.data = -parameter
    assert_same(sampler(source, **options), sample(model, source, **options))
    assert sampler.graphs == 1


def test_rounded_weights_are_not_those_of_the_capture() -> None:
    """Weights in bfloat16 are kept within a block; a graph must round those of its time."""
    torch.manual_seed(0)
    model = AttentionSeq2Seq(12, 9, embedding=8, hidden=16, init_range=0.6).eval()
    source, sampler = batch(4, 6), recorded(model)
    options: dict[str, Any] = {"max_length": 5, "seed": 1, "samples": 2, "keep_logits": True}
    for _ in range(3):
        with bfloat16_products("all"):
            drawn, expected = sampler(source, **options), sample(model, source, **options)
        assert torch.equal(drawn.tokens, expected.tokens)
        assert drawn.logits is not None and expected.logits is not None
        assert drawn.logits.dtype == torch.bfloat16
        torch.testing.assert_close(drawn.logits, expected.logits, rtol=0, atol=0.05)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.4)
    with bfloat16_products("none"):
        assert sampler(source, **options).logits.dtype == torch.float32  # type: ignore[union-attr]
    assert sampler.graphs == 2


def test_dropout_belongs_to_the_mode_and_is_new_in_every_replay() -> None:
    model, source = network(dropout=0.5), batch(2, 4)
    sampler, options = recorded(model), {"max_length": 6, "seed": 1, "samples": 4, "forbidden": [0, 1, 2, 3]}
    still = sampler(source, **options)
    model.train()
    torch.manual_seed(5)
    noisy = [sampler(source, **options) for _ in range(2)]
    assert sampler.graphs == 2
    assert not torch.equal(noisy[0].log_probs, noisy[1].log_probs)
    torch.manual_seed(5)  # the capture of the first call left the generator as it was
    assert torch.equal(sampler(source, **options).log_probs, noisy[0].log_probs)
    model.eval()
    assert_same(sampler(source, **options), still)


def test_few_graphs_are_kept() -> None:
    model, captures = network(), 0

    def counting(step: Any, device: torch.device) -> RecordedGraph:
        nonlocal captures
        captures += 1
        return RecordedGraph(step, device)

    sampler = GraphSampler(model, most_graphs=2, sources_multiple=1, capture=counting)
    for sources in (1, 2, 1, 3, 1, 2):  # 2 is dropped for 3, and 3 for 2
        source, options = batch(sources, 4), {"max_length": 4, "seed": sources}
        assert_same(sampler(source, **options), sample(model, source, **options))
    assert (captures, sampler.graphs) == (4, 2)


def test_steps_after_the_end_are_few() -> None:
    """All rows end with their first token; the next look is after `check_every` steps."""
    model = network()
    with torch.no_grad():
        model.output.bias[3] = 50.0
    replays = 0

    class Counting(RecordedGraph):
        def replay(self) -> None:
            nonlocal replays
            replays += 1
            super().replay()

    drawn = GraphSampler(model, check_every=5, capture=Counting)(batch(3, 4), max_length=40, seed=1)
    assert drawn.tokens.tolist() == [[3]] * 3
    assert replays == 5


class Pair(NamedTuple):
    """Two numbers a row, with the methods of a state."""

    first: Tensor
    second: Tensor

    def select_sources(self, index: Tensor) -> Pair:
        return Pair(self.first[index], self.second[index])

    select = reorder = select_sources

    def repeat(self, count: int) -> Pair:
        return Pair(*(part.repeat_interleave(count, 0) for part in self))


class Swapping(nn.Module):
    """Each step exchanges the two tensors of its state; the logits are the first one's."""

    def begin(self, source: Tensor) -> Pair:
        low, high = torch.zeros(2, len(source), 9).unbind()
        low[:, 4], high[:, 5] = 100.0, 100.0
        return Pair(low, high)

    def step(self, tokens: Tensor, state: Pair) -> tuple[Tensor, Pair]:
        return state.first * 1, Pair(state.second, state.first)


class Growing(Swapping):
    """A state that grows."""

    def step(self, tokens: Tensor, state: Pair) -> tuple[Tensor, Pair]:
        return state.first, state._replace(second=torch.cat([state.second, state.second], 1))


def test_a_state_may_exchange_its_tensors_but_not_grow() -> None:
    drawn = recorded(Swapping())(batch(3, 2), max_length=6, seed=1)
    assert drawn.tokens.tolist() == [[4, 5, 4, 5, 4, 5]] * 3
    with pytest.raises(ValueError, match="changes its shape from step to step"):
        recorded(Growing())(batch(3, 2), max_length=6, seed=1)


def test_a_replay_stands_for_dozens_of_launches() -> None:
    graphs: list[RecordedGraph] = []

    def keeping(step: Any, device: torch.device) -> RecordedGraph:
        graphs.append(RecordedGraph(step, device))
        return graphs[-1]

    GraphSampler(network(), capture=keeping)(batch(3, 4), max_length=2, seed=1)
    assert len(graphs) == 1 and graphs[0].operators >= 24


def test_impossible_logits_are_an_error() -> None:
    model = network()
    with torch.no_grad():
        model.output.bias.fill_(-math.inf)
    with pytest.raises(ValueError, match="no token can be drawn"):
        recorded(model)(batch(2, 3), max_length=4, seed=1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_undefined_logits_are_an_error_that_the_next_batch_does_not_repeat(value: float) -> None:
    model, source = network(), batch(5, 3)
    sampler, options = recorded(model), {"max_length": 8, "seed": 1, "samples": 4}
    bias = model.output.bias.detach().clone()
    for broken, message in (
        (value, r"NaN or \+inf"),
        (-math.inf, "finite allowed entry"),
    ):
        with torch.no_grad():
            model.output.bias[4:] = broken
            model.output.bias[3] = -math.inf
        with pytest.raises(ValueError, match=message):
            sampler(source, **options)
        with torch.no_grad():
            model.output.bias.copy_(bias)
            model.output.bias[3] = 50.0  # ends at once: the steps behind are the broken batch's
        assert_same(sampler(source, **options), sample(model, source, **options))
    assert sampler.graphs == 1


def test_it_can_stand_for_the_model() -> None:
    model, source = network(), batch(3, 5)
    options = {"max_length": 7, "seed": 2, "samples": 3}
    assert_same(sample(recorded(model), source, **options), sample(model, source, **options))
    with pytest.raises(TypeError, match="unexpected keyword argument 'tmperature'"):
        recorded(model)(source, tmperature=1.0, **options)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(TypeError, match="begin and step"):
        GraphSampler(TableModel(6, 4))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="begin and step"):
        GraphSampler(Tempered(TableModel(6, 4), 1.0))
    with pytest.raises(ValueError, match="check_every must be at least 1, got 0"):
        GraphSampler(network(), check_every=0)
    for options, word in (
        ({"samples": 0}, "samples"),
        ({"temperature": 0.0}, "temperature"),
        ({"max_length": 0}, "max_length"),
    ):
        with pytest.raises(ValueError, match=word):
            recorded(network())(batch(2, 3), **{"max_length": 3, "seed": 1, **options})


def test_a_step_that_looks_at_the_data_cannot_be_captured() -> None:
    class Looking(Swapping):
        def step(self, tokens: Tensor, state: Pair) -> tuple[Tensor, Pair]:
            return state.first + float(state.first.max()), state

    with pytest.raises(RuntimeError, match="waits for the device"):
        recorded(Looking())(batch(2, 3), max_length=4, seed=1)


def test_without_a_gpu_it_is_sample() -> None:
    model, source = network(), batch(3, 5)
    sampler, options = GraphSampler(model), {"max_length": 7, "seed": 2, "samples": 3, "keep_logits": True}
    assert all(map(torch.equal, sampler(source, **options), sample(model, source, **options)))  # type: ignore[arg-type]
    assert sampler.graphs == 0
    assert recorded(model)(source[:0], max_length=3, seed=1).tokens.shape == (0, 0)


@pytest.mark.cuda
@pytest.mark.skipif(
    not torch.cuda.is_available() or not build_info()["cuda"], reason="no CUDA device, or built without CUDA"
)
@pytest.mark.parametrize("keep_logits", [False, True])
def test_cuda_graphs_draw_what_sample_draws(keep_logits: bool) -> None:
    model = network(attention="mlp", layers=2, input_feeding=True).cuda()
    sampler = GraphSampler(model, sources_multiple=4, positions_multiple=4)
    for seed in range(3):
        for sources, positions in ((5, 6), (8, 7), (3, 12)):
            source = batch(sources, positions, seed).cuda()
            options = {"max_length": 20, "seed": seed, "samples": 3, "keep_logits": keep_logits}
            assert_same(sampler(source, **options), sample(model, source, **options))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.1)
    assert sampler.graphs == 3
