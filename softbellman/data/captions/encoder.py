"""From pixels to features by an image network of torchvision; needs the extra `[caption]`.

Notation: B images, P pixels a side, G = (P / 32)^2 grid positions, F feature width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from softbellman.data.errors import DataError, MissingFileError

from .pixels import import_pillow, open_image

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")

_FAMILIES = ("resnet", "efficientnet_")
# Mean and standard deviation of ImageNet's pixels by channel, what torchvision's networks were trained with.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImageEncoder(nn.Module):
    """The convolutions of a resnet or efficientnet: what stands before its classifier.

    Args:
        name: torchvision's name, resnet18 ... resnet152 or efficientnet_b0 ... efficientnet_v2_l.
        weights: a file with the network's state dict, .pth (read without executing anything) or .safetensors; None:
            random weights, the same at every call.
        grid: the vectors of all grid positions instead of their mean.

    Raises:
        ImportError: torchvision is not installed; names the extra.
        ValueError: another network.
        MissingFileError, DataError: the weights do not exist or do not fit; names the file.
    """

    def __init__(self, name: str, weights: str | Path | None, *, grid: bool = False) -> None:
        super().__init__()
        models = _import_models()
        known = [known for known in models.list_models() if known.startswith(_FAMILIES)]
        if name not in known:
            raise ValueError(f"encoder must be one of {', '.join(known)}, got {name!r}")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = models.get_model(name, weights=None)
        if weights is not None:
            _load_weights(network, Path(weights), name)
        if name.startswith("resnet"):
            self.trunk = nn.Sequential(*list(network.children())[:-2])  # without pooling and classifier
        else:
            self.trunk = network.features
        self.grid = grid
        self.eval().requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features of pixels [B, 3, P, P]: the mean over the grid [B, F], or the grid [B, G, F]."""
        cells: Tensor = self.trunk(pixels).flatten(2).transpose(1, 2)  # (B, F, P/32, P/32) -> (B, G, F)
        return cells if self.grid else cells.mean(dim=1)


def read_image(path: str | Path, *, size: int = 224) -> Tensor:
    """The middle square of an image as a normalised tensor [3, size, size].

    The shorter side is scaled to 256/224 of `size`, as torchvision's networks were evaluated.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is no image that can be read; names the file.
    """
    image = open_image(path)
    scale = size * 256 / 224 / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    image = image.resize((width, height), import_pillow().Resampling.BILINEAR)
    image = image.crop((left, top, left + size, top + size))
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(
        2, 0, 1
    )  # (P, P, 3) -> (3, P, P)
    return (pixels - torch.tensor(_MEAN)[:, None, None]) / torch.tensor(_DEVIATION)[:, None, None]


def _load_weights(network: nn.Module, path: Path, name: str) -> None:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except FileNotFoundError:
        raise MissingFileError("the weights do not exist", path=path) from None
    except Exception as error:  # whatever a damaged file makes the readers raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"cannot be read as weights of {name}: {reason}", path=path) from error


def _import_models() -> Any:
    try:
        from torchvision import models
    except ImportError as error:
        raise ImportError(
            "features from pixels need the extra [caption] (pip install 'softbellman[caption]')"
        ) from error
    except RuntimeError as error:  # a torchvision for CUDA beside a torch for the CPU, say
        raise ImportError(
            f"the torchvision that is installed does not fit this torch ({error}); install both from one index, "
            "as https://pytorch.org/get-started says"
        ) from error
    return models
