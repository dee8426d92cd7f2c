"""Paints scenes: whole-number arithmetic throughout, so that equal scenes are equal bits on every machine."""

from __future__ import annotations

from typing import Any

import numpy as np

from softbellman.data.scenes.scene import CANVAS, Scene, Shape
from softbellman.data.scenes.shapes import covers

SIDE = 48
"""Pixels a side of the pictures a run trains on."""

_SAMPLES = 4  # a side of a pixel

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def render(scene: Scene, *, side: int = SIDE) -> Pixels:
    """A scene as RGB, anti-aliased: each pixel mixes the colours by how many of its 4 x 4 samples a shape covers.

    Args:
        side: pixels a side, one of 32, 48, 64, 96 (the samples must fall on whole units).

    Returns:
        uint8, [side, side, 3].

    Raises:
        ValueError: a side the canvas does not divide into.
    """
    if side < 1 or CANVAS % (2 * _SAMPLES * side):
        raise ValueError(f"side must be 32, 48, 64, 96 or another divisor of {CANVAS // 8}, got {side}")
    picture = np.empty((side, side, 3), dtype=np.int64)
    picture[:] = scene.background
    for shape in scene.shapes:
        _paint(picture, shape, side)
    return picture.astype(np.uint8)


def _paint(picture: np.ndarray, shape: Shape, side: int) -> None:
    """Mix a shape's colour into the pixels its box meets."""
    pixel = CANVAS // side
    box = shape.box
    left, top = max(box.left // pixel, 0), max(box.top // pixel, 0)
    right, bottom = min(box.right // pixel + 1, side), min(box.bottom // pixel + 1, side)
    step = pixel // _SAMPLES
    across = np.arange(left * _SAMPLES, right * _SAMPLES, dtype=np.int64) * step + step // 2 - shape.x
    down = np.arange(top * _SAMPLES, bottom * _SAMPLES, dtype=np.int64) * step + step // 2 - shape.y
    covered = covers(shape.kind, across[None, :], down[:, None], shape.radius)
    blocks = covered.reshape(bottom - top, _SAMPLES, right - left, _SAMPLES)  # (H*4, W*4) -> (H, 4, W, 4)
    share = blocks.sum(axis=(1, 3), dtype=np.int64)[:, :, None]
    whole = _SAMPLES * _SAMPLES
    region = picture[top:bottom, left:right]
    region[:] = (region * (whole - share) + np.asarray(shape.paint) * share + whole // 2) // whole
