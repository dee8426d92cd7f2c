"""From pixels to features by an image network of torchvision or timm; needs the extra `[caption]`.

Notation: B images, P pixels a side, G grid positions (of a resnet (P / 32)^2), F feature width.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from softbellman.data.captions.networks import IMAGENET_DEVIATION, IMAGENET_MEAN, load_network
from softbellman.data.captions.pixels import import_pillow, open_image

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class ImageEncoder(nn.Module):
    """An image network up to its classifier.

    Args:
        name: torchvision's name, resnet18 ... resnet152 or efficientnet_b0 ... efficientnet_v2_l; or timm:NAME, with
            timm's name of any network whose last layer is a grid.
        weights: a file with the network's state dict, .pth (read without executing anything) or .safetensors; "download":
            what the library downloads for that name; None: random weights, the same at every call.
        grid: the vectors of all grid positions instead of their mean.

    Raises:
        ImportError: torchvision or timm is not installed, or torchvision was built for another torch; names the extra.
        ValueError: another network.
        MissingFileError, DataError: the weights do not exist or do not fit; names the file.
        OSError: the download failed.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, name: str, weights: str | Path | None, *, grid: bool = False) -> None:
        super().__init__()
        found = load_network(name, weights)
        self.name, self.trunk, self.size, self.grid = name, found.cells, found.size, grid
        # to the pixels' own scale from that of `read_image`, which is ImageNet's
        own = [torch.tensor(values)[:, None, None] for values in (found.mean, found.deviation)]
        common = [torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_DEVIATION)]
        self.register_buffer("scale", common[1] / own[1], persistent=False)
        self.register_buffer("shift", (common[0] - own[0]) / own[1], persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features of pixels as `read_image` gives them, [B, 3, P, P]: the mean over the grid [B, F], or the grid [B, G, F].

        Raises:
            ValueError: P is another size than the only one the network takes.
        """
        if self.size is not None and pixels.shape[-1] != self.size:
            raise ValueError(
                f"encoder {self.name} takes pixels of {self.size} a side alone, got {pixels.shape[-1]}"
            )
        cells: Tensor = self.trunk(pixels * self.scale + self.shift)
        return cells if self.grid else cells.mean(dim=1)


def weights_digest(network: nn.Module) -> str:
    """Hash of a network's weights, wherever they came from."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_image(path: str | Path, *, size: int = 224) -> Tensor:
    """The middle square of an image as a normalised tensor [3, size, size].

    The shorter side is scaled to 256/224 of `size`, as torchvision's networks were evaluated.

    Raises:
        MissingFileError, DataError: see `open_image`.
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
    return (pixels - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_DEVIATION)[
        :, None, None
    ]
