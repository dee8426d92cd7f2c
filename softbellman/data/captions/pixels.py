"""Images as pixels: what a captioner with an image encoder of its own reads.

Notation: N images, B images asked for, P pixels a side.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softbellman.core.files import write_atomically
from softbellman.data.errors import DataError, MissingFileError
from softbellman.data.text import read_json, refuse_named_pipe

_FORMAT = "softbellman-image-pixels"


@dataclass(frozen=True)
class PixelSpec:
    """What a model must know of the images it was trained on; a run folder keeps it.

    Attributes:
        side: P.
    """

    side: int

    def __str__(self) -> str:
        return f"{self.side} x {self.side} pixels"

    def save(self, folder: str | Path) -> None:
        """Write source.pixels.json."""
        record = {"format": _FORMAT, "version": 1, **asdict(self)}
        write_atomically(Path(folder) / "source.pixels.json", (json.dumps(record) + "\n").encode())

    @classmethod
    def load(cls, folder: str | Path) -> PixelSpec:
        """Read what `save` wrote. Raises MissingFileError or DataError naming the file."""
        path = Path(folder) / "source.pixels.json"
        record = read_json(path)
        side = record.get("side") if isinstance(record, dict) else None
        if not isinstance(side, int) or side < 1:
            raise DataError("must hold the number 'side', at least 1", path=path)
        return cls(side)


class ImagePixels:
    """N square RGB images in memory; stands where `ImageFeatures` does.

    Args:
        array: uint8, [N, P, P, 3].
        names: the N image names, distinct.
        origin: where they come from, for the error sentences.

    Raises:
        DataError: another shape or type, a wrong count of names, a name twice.
    """

    def __init__(self, array: Any, names: Sequence[str], *, origin: str = "the given images") -> None:
        if array.ndim != 4 or array.shape[3] != 3 or array.shape[1] != array.shape[2] or 0 in array.shape:
            raise DataError(f"images must be [N, P, P, 3], got shape {array.shape}", path=origin)
        if array.dtype != np.uint8:
            raise DataError(f"images must be uint8, got {array.dtype}", path=origin)
        if len(names) != len(array):
            raise DataError(f"there are {len(array)} images, but {len(names)} names", path=origin)
        self._array, self.names, self.origin = array, list(names), origin
        self._rows: dict[str, int] = {}
        for row, name in enumerate(names):
            if self._rows.setdefault(name, row) != row:
                raise DataError(f"the name {name!r} is there twice", path=origin)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def spec(self) -> PixelSpec:
        """Pixels a side."""
        return PixelSpec(int(self._array.shape[1]))

    def rows(self, images: Sequence[str], *, origin: str | None = None) -> list[int]:
        """The rows of the named images.

        Raises:
            DataError: a name without an image; names the first, and `origin`, which asked for it.
        """
        for image in images:
            if image not in self._rows:
                raise DataError(f"there is no image {image!r} in {self.origin}", path=origin or self.origin)
        return [self._rows[image] for image in images]

    def gather(self, rows: Sequence[int]) -> Tensor:
        """B images as uint8, [B, 3, P, P]."""
        taken = torch.from_numpy(self._array[np.asarray(rows, dtype=np.int64)])
        return taken.permute(0, 3, 1, 2).contiguous()  # (B, P, P, 3) -> (B, 3, P, P)

    def check(self, rows: Sequence[int]) -> None:
        """Nothing to look for: every byte is a colour."""

    def bytes_of(self, row: int) -> bytes:
        """The pixels of a row as bytes, for a hash."""
        return np.ascontiguousarray(self._array[row]).tobytes()


def read_pixels(path: str | Path, *, side: int) -> Tensor:
    """The middle square of an image file, scaled to `side` pixels where it has others: uint8, [3, side, side].

    What is transparent is laid on white.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is no image that can be read; names the file.
    """
    image = open_image(path)
    if image.size != (side, side):
        width, height = image.size
        square = min(width, height)
        left, top = (width - square) // 2, (height - square) // 2
        image = image.crop((left, top, left + square, top + square))
        resampling = import_pillow().Resampling
        image = image.resize((side, side), resampling.BOX if square > side else resampling.BILINEAR)
    return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1).contiguous()


def open_image(path: str | Path) -> Any:
    """An image file as Pillow's RGB image, what is transparent laid on white.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is no image that can be read; names the file.
    """
    image_module = import_pillow()
    refuse_named_pipe(path)
    try:
        with image_module.open(path) as opened:
            if "A" in opened.getbands() or "transparency" in opened.info:
                opaque = opened.convert("RGBA")
                white = image_module.new("RGBA", opaque.size, "white")
                return image_module.alpha_composite(white, opaque).convert("RGB")
            return opened.convert("RGB")
    except FileNotFoundError:
        raise MissingFileError("the image does not exist", path=path) from None
    except (OSError, ValueError, SyntaxError, image_module.DecompressionBombError) as error:
        raise DataError(f"the image cannot be read: {error}", path=path) from error


def import_pillow() -> Any:
    """Pillow, which matplotlib brings."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("reading images needs Pillow (pip install pillow)") from error
    return Image
