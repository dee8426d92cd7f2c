"""Transformer: the step form equals the whole-prefix form; padding, neighbours and row sharing change nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformer_cases import EXACT, SIZES, prefixes, seq2seq, sources

from softbellman.decoding import beam_search, sample
from softbellman.decoding.stepwise import StepwiseModule
from softbellman.models import (
    TransformerCaptioner,
    TransformerSeq2Seq,
)


class TestForms:
    def test_step_equals_forward_at_every_position(self, case):
        model, source = case
        whole = model(source, prefixes())
        assert whole.shape == (3, 4, 13)
        state = model.begin(source)
        for position in range(4):
            assert state.steps == position
            logits, state = model.step(prefixes()[:, position], state)
            torch.testing.assert_close(logits, whole[:, position], **EXACT)

    def test_rows_share_the_memory_of_their_source(self, case):
        model, source = case
        prefix = prefixes(rows=6)
        shared = model(source, prefix)
        torch.testing.assert_close(shared, model(source.repeat_interleave(2, dim=0), prefix), **EXACT)
        memory = model.encode(source)
        again = model.project(model.features(None, prefix, memory=memory))
        torch.testing.assert_close(again, shared, **EXACT)
        state = model.begin(None, memory=memory).repeat(2)
        assert state.rows_per_source == 2
        for position in range(4):
            logits, state = model.step(prefix[:, position], state)
            torch.testing.assert_close(logits, shared[:, position], **EXACT)

    def test_features_at_some_positions(self, case):
        model, source = case
        prefix = prefixes(rows=6, steps=5)
        rows = torch.tensor([7, 0, 1, 14, 22, 20, 7])  # in any order, one twice, none of two rows
        wanted = model.features(source, prefix).flatten(0, 1)[rows]
        torch.testing.assert_close(model.features_at(source, prefix, rows), wanted, **EXACT)
        memory = model.encode(source)
        torch.testing.assert_close(model.features_at(None, prefix, rows, memory=memory), wanted, **EXACT)
        assert model.features_at(source, prefix, rows[:0]).shape == (0, 8)

    def test_logits_are_the_projection_of_the_features(self, case):
        model, source = case
        weight, bias = model.projection()
        features = model.features(source, prefixes())
        torch.testing.assert_close(model(source, prefixes()), features @ weight.T + bias, **EXACT)

    def test_an_entry_depends_on_the_tokens_up_to_it_alone(self, case):
        model, source = case
        changed = prefixes()
        changed[:, 2:] = 5
        before, after = model(source, prefixes()), model(source, changed)
        torch.testing.assert_close(after[:, :2], before[:, :2], **EXACT)
        assert (after[:, 2:] - before[:, 2:]).abs().max() > 1e-3


class TestStates:
    def test_reorder_select_and_select_sources(self, case):
        model, source = case
        prefix = prefixes(rows=6)
        state = model.begin(source).repeat(2)
        for position in range(3):
            _, state = model.step(prefix[:, position], state)
        swapped = torch.tensor([1, 0, 2, 2, 5, 4])  # within their sources
        found, _ = model.step(prefix[:, 3], state.reorder(swapped))
        told = torch.cat([prefix[swapped, :3], prefix[:, 3:]], dim=1)
        torch.testing.assert_close(found, model(source, told)[:, 3], **EXACT)
        chosen = torch.tensor([5, 0, 3])
        found, _ = model.step(prefix[chosen, 3], state.select(chosen))
        torch.testing.assert_close(found, model(source[[2, 0, 1]], prefix[chosen])[:, 3], **EXACT)
        found, _ = model.step(prefix[[4, 5, 0, 1], 3], state.select_sources(torch.tensor([2, 0])))
        wanted = model(source[[2, 0]], prefix[[4, 5, 0, 1]])[:, 3]
        torch.testing.assert_close(found, wanted, **EXACT)

    def test_search_and_sampling_equal_those_without_a_cache(self, case):
        model, source = case

        class Whole(nn.Module):
            def forward(self, source: Tensor, prefix: Tensor) -> Tensor:
                return model(source, prefix)

        slow = StepwiseModule(Whole())
        options = {"max_length": 7}
        with torch.no_grad():
            fast, plain = (beam_search(each, source, beam=3, **options) for each in (model, slow))
            assert torch.equal(fast.tokens, plain.tokens)
            drawn, again = (sample(each, source, samples=2, seed=4, **options) for each in (model, slow))
            assert torch.equal(drawn.tokens, again.tokens)


class TestPadding:
    def test_more_padding_and_other_neighbours_change_nothing(self):
        model = seq2seq()
        together = model(sources(), prefixes())
        padded = torch.cat([sources(), torch.zeros(3, 4, dtype=torch.int64)], dim=1)
        torch.testing.assert_close(model(padded, prefixes()), together, **EXACT)
        for row in range(3):
            length = int((sources()[row] != 0).sum())
            alone = model(sources()[row : row + 1, :length], prefixes()[row : row + 1])
            torch.testing.assert_close(alone[0], together[row], **EXACT)
        order = torch.tensor([2, 0, 1])
        torch.testing.assert_close(model(sources()[order], prefixes()[order]), together[order], **EXACT)

    def test_padding_gets_no_gradient(self):
        model = seq2seq()
        padded = torch.cat([sources(), torch.zeros(3, 2, dtype=torch.int64)], dim=1)
        model(padded, prefixes()).sum().backward()
        assert model.source_embedding.weight.grad[0].abs().max() == 0
        assert model.source_embedding.weight.grad[4].abs().max() > 0

    def test_a_source_without_tokens_is_defined_and_alike_under_any_padding(self):
        model = seq2seq()
        found = [model(torch.zeros(1, size, dtype=torch.int64), prefixes()[:1]) for size in (0, 1, 5)]
        assert found[0].isfinite().all()
        torch.testing.assert_close(found[1], found[0], **EXACT)
        torch.testing.assert_close(found[2], found[0], **EXACT)

    def test_gradients_are_those_without_padding(self):
        """Packed positions, all positions, and each row alone give the same gradients of the weights."""
        model = seq2seq()
        rows = torch.tensor([0, 1, 2, 4, 8, 9, 10])  # lengths 3, 1 and 3 of 4 steps
        found = []
        for whole in (True, False):
            model.zero_grad()
            if whole:
                features = model.features(sources(), prefixes()).flatten(0, 1)[rows]
            else:
                features = model.features_at(sources(), prefixes(), rows)
            model.project(features).square().sum().backward()
            found.append([parameter.grad.clone() for parameter in model.parameters()])
        model.zero_grad()
        for row, steps in enumerate((3, 1, 3)):
            length = int((sources()[row] != 0).sum())
            alone = model(sources()[row : row + 1, :length], prefixes()[row : row + 1, :steps])
            alone.square().sum().backward()
        found.append([parameter.grad for parameter in model.parameters()])
        for first, second, third in zip(*found, strict=True):
            torch.testing.assert_close(second, first, rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(third, first, rtol=1e-10, atol=1e-10)


class TestMistakes:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"width": 9, "heads": 3}, "width must be even and a multiple of the 3 heads, got 9"),
            ({"width": 8, "heads": 3}, "width must be even and a multiple of the 3 heads, got 8"),
            ({"layers": 0}, "layers must be at least 1, got 0"),
            ({"feedforward": 0}, "feedforward must be at least 1"),
            ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
            ({"attention_dropout": -0.1}, r"attention_dropout must be in \[0, 1\)"),
        ],
    )
    def test_sizes(self, options, words):
        with pytest.raises(ValueError, match=words):
            TransformerSeq2Seq(11, 13, **{**SIZES, **options})
        with pytest.raises(ValueError, match=words):
            TransformerCaptioner(5, 13, **{**SIZES, **options})

    def test_shapes(self):
        model = seq2seq()
        with pytest.raises(ValueError, match=r"source must be \[B, S\]"):
            model.encode(sources()[0])
        with pytest.raises(ValueError, match="no multiple of the 3 sources"):
            model(sources(), prefixes(rows=4))
        with pytest.raises(ValueError, match=r"prefix must be \[N, T\]"):
            model(sources(), prefixes()[0])
        with pytest.raises(ValueError, match="begin needs source or memory"):
            model.begin(None)
        with pytest.raises(ValueError, match="features needs source or memory"):
            model.features(None, prefixes())


def test_attention_weights_give_what_the_last_layer_reads():
    """The values weighed head by head need the heads' own weights; their mean is checked with one head."""
    torch.manual_seed(1)
    model = TransformerSeq2Seq(20, 23, width=16, layers=2, heads=1, feedforward=32).eval()
    source = torch.tensor([[4, 5, 6, 7], [8, 9, 0, 0]])
    prefix = torch.randint(4, 20, (6, 5))
    read = []
    attention = model.decoder[-1].memory
    handle = attention.register_forward_hook(lambda module, given, found: read.append((given[1][1], found)))
    weights = model.attention_weights(source, prefix)
    handle.remove()
    (values, found), *_ = read
    assert weights.shape == (6, 5, 4) and not weights[3:, :, 2:].any()
    torch.testing.assert_close(weights.sum(-1), torch.ones(6, 5))
    context = weights.view(2, 15, 4) @ values[:, 0]  # (N, T, S) -> (B, K*T, S)
    torch.testing.assert_close(context, found, rtol=1e-5, atol=1e-5)


def test_attention_weights_are_the_mean_of_the_heads():
    torch.manual_seed(2)
    model = TransformerSeq2Seq(20, 23, width=16, layers=1, heads=4, feedforward=32).eval()
    source, prefix = torch.randint(4, 20, (2, 5)), torch.randint(4, 20, (2, 3))
    attention = model.decoder[0].memory
    states, kept = torch.randn(2, 3, 16), attention.remember(torch.randn(2, 5, 16))
    found = attention.weights(states, kept[0])
    queries = (states @ attention.query.weight.T + attention.query.bias).view(2, 3, 4, 4)
    by_head = [
        (queries[:, :, head] @ kept[0][:, head].transpose(1, 2) / 2.0).softmax(-1) for head in range(4)
    ]
    torch.testing.assert_close(found, torch.stack(by_head).mean(0))
    assert model.attention_weights(source, prefix).shape == (2, 3, 5)
