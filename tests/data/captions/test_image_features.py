"""Image features: rows by name from memory-mapped files; bad files by name."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from softbellman.data import DataError, FeatureSpec, ImageFeatures, MissingFileError
from softbellman.data.captions import find_features

NAMES = ["a.jpg", "b.jpg", "c.jpg"]


def array(*shape, dtype=np.float32):
    return np.random.default_rng(1).normal(size=shape or (3, 5)).astype(dtype)


def save(folder, values, names=NAMES, stem="features"):
    np.save(folder / f"{stem}.npy", values)
    (folder / f"{stem}.names.txt").write_text("".join(f"{name}\n" for name in names))
    return folder / f"{stem}.npy"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 5), (3, 4, 5)])
def test_rows_by_name(tmp_path, shape, dtype):
    values = array(*shape, dtype=dtype)
    opened = ImageFeatures.open(save(tmp_path, values))
    assert len(opened) == 3 and opened.spec == FeatureSpec(5, 4 if len(shape) == 3 else 0)
    rows = opened.rows(["c.jpg", "a.jpg", "c.jpg"])
    found = opened.gather(rows)
    assert rows == [2, 0, 2] and found.dtype == torch.float32
    torch.testing.assert_close(found, torch.from_numpy(values[rows].astype(np.float32)), rtol=0, atol=0)
    assert isinstance(opened._array, np.memmap)
    assert find_features(tmp_path) == tmp_path / "features.npy"
    (tmp_path / "grid.npy").write_bytes(b"")
    assert find_features(tmp_path, "grid.npy") == tmp_path / "grid.npy"  # a name beside the captions
    assert find_features(tmp_path / "deeper", tmp_path / "grid.npy") == tmp_path / "grid.npy"
    with pytest.raises(
        MissingFileError, match=r"^other\.npy: the file does not exist \(nor .*/other\.npy\)$"
    ):
        find_features(tmp_path, "other.npy")


@pytest.mark.parametrize("metadata", [{"names": json.dumps(NAMES)}, {"names": "\n".join(NAMES)}, None])
def test_safetensors_with_names_within_or_beside(tmp_path, metadata):
    values = array()
    path = tmp_path / "features.safetensors"
    save_file({"other": array(2), "features": values}, path, metadata=metadata)
    if metadata is None:
        (tmp_path / "features.names.txt").write_text("\n".join(NAMES))
    opened = ImageFeatures.open(path)
    assert opened.names == NAMES and isinstance(opened._array, np.memmap)
    assert np.array_equal(opened.gather([1, 2]).numpy(), values[1:])
    other = tmp_path / "other.txt"
    other.write_text("x\ny\nz\n")
    assert ImageFeatures.open(path, other).names == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        (array(3), NAMES, r"must be \[N, F\] or \[N, G, F\], got shape \(3,\)"),
        (array(0, 4), [], "must be"),
        (np.zeros((3, 2), dtype=np.int64), NAMES, "floating point, got int64"),
        (array(), NAMES[:2], "3 rows of features, but 2 names"),
        (array(), ["a.jpg", "b.jpg", "a.jpg"], "'a.jpg' is there twice"),
        (array(), ["a.jpg", "", "b.jpg"], "name of features row 1 is empty"),
    ],
)
def test_bad_features_are_named(tmp_path, values, names, message):
    with pytest.raises(DataError, match=message) as caught:
        ImageFeatures.open(save(tmp_path, values, names))
    assert "features.npy" in str(caught.value)


def test_bad_files_are_named(tmp_path):
    for ending in ("npy", "safetensors"):
        with pytest.raises(MissingFileError, match="nowhere"):
            ImageFeatures.open(tmp_path / f"nowhere.{ending}")
        (tmp_path / f"broken.{ending}").write_bytes(b"nonsense" * 3)
        with pytest.raises(DataError, match="cannot be read as a"):
            ImageFeatures.open(tmp_path / f"broken.{ending}")
    with pytest.raises(DataError, match=r"must be a \.npy or a"):
        ImageFeatures.open(tmp_path / "features.pt")
    with pytest.raises(MissingFileError, match=r"features\.npy"):
        find_features(tmp_path)
    save_file({"pixels": array()}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="has no 'features'"):
        ImageFeatures.open(tmp_path / "other.safetensors")
    whole = tmp_path / "whole.safetensors"
    save_file({"features": array()}, whole, metadata={"names": json.dumps(NAMES)})
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:-4])
    with pytest.raises(DataError, match="does not lie within the file"):
        ImageFeatures.open(tmp_path / "cut.safetensors")


def test_nan_and_missing_images_are_named(tmp_path, monkeypatch):
    values = array()
    values[1, 3] = np.nan
    opened = ImageFeatures.open(save(tmp_path, values))
    opened.check([0, 2])
    for look in (opened.check, opened.gather):
        with pytest.raises(DataError, match=r"features of image 'b\.jpg' hold NaN or infinity"):
            look([0, 1])
    monkeypatch.setattr("softbellman.data.captions.features._LOOKED_THROUGH", 30)
    opened.check([0, 1])  # too many bytes to look through: found when they are needed
    with pytest.raises(DataError, match=r"captions\.tsv: image 'd\.jpg' has no features in .*features\.npy"):
        opened.rows(["a.jpg", "d.jpg"], origin="captions.tsv")


def test_spec_is_kept_and_compared(tmp_path):
    spec = FeatureSpec(2048, 49)
    spec.save(tmp_path)
    assert FeatureSpec.load(tmp_path) == spec
    spec.check(FeatureSpec(2048, 64), origin="f.npy")  # attention takes a grid of any size
    for other in (FeatureSpec(1280, 49), FeatureSpec(2048)):
        with pytest.raises(DataError, match=r"f\.npy: features of .* do not fit a model of 49 x 2048"):
            spec.check(other, origin="f.npy")
    (tmp_path / "source.features.json").write_text("{}")
    with pytest.raises(DataError, match="'width' and 'positions'"):
        FeatureSpec.load(tmp_path)
    with pytest.raises(MissingFileError):
        FeatureSpec.load(tmp_path / "nowhere")
