"""Small images, and torchvision and timm where they are installed."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture
def pictures(tmp_path):
    """A folder of five small images of different shapes, one of them grey, and a file that is none."""
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "pictures"
    folder.mkdir()
    draws = np.random.default_rng(3)
    for number, shape in enumerate([(40, 60, 3), (64, 48, 3), (50, 50), (33, 80, 3), (90, 30, 3)]):
        image.fromarray(draws.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="session")
def torchvision_models():
    """torchvision's networks; skips without torchvision.

    A torchvision built for CUDA beside a CPU torch cannot load its compiled operators and then fails while it registers what
    they do to shapes; the networks need none of them, so that registration is left out here.
    """
    try:
        from torchvision import models
    except ImportError:
        pytest.skip("torchvision is not installed")
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules["torchvision._meta_registrations"] = ModuleType("torchvision._meta_registrations")
        from torchvision import models
    return models


@pytest.fixture(scope="session")
def timm(torchvision_models):
    """timm; skips without it. Its layers import torchvision, the whole of it."""
    return pytest.importorskip("timm")
