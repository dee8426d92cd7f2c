"""From images in any form to what a captioner reads: feature rows, pixels, files.

Notation: B images, F feature width, G grid positions, P pixels a side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softbellman.data import FeatureSpec, PixelSpec, read_pixels
from softbellman.training.trained import TrainedActor

PHOTO_SIDE = 224
"""Pixels a side that image networks read, unless something else is said."""


def image_batches(
    actor: TrainedActor,
    images: Any,
    batch_size: int,
    *,
    encoder: str = "",
    weights: str = "",
    size: int = PHOTO_SIDE,
) -> Iterator[Tensor]:
    """Images in batches as the actor reads them.

    Args:
        actor: one that reads images.
        images: a tensor or array of rows, or a sequence of rows or of paths of image files. A row is [F] or [G, F] features,
            or [3, P, P] pixels (uint8).
        batch_size: images of a batch.
        encoder, weights: image network that files go through, for an actor of features; empty: as the run's settings say.
        size: pixels a side that the network reads.

    Raises:
        ValueError: rows of another shape than the actor reads; files, and nobody says which network made the features.
        DataError: a file that is no image.
    """
    if isinstance(images, (str, Path)):
        raise ValueError(f"images must be a list of image files or of rows, got one path {str(images)!r}")
    if len(images) and isinstance(images[0], (str, Path)):
        yield from _from_files(actor, images, batch_size, encoder=encoder, weights=weights, size=size)
        return
    for start in range(0, len(images), batch_size):
        rows = images[start : start + batch_size]
        yield _checked(actor, torch.stack([torch.as_tensor(np.asarray(row)) for row in rows]))


def _checked(actor: TrainedActor, rows: Tensor) -> Tensor:
    """Rows of the shape that the actor reads; features as float32."""
    spec = actor.features
    if isinstance(spec, PixelSpec):
        wanted: tuple[int, ...] = (3, spec.side, spec.side)
        if rows.shape[1:] != wanted or rows.dtype != torch.uint8:
            raise ValueError(
                f"images must be uint8 {list(wanted)} each, got {rows.dtype} {list(rows.shape[1:])}"
            )
        return rows
    assert spec is not None
    if not rows.is_floating_point():
        raise ValueError(f"features must be floating point, got {rows.dtype}")
    found = FeatureSpec(rows.shape[-1], rows.shape[1] if rows.dim() == 3 else 0)
    if rows.dim() not in (2, 3):
        raise ValueError(f"features must be [F] or [G, F] each, got {list(rows.shape[1:])}")
    spec.check(found, origin="the given rows")
    return rows.float()


def _from_files(
    actor: TrainedActor,
    files: Sequence[str | Path],
    batch_size: int,
    *,
    encoder: str,
    weights: str,
    size: int,
) -> Iterator[Tensor]:
    spec = actor.features
    if isinstance(spec, PixelSpec):
        for start in range(0, len(files), batch_size):
            yield torch.stack(
                [read_pixels(path, side=spec.side) for path in files[start : start + batch_size]]
            )
        return
    from softbellman.data.captions.encoder import ImageEncoder, read_image

    assert isinstance(spec, FeatureSpec)
    name, kind = encoder or actor.settings.data.encoder, weights or actor.settings.data.encoder_weights
    if not name or not kind:
        raise ValueError(
            "the run does not say which image network made its features; give "
            f"{'its name (encoder)' if not name else 'its weights'}"
        )
    network = ImageEncoder(name, None if kind == "none" else kind, grid=bool(spec.positions))
    for start in range(0, len(files), batch_size):
        pixels = [read_image(path, size=size) for path in files[start : start + batch_size]]
        with torch.inference_mode():
            features = network(torch.stack(pixels))
        spec.check(
            FeatureSpec(features.shape[-1], features.shape[1] if features.dim() == 3 else 0), origin=name
        )
        yield features
