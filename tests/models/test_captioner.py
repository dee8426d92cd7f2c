"""Captioner: steps equal the whole prefix, rows share an image, gradients, decoding from features."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from softbellman.decoding import beam_search, greedy_search, sample
from softbellman.models import Captioner

# attention, input feeding, layers, a grid of positions
VARIANTS = [
    ("none", False, 1, 0),
    ("none", False, 2, 3),
    ("dot", False, 1, 3),
    ("dot", True, 2, 3),
    ("mlp", False, 2, 3),
    ("mlp", True, 1, 3),
]


def build(attention: str, input_feeding: bool, layers: int, positions: int, **options) -> Captioner:
    torch.manual_seed(4)
    model = Captioner(
        5,
        13,
        embedding=6,
        hidden=8,
        attention_size=7,
        attention=attention,
        input_feeding=input_feeding,
        layers=layers,
        init_range=0.8,
        **options,
    )
    return model.double().eval()


def images(positions: int) -> Tensor:
    shape = (3, positions, 5) if positions else (3, 5)
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def prefixes(rows: int = 3, steps: int = 4) -> Tensor:
    tokens = torch.randint(3, 13, (rows, steps), generator=torch.Generator().manual_seed(5))
    tokens[:, 0] = 2
    return tokens


@pytest.mark.parametrize("variant", VARIANTS)
def test_step_equals_forward_with_rows_sharing_an_image(variant):
    model, source, prefix = build(*variant), images(variant[3]), prefixes(rows=6)
    whole = model(source, prefix)
    assert whole.shape == (6, 4, 13)
    repeated = model(source.repeat_interleave(2, dim=0), prefix)
    torch.testing.assert_close(whole, repeated, rtol=0, atol=1e-12)
    state = model.begin(source).repeat(2)
    for position in range(prefix.shape[1]):
        logits, state = model.step(prefix[:, position], state)
        torch.testing.assert_close(logits, whole[:, position], rtol=0, atol=1e-12)
    alone = model.project(model.features(None, prefix, memory=model.encode(source)))
    torch.testing.assert_close(alone, whole, rtol=0, atol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_causal_and_see_the_image(variant):
    model, source, prefix = build(*variant), images(variant[3]), prefixes()
    before = model(source, prefix)
    changed = prefix.clone()
    changed[:, 2] = (changed[:, 2] - 3 + 1) % 10 + 3
    after = model(source, changed)
    torch.testing.assert_close(after[:, :2], before[:, :2], rtol=0, atol=0)
    assert (after[:, 2:] - before[:, 2:]).abs().amax(dim=-1).min() > 1e-6
    assert (model(source.flip(0), prefix) - before)[[0, 2]].abs().amax(dim=(1, 2)).min() > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_against_differences(variant):
    model, source, prefix = build(*variant), images(variant[3]), prefixes(steps=3)
    weights = torch.randn(3, 3, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def loss() -> Tensor:
        return (model(source, prefix) * weights).sum()

    loss().backward()
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        direction = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
        if "embedding" in name:
            direction[model.pad] = 0
        expected, step = (parameter.grad * direction).sum(), 1e-5
        with torch.no_grad():
            parameter.add_(direction, alpha=step)
            above = loss()
            parameter.sub_(direction, alpha=2 * step)
            below = loss()
            parameter.add_(direction, alpha=step)
        torch.testing.assert_close((above - below) / (2 * step), expected, rtol=1e-6, atol=1e-8, msg=name)


@pytest.mark.parametrize("variant", [VARIANTS[0], VARIANTS[3], VARIANTS[4]])
def test_decoding_from_features(variant):
    model, source = build(*variant), images(variant[3])
    together = beam_search(model, source, beam=3, max_length=6)
    for row in range(3):
        alone = beam_search(model, source[row : row + 1], beam=3, max_length=6)
        length = int(alone.lengths[0])
        assert together.lengths[row] == length
        assert torch.equal(together.tokens[row, :length], alone.tokens[0, :length])
    drawn = sample(model, source, max_length=torch.tensor([2, 6, 4]), seed=3, samples=2)
    assert (
        drawn.tokens.dtype == torch.int64
        and drawn.lengths.view(3, 2).amax(1).le(torch.tensor([2, 6, 4])).all()
    )
    # a module without a state of its own gives the same: the prefix is read whole at every step
    plain = torch.nn.Module()
    plain.forward = model.forward
    assert torch.equal(
        greedy_search(plain, source, max_length=6).tokens, greedy_search(model, source, max_length=6).tokens
    )
    assert torch.equal(
        sample(plain, source, max_length=6, seed=3, samples=2).tokens,
        sample(model, source, max_length=6, seed=3, samples=2).tokens,
    )
    empty = beam_search(model, source[:0], max_length=4)
    assert empty.tokens.dtype == torch.int64 and empty.tokens.shape == (0, 0)


def test_state_selection_follows_the_rows():
    for variant in (VARIANTS[0], VARIANTS[5]):
        model = build(*variant)
        state = model.begin(images(variant[3])).repeat(2)
        _, state = model.step(torch.arange(6) + 3, state)
        probe = torch.tensor([4, 5, 6, 7, 8, 9])
        full, _ = model.step(probe, state)
        rows = torch.tensor([5, 0, 3, 3])
        torch.testing.assert_close(
            model.step(probe[rows], state.select(rows))[0], full[rows], rtol=0, atol=1e-12
        )
        kept, _ = model.step(probe[[4, 5, 0, 1]], state.select_sources(torch.tensor([2, 0])))
        torch.testing.assert_close(kept, full[[4, 5, 0, 1]], rtol=0, atol=1e-12)


def test_dropout_reaches_words_and_features():
    model = build("none", False, 1, 0, dropout=0.0, embedding_dropout=0.5).train()
    source, prefix = torch.ones(64, 5, dtype=torch.float64), torch.full((64, 1), 2)
    memory = model.encode(source)
    assert len({tuple(row) for row in memory.hidden[:, 0].tolist()}) > 8
    assert torch.equal(model.eval()(source, prefix)[0], model(source, prefix)[1])


def test_names_of_the_parameters():
    assert list(dict(build("none", False, 1, 0).named_children())) == [
        "target_embedding", "embedding_dropout", "start", "decoder", "dropout", "output",
    ]  # fmt: skip
    assert "values" in dict(build("dot", False, 1, 3).named_children())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "cosine"}, "attention must be"),
        ({"input_feeding": True}, "input_feeding feeds the attention output"),
        ({"hidden": 0}, "hidden must be at least 1"),
        ({"dropout": 1.0}, "dropout must be in"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Captioner(5, 7, **options)


def test_bad_sources_are_named():
    model, grid = Captioner(5, 7, hidden=4), Captioner(5, 7, hidden=4, attention="dot")
    with pytest.raises(ValueError, match="width 6, the model reads 5"):
        model.encode(torch.zeros(2, 6))
    with pytest.raises(ValueError, match=r"got shape \(2,\)"):
        model.encode(torch.zeros(2))
    with pytest.raises(ValueError, match="attention needs a grid"):
        grid.encode(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="floating point"):
        model.encode(torch.zeros(2, 5, dtype=torch.int64))
