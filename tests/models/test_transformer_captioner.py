"""Transformers that read images: features of grids, vectors, pixels."""

from __future__ import annotations

import pytest
import torch
from transformer_cases import EXACT, SIZES, captioner, grids, prefixes

from softbellman.models import (
    TransformerPixelCaptioner,
)


class TestImages:
    def test_a_grid_is_read_position_by_position(self):
        model = captioner()
        order = torch.tensor([4, 2, 0, 1, 3, 5])
        torch.testing.assert_close(model(grids()[:, order], prefixes()), model(grids(), prefixes()), **EXACT)
        changed = grids()
        changed[:, 3] += 1
        assert (model(changed, prefixes()) - model(grids(), prefixes())).abs().max() > 1e-3

    def test_a_vector_is_a_grid_of_one(self):
        model, vectors = captioner(), grids()[:, 0]
        torch.testing.assert_close(model(vectors, prefixes()), model(vectors[:, None], prefixes()), **EXACT)

    def test_pixels(self):
        torch.manual_seed(0)
        model = TransformerPixelCaptioner(16, 13, feature_size=16, **SIZES).eval()
        images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
        whole = model(images, prefixes())
        state = model.begin(images)
        logits, _ = model.step(prefixes()[:, 0], state)
        torch.testing.assert_close(logits, whole[:, 0], rtol=1e-5, atol=1e-5)
        model.freeze_encoder()
        whole.sum().backward()
        assert all(not p.requires_grad for p in model.image_encoder.parameters())

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            (torch.zeros(2, 4), "features of width 4, the model reads 5"),
            (torch.zeros(2, 1, 1, 5), "source must be"),
            (torch.zeros(2, 5, dtype=torch.int64), "floating point features"),
        ],
    )
    def test_wrong_features(self, source, words):
        with pytest.raises(ValueError, match=words):
            captioner().encode(source)
