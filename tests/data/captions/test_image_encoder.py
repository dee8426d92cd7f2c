"""From pixels to features: preprocessing by hand, the networks of torchvision where it is there."""

from __future__ import annotations

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

    with pytest.raises(ValueError, match=r"encoder must be one of .*resnet18.*, got 'vgg16'"):
        ImageEncoder("vgg16", None)
    with pytest.raises(MissingFileError, match=r"nowhere\.pth"):
        ImageEncoder("resnet18", tmp_path / "nowhere.pth")
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "broken.pth").write_bytes(b"nonsense")
    for stem in ("other", "broken"):
        with pytest.raises(DataError, match=rf"{stem}\.pth: cannot be read as weights of resnet18"):
            ImageEncoder("resnet18", tmp_path / f"{stem}.pth")
