"""AttentionSeq2Seq: the step form equals the whole-prefix form, padding and row sharing change nothing."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from softbellman.models import AttentionSeq2Seq

VARIANTS = list(itertools.product(["dot", "mlp"], [False, True], [1, 2]))


def build(
    attention: str = "dot", input_feeding: bool = False, layers: int = 1, **options: float
) -> AttentionSeq2Seq:
    torch.manual_seed(3)
    model = AttentionSeq2Seq(
        11,
        13,
        embedding=6,
        hidden=8,
        attention_size=5,
        layers=layers,
        attention=attention,
        input_feeding=input_feeding,
        init_range=0.8,
        **options,
    )
    return model.double().eval()


def sources() -> Tensor:
    """Three sources of lengths 5, 2 and 4, not sorted."""
    return torch.tensor([[4, 5, 6, 7, 3], [8, 3, 0, 0, 0], [9, 4, 10, 3, 0]])


def prefixes(rows: int = 3, steps: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(3, 13, (rows, steps), generator=generator)
    tokens[:, 0] = 2
    return tokens


@pytest.mark.parametrize(("attention", "input_feeding", "layers"), VARIANTS)
class TestVariants:
    def test_step_equals_forward_at_every_position(self, attention, input_feeding, layers):
        model = build(attention, input_feeding, layers)
        prefix = prefixes()
        whole = model(sources(), prefix)
        assert whole.shape == (3, 4, 13)
        state = model.begin(sources())
        for position in range(prefix.shape[1]):
            logits, state = model.step(prefix[:, position], state)
            torch.testing.assert_close(logits, whole[:, position], rtol=0, atol=1e-12)

    def test_rows_share_the_memory_of_their_source(self, attention, input_feeding, layers):
        model = build(attention, input_feeding, layers)
        prefix = prefixes(rows=6)
        shared = model(sources(), prefix)
        repeated = model(sources().repeat_interleave(2, dim=0), prefix)
        torch.testing.assert_close(shared, repeated, rtol=0, atol=1e-12)
        memory = model.encode(sources())
        torch.testing.assert_close(
            model.project(model.features(None, prefix, memory=memory)), shared, rtol=0, atol=0
        )
        state = model.begin(sources()).repeat(2)
        copied = model.begin(sources().repeat_interleave(2, dim=0))
        for position in range(prefix.shape[1]):
            logits, state = model.step(prefix[:, position], state)
            expected, copied = model.step(prefix[:, position], copied)
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12)

    def test_source_padding_and_row_order_change_nothing(self, attention, input_feeding, layers):
        model = build(attention, input_feeding, layers)
        prefix = prefixes()
        together = model(torch.nn.functional.pad(sources(), (0, 3)), prefix)
        for row, length in enumerate([5, 2, 4]):
            alone = model(sources()[row : row + 1, :length], prefix[row : row + 1])
            torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-12)

    def test_gradient_ignores_source_padding(self, attention, input_feeding, layers):
        model = build(attention, input_feeding, layers)
        prefix = prefixes()

        def gradients(source: Tensor) -> list[Tensor]:
            model.zero_grad()
            model(source, prefix).square().sum().backward()
            return [parameter.grad.clone() for parameter in model.parameters()]

        plain, padded = gradients(sources()), gradients(torch.nn.functional.pad(sources(), (0, 3)))
        for expected, found in zip(plain, padded, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
            assert expected.abs().max() > 0

    def test_logits_are_causal(self, attention, input_feeding, layers):
        model = build(attention, input_feeding, layers)
        prefix = prefixes()
        before = model(sources(), prefix)
        changed = prefix.clone()
        changed[:, 2] = (changed[:, 2] - 3 + 1) % 10 + 3
        after = model(sources(), changed)
        torch.testing.assert_close(after[:, :2], before[:, :2], rtol=0, atol=0)
        assert (after[:, 2:] - before[:, 2:]).abs().amax(dim=-1).min() > 1e-6

    def test_gradients_against_differences(self, attention, input_feeding, layers):
        model = build(attention, input_feeding, layers)
        source, prefix = sources()[1:], prefixes(rows=2, steps=3)
        weights = torch.randn(2, 3, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

        def loss() -> Tensor:
            return (model(source, prefix) * weights).sum()

        loss().backward()
        generator = torch.Generator().manual_seed(2)
        for name, parameter in model.named_parameters():
            direction = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
            if "embedding" in name:
                direction[model.pad] = 0  # the padding row is constant
            expected = (parameter.grad * direction).sum()
            step = 1e-5
            with torch.no_grad():
                parameter.add_(direction, alpha=step)
                above = loss()
                parameter.sub_(direction, alpha=2 * step)
                below = loss()
                parameter.add_(direction, alpha=step)
            torch.testing.assert_close((above - below) / (2 * step), expected, rtol=1e-6, atol=1e-8, msg=name)


@pytest.mark.parametrize("input_feeding", [False, True])
def test_state_selection_follows_the_rows(input_feeding):
    model = build("mlp", input_feeding, 2)
    state = model.begin(sources()).repeat(2)
    for token in (2, 5):
        _, state = model.step(torch.arange(6) + token, state)
    probe = torch.tensor([4, 5, 6, 7, 8, 9])
    full, _ = model.step(probe, state)

    rows = torch.tensor([5, 0, 3, 3])
    selected, again = model.step(probe[rows], state.select(rows))
    torch.testing.assert_close(selected, full[rows], rtol=0, atol=1e-12)
    assert again.rows_per_source == 1

    within = torch.tensor([1, 0, 2, 2, 5, 4])
    reordered, _ = model.step(probe[within], state.reorder(within))
    torch.testing.assert_close(reordered, full[within], rtol=0, atol=1e-12)

    kept = state.select_sources(torch.tensor([2, 0]))
    assert kept.rows_per_source == 2
    pairs = torch.tensor([4, 5, 0, 1])
    few, _ = model.step(probe[pairs], kept)
    torch.testing.assert_close(few, full[pairs], rtol=0, atol=1e-12)

    memory = model.encode(sources())
    doubled = memory.repeat(2).select(torch.tensor([4, 1]))
    for found, whole in zip(doubled, memory, strict=True):
        torch.testing.assert_close(found, whole[[2, 0]], rtol=0, atol=0)


def test_input_feeding_uses_the_previous_attention_output():
    model = build("dot", True)
    state = model.begin(sources())
    _, state = model.step(torch.tensor([2, 2, 2]), state)
    assert state.feed is not None
    plain, _ = model.step(torch.tensor([5, 5, 5]), state)
    starved, _ = model.step(torch.tensor([5, 5, 5]), state._replace(feed=torch.zeros_like(state.feed)))
    assert (plain - starved).abs().max() > 1e-3


def test_encoder_equals_a_packed_bidirectional_lstm():
    """The encoder's two scans over padded rows give what a packed bidirectional LSTM gives."""
    encoder = build(layers=2).encoder
    packed = nn.LSTM(6, 4, num_layers=2, bidirectional=True, batch_first=True).double()
    with torch.no_grad():
        for layer in range(2):
            for suffix, scans in (("", encoder.forwards), ("_reverse", encoder.backwards)):
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                    value = getattr(scans[layer], f"{name}_l0")
                    getattr(packed, f"{name}_l{layer}{suffix}").copy_(value)
    lengths = torch.tensor([5, 1, 4, 2])
    embedded = torch.randn(4, 7, 6, dtype=torch.float64)
    found = encoder(embedded, lengths)
    inputs = nn.utils.rnn.pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
    states, (hidden, cell) = packed(inputs)
    states, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(found.states[row, :length], states[row, :length], rtol=0, atol=1e-12)
    # (2 layers x 2 directions, B, H/2) -> (B, 2, H)
    torch.testing.assert_close(found.hidden, hidden.unflatten(0, (2, 2)).permute(2, 0, 1, 3).flatten(2))
    torch.testing.assert_close(found.cell, cell.unflatten(0, (2, 2)).permute(2, 0, 1, 3).flatten(2))


def test_dropout_acts_on_features_in_training_alone():
    model = build(dropout=0.5)
    prefix = prefixes(steps=40)
    torch.testing.assert_close(model(sources(), prefix), model(sources(), prefix), rtol=0, atol=0)
    clean = model.features(sources(), prefix)
    model.train()
    noisy = model.features(sources(), prefix)
    kept = noisy != 0
    assert 0.35 < kept.double().mean() < 0.65
    torch.testing.assert_close(noisy[kept], 2 * clean[kept])


def test_parameters_start_in_the_range_and_padding_at_zero():
    model = AttentionSeq2Seq(9, 7, embedding=4, hidden=6, attention="mlp", attention_size=5, init_range=0.1)
    for name, parameter in model.named_parameters():
        assert parameter.abs().max() <= 0.1, name
        assert parameter.abs().max() > 0.01, name
    assert not model.source_embedding.weight[0].any()
    assert not model.target_embedding.weight[0].any()


def test_published_sizes():
    model = AttentionSeq2Seq(20, 30)
    assert model.decoder.hidden_size == model.decoder.input_size == 256
    assert [scan.hidden_size for scan in (*model.encoder.forwards, *model.encoder.backwards)] == [128, 128]
    assert model.output.weight.shape == (30, 256)
    assert AttentionSeq2Seq(20, 30, input_feeding=True).decoder.input_size == 512


def test_a_source_without_tokens_gives_finite_logits():
    source = sources()
    source[1] = 0
    assert build("mlp")(source, prefixes()).isfinite().all()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"hidden": 7}, "hidden"),
        ({"attention": "bilinear"}, "bilinear"),
        ({"dropout": 1.0}, "dropout"),
        ({"layers": 0}, "layers"),
    ],
)
def test_bad_options_are_named(options, word):
    with pytest.raises(ValueError, match=word):
        AttentionSeq2Seq(5, 5, **options)


def test_bad_shapes_are_named():
    model = build()
    with pytest.raises(ValueError, match=r"4 rows.*3 sources"):
        model(sources(), prefixes(rows=4))
    with pytest.raises(ValueError, match="prefix must be"):
        model(sources(), prefixes()[0])
    with pytest.raises(ValueError, match="source must be"):
        model(sources()[0], prefixes())
    with pytest.raises(ValueError, match="neither"):
        model.features(None, prefixes())
