"""From pixels to features: preprocessing by hand, the networks of torchvision and timm where they are there."""

from __future__ import annotations

import builtins
import re
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from softbellman.data import DataError, MissingFileError


def test_read_image_by_hand(pictures):
    from PIL import Image

    from softbellman.data.captions.encoder import read_image

    Image.fromarray(np.full((64, 96, 3), (255, 0, 51), dtype=np.uint8)).save(pictures / "plain.png")
    found = read_image(pictures / "plain.png", size=32)
    assert found.shape == (3, 32, 32)
    for channel, (value, mean, deviation) in enumerate(
        [(1, 0.485, 0.229), (0, 0.456, 0.224), (0.2, 0.406, 0.225)]
    ):
        expected = torch.full((32, 32), (value - mean) / deviation)
        torch.testing.assert_close(found[channel], expected, rtol=1e-5, atol=1e-5)
    for number in range(5):
        assert read_image(pictures / f"{number}.png", size=48).shape == (3, 48, 48)
    with pytest.raises(DataError, match=r"notes\.txt: the image cannot be read"):
        read_image(pictures / "notes.txt")
    with pytest.raises(MissingFileError, match=r"nothing\.png"):
        read_image(pictures / "nothing.png")


@pytest.mark.parametrize(("name", "width"), [("resnet18", 512), ("efficientnet_b0", 1280)])
def test_features_before_the_classifier(torchvision_models, name, width, tmp_path):
    from softbellman.data.captions.encoder import ImageEncoder

    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    before = torch.random.get_rng_state()
    encoder = ImageEncoder(name, None)
    assert torch.equal(torch.random.get_rng_state(), before)  # random weights leave the caller's draws alone
    pooled, grid = encoder(pixels), ImageEncoder(name, None, grid=True)(pixels)
    assert pooled.shape == (2, width) and grid.shape == (2, 4, width)
    torch.testing.assert_close(grid.mean(dim=1), pooled)
    # the network's own classifier, put behind them, gives the network's own output
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = torchvision_models.get_model(name, weights=None).eval()
    for path, save in ((tmp_path / "w.pth", torch.save), (tmp_path / "w.safetensors", save_file)):
        save(network.state_dict(), path)
        features = ImageEncoder(name, path)(pixels)
        classifier = network.fc if name == "resnet18" else network.classifier
        with torch.inference_mode():
            torch.testing.assert_close(classifier(features), network(pixels), rtol=1e-4, atol=1e-5)


def test_bad_encoders_are_named(torchvision_models, tmp_path):
    from softbellman.data.captions.encoder import ImageEncoder

    with pytest.raises(ValueError, match=r"encoder must be one of .*resnet18.* or timm:NAME, got 'vgg16'"):
        ImageEncoder("vgg16", None)
    with pytest.raises(MissingFileError, match=r"nowhere\.pth"):
        ImageEncoder("resnet18", tmp_path / "nowhere.pth")
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "broken.pth").write_bytes(b"nonsense")
    for stem in ("other", "broken"):
        with pytest.raises(DataError, match=rf"{stem}\.pth: cannot be read as weights of resnet18"):
            ImageEncoder("resnet18", tmp_path / f"{stem}.pth")


def timm_weights(timm, name, folder):
    """Random weights of a network as a file, and the network with them."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = timm.create_model(name, pretrained=False).eval()
    save_file(network.state_dict(), folder / "w.safetensors")
    return network, folder / "w.safetensors"


@pytest.mark.parametrize(
    ("name", "size", "positions"),
    [
        ("efficientnet_lite0", 64, 4),
        ("vit_tiny_patch16_224", 224, 196),
        ("swin_tiny_patch4_window7_224", 224, 49),
    ],
)
def test_features_of_timm_networks(timm, name, size, positions, tmp_path, pictures):
    from softbellman.data.captions.encoder import ImageEncoder, read_image, weights_digest

    network, weights = timm_weights(timm, name, tmp_path)
    encoder = ImageEncoder(f"timm:{name}", weights, grid=True)
    pixels = read_image(pictures / "0.png", size=size)[None]
    grid = encoder(pixels)
    assert grid.shape == (1, positions, network.num_features)
    # the same pixels on the network's own scale, through the library's own way to its last layer
    mean, deviation = (
        torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    own_mean, own_deviation = (
        torch.tensor(network.pretrained_cfg[key])[:, None, None] for key in ("mean", "std")
    )
    with torch.inference_mode():
        expected = network.forward_features((pixels * deviation + mean - own_mean) / own_deviation)
    if name.startswith("efficientnet"):
        expected = expected.flatten(2).mT
    elif name.startswith("vit"):
        assert not torch.equal(own_mean, mean)  # this one was trained on another scale
        expected = expected[:, 1:]
    torch.testing.assert_close(grid, expected.reshape(grid.shape), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ImageEncoder(f"timm:{name}", weights)(pixels), grid.mean(dim=1))
    assert weights_digest(encoder) != weights_digest(ImageEncoder(f"timm:{name}", None))
    if name.startswith("vit"):
        with pytest.raises(ValueError, match="takes pixels of 224 a side alone, got 96"):
            encoder(pixels[..., :96, :96])


def test_bad_timm_encoders_are_named(timm, tmp_path):
    from softbellman.data.captions.encoder import ImageEncoder

    with pytest.raises(
        ValueError, match=r"no network of timm, got 'timm:efficientnet_lite9'; nearest: timm:eff"
    ):
        ImageEncoder("timm:efficientnet_lite9", None)
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(DataError, match=r"other\.pth: cannot be read as weights of timm:resnet18"):
        ImageEncoder("timm:resnet18", tmp_path / "other.pth")


class Library(ModuleType):
    """Stands for timm or for torchvision.models: one network of four numbers a position, and a download of its own."""

    def __init__(self, *, broken: bool = False) -> None:
        super().__init__("library")
        self.broken, self.downloads = broken, 0

    def _build(self, download):
        if download and self.broken:
            raise RuntimeError("no connection\nretried 5 times")
        self.downloads += bool(download)
        network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 16, stride=16))
        network.features, network.num_features = network[0], 4
        network.pretrained_cfg = {"input_size": (3, 224, 224), "mean": (0.5,) * 3, "std": (0.25,) * 3}
        network.forward_features = network[0].forward
        with torch.no_grad():
            network[0].bias.fill_(1.0 if download else 0.0)
        return network

    def is_model(self, name):
        return name == "small"

    def create_model(self, name, pretrained):
        return self._build(pretrained)

    def list_models(self):
        return ["efficientnet_small"]

    def get_model(self, name, weights):
        assert weights in (None, "DEFAULT")
        return self._build(weights)


@pytest.mark.parametrize("name", ["efficientnet_small", "timm:small", "timm:small.tag"])
def test_the_library_downloads_only_when_it_is_told_to(monkeypatch, tmp_path, name):
    from softbellman.data.captions.encoder import ImageEncoder, weights_digest

    library = Library()
    monkeypatch.setattr("softbellman.data.captions.networks._import_models", lambda: library)
    monkeypatch.setattr("softbellman.data.captions.networks._import_timm", lambda: library)
    random = ImageEncoder(name, None)
    with pytest.raises(MissingFileError):
        ImageEncoder(name, tmp_path / "download")  # a file of that name is a file
    assert library.downloads == 0
    fetched = ImageEncoder(name, "download")
    assert library.downloads == 1 and weights_digest(fetched) != weights_digest(random)
    pixels = torch.zeros(1, 3, 32, 32)
    assert fetched(pixels).shape == (1, 4) and not torch.equal(fetched(pixels), random(pixels))
    library.broken = True
    message = rf"weights of {re.escape(name)} cannot be downloaded \(no connection\); give a file of weights"
    with pytest.raises(OSError, match=message):
        ImageEncoder(name, "download")


@pytest.mark.parametrize(
    ("name", "library", "error", "message"),
    [
        ("resnet18", "torchvision", ImportError("x", name="torchvision"), r"by torchvision: not installed; .*\[caption\]"),
        ("timm:resnet18", "timm", ImportError("x", name="timm"), r"by timm: not installed; .*\[caption\]"),
        ("timm:resnet18", "timm", ImportError("x", name="torchvision.ops"), "by timm, which needs torchvision: not"),
        (
            "resnet18", "torchvision", RuntimeError("operator torchvision::nms does not exist"),
            r"torchvision 9\.9 does not load beside torch .* \(operator torchvision::nms does not exist\): "
            "it was built for another torch",
        ),
        ("timm:resnet18", "timm", RuntimeError("operator does not exist"), "does not load beside torch"),
    ],
)  # fmt: skip
def test_a_library_that_does_not_load_is_explained(monkeypatch, name, library, error, message):
    from softbellman.data.captions.encoder import ImageEncoder

    original = builtins.__import__

    def without(wanted, *arguments, **options):
        if wanted.split(".")[0] == library:
            raise error
        return original(wanted, *arguments, **options)

    monkeypatch.setattr("softbellman.data.captions.networks.metadata.version", lambda name: "9.9")
    for loaded in [loaded for loaded in sys.modules if loaded.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=message):
        ImageEncoder(name, None)
