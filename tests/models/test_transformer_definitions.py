"""Transformer: layers against torch's own, positions, masks and first weights against their definitions."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from transformer_cases import EXACT, SIZES, captioner, prefixes, seq2seq, sources

from softbellman.models import (
    TransformerSeq2Seq,
)
from softbellman.models.projection import bfloat16_products
from softbellman.models.transformer_layers import Layout, MultiHeadAttention, Positions


class TestAgainstDefinitions:
    def test_attention_written_out(self):
        torch.manual_seed(0)
        layer = MultiHeadAttention(6, 3).double()
        queries, states = torch.randn(2, 4, 6).double(), torch.randn(2, 5, 6).double()
        mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
        found = layer(queries, layer.remember(states), mask=mask)
        for row in range(2):
            real = states[row, : int(mask[row].sum())]
            for head in range(3):
                part = slice(2 * head, 2 * head + 2)
                q, k, v = layer.query(queries[row]), layer.key(real), layer.value(real)
                weights = (q[:, part] @ k[:, part].T / math.sqrt(2)).softmax(-1)
                torch.testing.assert_close(found[row, :, part], weights @ v[:, part], **EXACT)

    def test_positions(self):
        found = Positions(6)(2, 300)
        assert found.shape == (300, 6)
        for place, index in ((2, 0), (7, 4), (260, 2), (301, 5)):
            angle = place / 10_000 ** (2 * (index // 2) / 6)
            wanted = math.cos(angle) if index % 2 else math.sin(angle)
            assert float(found[place - 2, index]) == pytest.approx(wanted, abs=1e-6)
        torch.testing.assert_close(Positions(6)(0, 300)[2:], Positions(6)(2, 298), rtol=0, atol=0)

    def test_layers_are_those_of_torch(self):
        """The same weights in torch's own pre-norm layers give the same states."""
        model = seq2seq()
        options = {"batch_first": True, "norm_first": True, "dropout": 0.0, "dtype": torch.float64}
        encoder = nn.TransformerEncoderLayer(8, 2, 12, **options).eval()
        decoder = nn.TransformerDecoderLayer(8, 2, 12, **options).eval()
        ours = model.encoder[0]
        _copy_attention(encoder.self_attn, ours.attention)
        _copy_rest(encoder, ours, ("attention_norm", "feed_forward_norm"))
        states = torch.randn(3, 5, 8).double()
        mask = sources() != 0
        wanted = encoder(states, src_key_padding_mask=~mask)
        layout = Layout.of_mask(mask)
        found = layout.spread(ours(layout.gather(states), layout, mask))
        torch.testing.assert_close(found[mask], wanted[mask], **EXACT)
        ours = model.decoder[0]
        _copy_attention(decoder.self_attn, ours.prefix)
        _copy_attention(decoder.multihead_attn, ours.memory)
        _copy_rest(decoder, ours, ("prefix_norm", "memory_norm", "feed_forward_norm"))
        steps = torch.randn(3, 4, 8).double()
        causal = nn.Transformer.generate_square_subsequent_mask(4, dtype=torch.float64)
        wanted = decoder(steps, states, tgt_mask=causal, memory_key_padding_mask=~mask)
        layout = Layout(3, 4)
        found, _ = ours(layout.gather(steps), layout, ours.memory.remember(states), mask)
        torch.testing.assert_close(layout.spread(found), wanted, **EXACT)

    def test_gradients_by_differences(self):
        """The derivative along a random direction of all weights, against a central difference."""
        model = seq2seq()
        rows = torch.arange(12)
        generator = torch.Generator().manual_seed(1)
        weights = list(model.parameters())
        for parameter in weights:  # away from the kinks and from biases of 0
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator).double()
        wanted = torch.randn(12, 13, generator=generator).double()
        loss = lambda: (  # noqa: E731
            model.project(model.features_at(sources(), prefixes(), rows)) * wanted
        ).sum()
        direction = [torch.randn(p.shape, generator=generator).double() for p in weights]
        grads = torch.autograd.grad(loss(), weights)
        slope = sum(float((g * d).sum()) for g, d in zip(grads, direction, strict=True))
        ends = []
        with torch.no_grad():
            for step in (1e-6, -1e-6):
                for parameter, part in zip(weights, direction, strict=True):
                    parameter.add_(part, alpha=step)
                ends.append(float(loss()))
                for parameter, part in zip(weights, direction, strict=True):
                    parameter.sub_(part, alpha=step)
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(slope, rel=1e-6)

    def test_gradcheck_of_a_layer_with_a_mask(self):
        torch.manual_seed(0)
        layer = MultiHeadAttention(4, 2).double()
        queries = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
        states = torch.randn(2, 4, 4, dtype=torch.float64, requires_grad=True)
        mask = torch.tensor([[True] * 4, [True, True, False, False]])
        assert torch.autograd.gradcheck(
            lambda q, s: layer(q, layer.remember(s), mask=mask), (queries, states)
        )


def _copy_attention(theirs: nn.MultiheadAttention, ours: MultiHeadAttention) -> None:
    with torch.no_grad():
        parts = (ours.query, ours.key, ours.value)
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        theirs.out_proj.weight.copy_(ours.output.weight)
        theirs.out_proj.bias.copy_(ours.output.bias)


def _copy_rest(theirs: nn.Module, ours: nn.Module, norms: tuple[str, ...]) -> None:
    for number, name in enumerate(norms, start=1):
        getattr(theirs, f"norm{number}").load_state_dict(getattr(ours, name).state_dict())
    theirs.linear1.load_state_dict(ours.feed_forward.inner.state_dict())
    theirs.linear2.load_state_dict(ours.feed_forward.output.state_dict())


class TestWeights:
    def test_start(self):
        torch.manual_seed(0)
        model = TransformerSeq2Seq(400, 500, width=64, layers=1, heads=4, feedforward=256)
        assert float(model.target_embedding.weight.detach().std()) == pytest.approx(1 / 8, rel=0.03)
        assert float(model.output.weight.detach().abs().max()) <= math.sqrt(6 / (64 + 500))
        inner = model.decoder[0].feed_forward.inner
        assert float(inner.weight.detach().std()) == pytest.approx(math.sqrt(2 / (64 + 256)), rel=0.03)
        assert not inner.bias.any()
        assert model.decoder_norm.weight.eq(1).all()
        assert not model.output.bias.any()

    def test_tied_weights_stay_one_through_copies_and_files(self):
        model = seq2seq(tied_output=True)
        assert model.output.weight is model.target_embedding.weight
        twin = copy.deepcopy(model)
        assert twin.output.weight is twin.target_embedding.weight
        other = TransformerSeq2Seq(11, 13, **SIZES, tied_output=True).double().eval()
        other.load_state_dict(model.state_dict())
        assert other.output.weight is other.target_embedding.weight
        assert torch.equal(other(sources(), prefixes()), model(sources(), prefixes()))
        free = sum(p.numel() for p in seq2seq().parameters())
        assert free - sum(p.numel() for p in model.parameters()) == 13 * 8

    def test_one_table_for_both_sides(self):
        model = TransformerSeq2Seq(13, 13, **SIZES, tied_embeddings=True)
        assert model.source_embedding is model.target_embedding
        with pytest.raises(ValueError, match="tied_embeddings needs one vocabulary, got source_size 11"):
            seq2seq(tied_embeddings=True)

    def test_state_dict_has_no_positions(self):
        assert not [name for name in seq2seq().state_dict() if "positions" in name]

    def test_dropout_is_of_training_alone(self):
        model = seq2seq(dropout=0.3, embedding_dropout=0.2, attention_dropout=0.1)
        assert not model.encodes_alike
        assert seq2seq(dropout=0.0).encodes_alike
        assert captioner(dropout=0.5).encodes_alike
        assert not captioner(embedding_dropout=0.1).encodes_alike
        assert torch.equal(model(sources(), prefixes()), model(sources(), prefixes()))
        model.train()
        assert not torch.equal(model(sources(), prefixes()), model(sources(), prefixes()))

    @pytest.mark.parametrize("part", ["dropout", "embedding_dropout", "attention_dropout"])
    def test_each_dropout_alone_changes_the_outputs(self, part):
        rates = {"dropout": 0.0, part: 0.4}
        model = seq2seq(**rates).train()
        assert not torch.equal(model(sources(), prefixes()), model(sources(), prefixes()))

    def test_bfloat16_products_are_near(self):
        model = seq2seq().float()
        exact = model(sources(), prefixes())
        with bfloat16_products("all"), torch.no_grad():
            rounded = model(sources(), prefixes())
            state = model.begin(sources())
            stepped, _ = model.step(prefixes()[:, 0], state)
        assert rounded.dtype == torch.bfloat16
        assert not torch.equal(rounded.float(), exact)
        torch.testing.assert_close(rounded.float(), exact, rtol=0, atol=0.1)
        torch.testing.assert_close(stepped.float(), exact[:, 0], rtol=0, atol=0.1)
        with bfloat16_products("all"):
            model(sources(), prefixes()).float().square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
