"""Images in memory and from files: what is read, scaled, refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from softbellman.data import DataError, ImagePixels, MissingFileError, PixelSpec, read_pixels


def pictures(count: int = 3, side: int = 8) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_gather_and_bytes():
    array = pictures()
    images = ImagePixels(array, ["a", "b", "c"])
    assert len(images) == 3 and images.spec == PixelSpec(8) and str(images.spec) == "8 x 8 pixels"
    rows = images.rows(["c", "a"])
    taken = images.gather(rows)
    assert taken.dtype == torch.uint8 and taken.shape == (2, 3, 8, 8)
    assert taken[0, :, 2, 5].tolist() == array[2, 2, 5].tolist()
    assert images.bytes_of(1) == array[1].tobytes()


def test_bad_images_are_named():
    for array, names, message in (
        (pictures()[0], ["a"], r"must be \[N, P, P, 3\], got shape \(8, 8, 3\)"),
        (pictures()[:, :, :4], ["a", "b", "c"], "got shape"),
        (pictures().astype(np.float32), ["a", "b", "c"], "must be uint8, got float32"),
        (pictures(), ["a", "b"], "there are 3 images, but 2 names"),
        (pictures(), ["a", "b", "a"], "the name 'a' is there twice"),
    ):
        with pytest.raises(DataError, match=message):
            ImagePixels(array, names, origin="here")
    with pytest.raises(DataError, match="captions: there is no image 'd' in here"):
        ImagePixels(pictures(), ["a", "b", "c"], origin="here").rows(["d"], origin="captions")


def test_spec_in_a_folder(tmp_path):
    PixelSpec(48).save(tmp_path)
    assert PixelSpec.load(tmp_path) == PixelSpec(48)
    path = tmp_path / "source.pixels.json"
    path.write_text(json.dumps({"side": 0}))
    with pytest.raises(DataError, match=r"source\.pixels\.json: must hold the number 'side'"):
        PixelSpec.load(tmp_path)
    path.unlink()
    with pytest.raises(MissingFileError, match=r"source\.pixels\.json"):
        PixelSpec.load(tmp_path)


def test_files_of_the_right_size_are_read_bit_for_bit(tmp_path):
    image = pytest.importorskip("PIL.Image")
    array = pictures(1, 16)[0]
    image.fromarray(array).save(tmp_path / "a.png")
    assert torch.equal(read_pixels(tmp_path / "a.png", side=16), torch.from_numpy(array).permute(2, 0, 1))


def test_other_files_are_cut_scaled_and_laid_on_white(tmp_path):
    image = pytest.importorskip("PIL.Image")
    wide = np.zeros((8, 24, 3), dtype=np.uint8)
    wide[:, 8:16] = (200, 100, 50)  # the middle square
    image.fromarray(wide).save(tmp_path / "wide.png")
    assert read_pixels(tmp_path / "wide.png", side=4).flatten(1).unique(dim=1).tolist() == [
        [200],
        [100],
        [50],
    ]
    assert read_pixels(tmp_path / "wide.png", side=16).shape == (3, 16, 16)
    double = pictures(1, 8)[0].repeat(2, axis=0).repeat(2, axis=1)
    image.fromarray(double).save(tmp_path / "double.png")
    assert torch.equal(
        read_pixels(tmp_path / "double.png", side=8),
        torch.from_numpy(double[::2, ::2].copy()).permute(2, 0, 1),
    )
    clear = np.zeros((4, 4, 4), dtype=np.uint8)
    image.fromarray(clear).save(tmp_path / "clear.png")
    assert (read_pixels(tmp_path / "clear.png", side=4) == 255).all()
    grey = np.full((4, 4), 77, dtype=np.uint8)
    image.fromarray(grey).save(tmp_path / "grey.png")
    assert (read_pixels(tmp_path / "grey.png", side=4) == 77).all()


def test_unreadable_files_are_named(tmp_path):
    pytest.importorskip("PIL.Image")
    with pytest.raises(MissingFileError, match=r"none\.png: the image does not exist"):
        read_pixels(tmp_path / "none.png", side=8)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"text\.png: the image cannot be read"):
        read_pixels(tmp_path / "text.png", side=8)
