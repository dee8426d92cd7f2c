"""PixelCaptioner: shapes, gradients through the convolutions, decoding from pixels, a frozen encoder."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from softbellman.decoding import beam_search, sample
from softbellman.models import Captioner, PixelCaptioner, PixelEncoder

# attention, input feeding
VARIANTS = [("none", False), ("dot", False), ("dot", True), ("mlp", True)]


def build(attention: str, input_feeding: bool, **options) -> PixelCaptioner:
    torch.manual_seed(4)
    model = PixelCaptioner(
        16, 13, feature_size=16, embedding=6, hidden=8, attention_size=7, attention=attention,
        input_feeding=input_feeding, init_range=0.8, **options,
    )  # fmt: skip
    return model.double().eval()


def images(count: int = 3) -> Tensor:
    shape = (count, 3, 16, 16)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def prefixes(rows: int, steps: int = 4) -> Tensor:
    tokens = torch.randint(3, 13, (rows, steps), generator=torch.Generator().manual_seed(5))
    tokens[:, 0] = 2
    return tokens


@pytest.mark.parametrize("variant", VARIANTS)
def test_steps_equal_the_whole_prefix(variant):
    model, source, prefix = build(*variant), images(), prefixes(6)
    whole = model(source, prefix)
    assert whole.shape == (6, 4, 13)
    torch.testing.assert_close(whole, model(source.repeat_interleave(2, dim=0), prefix), rtol=0, atol=1e-12)
    state = model.begin(source).repeat(2)
    for position in range(4):
        logits, state = model.step(prefix[:, position], state)
        torch.testing.assert_close(logits, whole[:, position], rtol=0, atol=1e-12)
    assert (model(source.flip(0), prefix) - whole)[[0, 5]].abs().amax(dim=(1, 2)).min() > 1e-3


def test_it_is_a_captioner_of_its_encoders_grid():
    model, source, prefix = build("dot", False), images(), prefixes(3)
    plain = Captioner(16, 13, embedding=6, hidden=8, attention="dot").double().eval()
    weights = {key: value for key, value in model.state_dict().items() if not key.startswith("image_encoder")}
    plain.load_state_dict(weights)
    torch.testing.assert_close(
        model(source, prefix), plain(model.image_encoder(source), prefix), rtol=0, atol=0
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_against_differences(variant):
    model, source, prefix = build(*variant), images(), prefixes(3, steps=3)
    weights = torch.randn(3, 3, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def loss() -> Tensor:
        return (model(source, prefix) * weights).sum()

    loss().backward()
    generator = torch.Generator().manual_seed(2)
    checked = 0
    for name, parameter in model.image_encoder.named_parameters():
        direction = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
        expected, step = (parameter.grad * direction).sum(), 1e-6
        with torch.no_grad():
            parameter.add_(direction, alpha=step)
            above = loss()
            parameter.sub_(direction, alpha=2 * step)
            below = loss()
            parameter.add_(direction, alpha=step)
        torch.testing.assert_close((above - below) / (2 * step), expected, rtol=1e-4, atol=1e-6, msg=name)
        checked += bool(parameter.grad.abs().sum() > 0)
    assert checked == len(list(model.image_encoder.parameters()))


def test_an_image_is_read_alone_and_knows_its_places():
    encoder = PixelEncoder(24, width=16).eval()
    source = torch.full((2, 3, 24, 24), 240, dtype=torch.uint8)
    source[0, :, 2:6, 2:6] = 10
    source[1, :, 18:22, 18:22] = 10
    grid = encoder(source)
    assert grid.shape == (2, 9, 16)
    torch.testing.assert_close(encoder(source[1:])[0], grid[1])
    assert torch.equal(encoder.train()(source), grid)  # no statistics of the batch
    assert not torch.allclose(grid[0].mean(0), grid[1].mean(0), atol=1e-3)


def test_decoding_from_pixels():
    model, source = build("dot", False), images()
    together = beam_search(model, source, beam=3, max_length=6)
    for row in range(3):
        alone = beam_search(model, source[row : row + 1], beam=3, max_length=6)
        length = int(alone.lengths[0])
        assert torch.equal(together.tokens[row, :length], alone.tokens[0, :length])
    drawn = sample(model, source, max_length=5, seed=3, samples=2)
    assert drawn.tokens.shape[0] == 6
    plain = torch.nn.Module()
    plain.forward = model.forward
    assert torch.equal(sample(plain, source, max_length=5, seed=3, samples=2).tokens, drawn.tokens)


def test_a_frozen_encoder_gets_no_gradient_and_the_decoder_does():
    model, source, prefix = build("dot", False), images(), prefixes(3)
    model.freeze_encoder()
    model(source, prefix).sum().backward()
    assert all(parameter.grad is None for parameter in model.image_encoder.parameters())
    assert all(
        parameter.grad is not None
        for name, parameter in model.named_parameters()
        if "image_encoder" not in name
    )


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="side must be a positive multiple of 8, got 20"):
        PixelEncoder(20)
    with pytest.raises(ValueError, match="width must be a positive multiple of 16, got 24"):
        PixelEncoder(16, width=24)
    model = build("dot", False)
    with pytest.raises(ValueError, match=r"pixels must be \[B, 3, 16, 16\], got \(2, 3, 16, 8\)"):
        model.encode(torch.zeros(2, 3, 16, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"pixels must be uint8, got torch\.float32"):
        model.encode(torch.zeros(2, 3, 16, 16))
