"""From pixels to a grid of features, and the captioner that learns both.

Notation: B images, P pixels a side, F feature width, D = P / 8 grid positions a side, G = D^2.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from softbellman.models.captioner import Captioner
from softbellman.models.records import Memory

STRIDE = 8
"""Pixels a side of one grid position."""

_GROUPS = 4


class PixelEncoder(nn.Module):
    """Four convolutions of 3 x 3, the first three with stride 2, each with group normalisation and a rectifier.

    They read the differences of each pixel's colour from the image's median colour, its background, and as a fourth channel
    the largest of their magnitudes: what stands out, whatever its colour.
    Before the last one a learnt vector is added at each grid position, so that features can tell where they are. Group
    normalisation keeps no running statistics: an image's features depend on that image alone, in training and after it.

    Args:
        side: P, a multiple of 8.
        width: F, a multiple of 16.

    Raises:
        ValueError: another side or width.

    Example:
        >>> PixelEncoder(48, width=64)(torch.zeros(2, 3, 48, 48, dtype=torch.uint8)).shape
        torch.Size([2, 36, 64])
    """

    def __init__(self, side: int, *, width: int = 64) -> None:
        super().__init__()
        if side < STRIDE or side % STRIDE:
            raise ValueError(f"side must be a positive multiple of {STRIDE}, got {side}")
        if width < 16 or width % 16:
            raise ValueError(f"width must be a positive multiple of 16, got {width}")
        self.side, self.width = side, width
        channels = (4, width // 4, width // 2, width)
        self.narrowing = nn.Sequential(
            *(_block(before, behind, stride=2) for before, behind in pairwise(channels))
        )
        cells = side // STRIDE
        self.position = nn.Parameter(torch.zeros(width, cells, cells).normal_(std=0.5))
        self.last = _block(width, width, stride=1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features of images.

        Args:
            pixels: [B, 3, P, P], uint8.

        Returns:
            [B, G, F], the grid row by row from the upper left.

        Raises:
            ValueError: another shape or type.
        """
        if pixels.dim() != 4 or pixels.shape[1:] != (3, self.side, self.side):
            raise ValueError(f"pixels must be [B, 3, {self.side}, {self.side}], got {tuple(pixels.shape)}")
        if pixels.dtype != torch.uint8:
            raise ValueError(f"pixels must be uint8, got {pixels.dtype}")
        background = pixels.flatten(2).median(dim=2).values[:, :, None, None]  # (B, 3, 1, 1)
        differences = (pixels.to(self.position.dtype) - background) / 127.5
        contrast = differences.abs().amax(dim=1, keepdim=True)
        cells: Tensor = self.last(self.narrowing(torch.cat([differences, contrast], dim=1)) + self.position)
        return cells.flatten(2).transpose(1, 2)  # (B, F, D, D) -> (B, G, F)


class PixelCaptioner(Captioner):
    """A `Captioner` of the features of a `PixelEncoder`: reads uint8 images [B, 3, P, P], learns both together.

    Args:
        side: P.
        target_size: V.
        feature_size: F.
        options: those of `Captioner`.

    Example:
        >>> model = PixelCaptioner(48, 1000, hidden=16, attention="dot")
        >>> images = torch.zeros(2, 3, 48, 48, dtype=torch.uint8)
        >>> model(images, torch.full((6, 4), 2)).shape  # K = 3 rows an image
        torch.Size([6, 4, 1000])
    """

    def __init__(self, side: int, target_size: int, *, feature_size: int = 64, **options: Any) -> None:
        super().__init__(feature_size, target_size, **options)
        self.image_encoder = PixelEncoder(side, width=feature_size)

    def encode(self, source: Tensor) -> Memory:
        """The memory and the first states of images [B, 3, P, P]."""
        return super().encode(self.image_encoder(source))

    def freeze_encoder(self) -> None:
        """From here on the image encoder stays as it is; only the decoder (and the maps into it) is trained."""
        self.image_encoder.requires_grad_(False)


def _block(before: int, behind: int, *, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(before, behind, 3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return nn.Sequential(
        convolution,
        nn.GroupNorm(_GROUPS, behind),
        nn.ReLU(),
    )
