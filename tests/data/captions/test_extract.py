"""Extraction: rows in the order of the names, resumption after a kill, broken images."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from softbellman.data import DataError, ImageFeatures
from softbellman.data.captions.encoder import read_image
from softbellman.data.captions.extract import extract_features, list_images


class MeanColour(torch.nn.Module):
    """An encoder without weights: mean and deviation of each colour, or both for the four quarters."""

    def __init__(self, *, grid: bool = False, dies_after: int | None = None):
        super().__init__()
        self.grid, self.calls, self.dies_after = grid, 0, dies_after

    def forward(self, pixels):
        if self.calls == self.dies_after:
            raise KeyboardInterrupt
        self.calls += 1
        cells = pixels.unfold(2, 16, 16).unfold(3, 16, 16).flatten(2, 3)  # [B, 3, G, 16, 16]
        features = torch.cat([cells.mean((3, 4)), cells.std((3, 4))], dim=1).transpose(1, 2)
        return features if self.grid else features.mean(dim=1)


def extract(pictures, output, encoder=None, **options):
    options = {"identity": "mean", "size": 32, "batch_size": 2, **options}
    return extract_features(pictures, output, encoder or MeanColour(), **options)


@pytest.mark.parametrize("grid", [False, True])
def test_rows_follow_the_names(pictures, tmp_path, grid):
    seen = []
    output = tmp_path / "new" / "features.npy"
    done = extract(pictures, output, MeanColour(grid=grid), advance=seen.append)
    opened = ImageFeatures.open(output)
    assert opened.names == [f"{number}.png" for number in range(5)] == list_images(pictures)
    assert (done.count, done.features, done.broken) == (5, output, ()) and seen == [0, 2, 2, 1]
    alone = MeanColour(grid=grid)(read_image(pictures / "3.png", size=32)[None])
    torch.testing.assert_close(opened.gather([3]), alone, rtol=1e-5, atol=1e-6)
    assert sorted(path.name for path in output.parent.iterdir()) == ["features.names.txt", "features.npy"]
    with pytest.raises(DataError, match="exists already"):
        extract(pictures, output)


def test_a_killed_extraction_resumes(pictures, tmp_path):
    (pictures / "1.png").write_bytes(b"broken")
    whole = extract(pictures, tmp_path / "whole.npy", skip_broken=True)
    output = tmp_path / "features.npy"
    with pytest.raises(KeyboardInterrupt):
        extract(pictures, output, MeanColour(dies_after=2), skip_broken=True)
    assert not output.exists()
    with pytest.raises(DataError, match="belongs to other images or to another encoder"):
        extract(pictures, output, identity="other", skip_broken=True)
    encoder, seen = MeanColour(), []
    done = extract(pictures, output, encoder, skip_broken=True, advance=seen.append)
    assert encoder.calls == 1 and seen == [4, 1]
    assert done.broken == whole.broken == ("1.png",) and done.count == 4
    assert output.read_bytes() == whole.features.read_bytes()
    assert ImageFeatures.open(output).names == ["0.png", "2.png", "3.png", "4.png"]


def test_broken_images_are_named(pictures, tmp_path):
    output = tmp_path / "features.npy"
    whole = (pictures / "3.png").read_bytes()
    (pictures / "3.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"3\.png: the image cannot be read: .*--skip-broken"):
        extract(pictures, output)
    (pictures / "3.png").write_bytes(whole)  # mended: the extraction goes on
    assert extract(pictures, output).count == 5
    for number in range(5):
        (pictures / f"{number}.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="none of 5 images can be read"):
        extract(pictures, tmp_path / "none.npy", skip_broken=True)


def test_bad_input_is_named(pictures, tmp_path):
    with pytest.raises(DataError, match="is not a folder of images"):
        list_images(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        list_images(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"output must end in \.npy"):
        extract(pictures, tmp_path / "features.pt")
    with pytest.raises(ValueError, match="size must be at least 32"):
        extract(pictures, tmp_path / "f.npy", size=8)
    (tmp_path / "f.npy.progress.json").write_text(json.dumps({"identity": 1}))
    with pytest.raises(DataError, match=r"progress\.json: cannot be read"):
        extract(pictures, tmp_path / "f.npy")
    assert not np.any([path.suffix == ".partial" for path in tmp_path.iterdir()])
