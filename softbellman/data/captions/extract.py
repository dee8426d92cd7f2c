"""Features of a folder of images, written row by row into a memory-mapped file; an interrupted extraction resumes.

While it runs there are OUTPUT.partial (the rows) and OUTPUT.progress.json (how far, and of what); at the end the names are
written and the rows get their final name, so OUTPUT itself is always whole.

Notation: N images, G grid positions, F feature width.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from softbellman.core.files import write_atomically
from softbellman.data.captions.encoder import IMAGE_ENDINGS, ImageEncoder, read_image
from softbellman.data.errors import DataError
from softbellman.data.text import read_json
from softbellman.data.vocabulary import why_no_token


@dataclass(frozen=True)
class Extraction:
    """What was extracted.

    Attributes:
        features: the .npy file, float32 [n, F] or [n, G, F].
        names: the file of the n image names.
        count: n.
        broken: names of the images that were skipped.
    """

    features: Path
    names: Path
    count: int
    broken: tuple[str, ...]


def list_images(folder: str | Path) -> list[str]:
    """Names of the images in a folder, sorted. Raises DataError when there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError("is not a folder of images", path=folder)
    names = sorted(item.name for item in folder.iterdir() if item.suffix.lower() in IMAGE_ENDINGS)
    for name in names:
        if reason := why_no_token(name):
            raise DataError(f"{name!r} cannot be the name of an image: {reason}", path=folder)
    if not names:
        raise DataError(f"holds no image ({', '.join(IMAGE_ENDINGS)})", path=folder)
    return names


@torch.inference_mode()
def extract_features(
    images: str | Path,
    output: str | Path,
    encoder: ImageEncoder,
    *,
    identity: str,
    size: int = 224,
    batch_size: int = 16,
    skip_broken: bool = False,
    device: torch.device | str = "cpu",
    advance: Callable[[int], object] = lambda count: None,
) -> Extraction:
    """Write the features of every image of a folder.

    Args:
        images: the folder.
        output: the .npy file; STEM.names.txt is written beside it. Must not exist yet.
        encoder: from pixels to features.
        identity: says what the encoder is (name, weights); an extraction resumes only with the same.
        size: pixels a side the network sees.
        batch_size: images encoded together.
        skip_broken: leave images out that cannot be read, instead of raising.
        device: where the network runs.
        advance: told of every batch how many images it had, those of an earlier call included.

    Raises:
        ValueError: a size or batch size below 1, or an output of another ending.
        DataError: a broken image, an output that exists, an interrupted extraction of other images or another encoder.
    """
    output = Path(output)
    if size < 32 or batch_size < 1:
        raise ValueError(f"size must be at least 32 and batch_size at least 1, got {size} and {batch_size}")
    if output.suffix != ".npy":
        raise ValueError(f"output must end in .npy, got {output}")
    if output.exists():
        raise DataError("the file exists already", path=output)
    names = list_images(images)
    work = _Work(output, _identity(names, identity, size, encoder.grid))
    advance(work.seen)
    encoder = encoder.to(device)
    while work.seen < len(names):
        batch = names[work.seen : work.seen + batch_size]
        pixels, broken = [], []
        for name in batch:
            try:
                pixels.append(read_image(Path(images) / name, size=size))
            except DataError as error:
                if not skip_broken:
                    raise DataError(f"{error} (--skip-broken leaves such images out)") from error
                broken.append(name)
        if pixels:
            features = encoder(torch.stack(pixels).to(device)).float().cpu().numpy()
            work.write(features, len(names))
        work.commit(len(batch), broken)
        advance(len(batch))
    return work.finish(names)


class _Work:
    """The partial files of one extraction and how far it is."""

    def __init__(self, output: Path, identity: str) -> None:
        self.output, self.identity = output, identity
        self.partial = output.with_name(output.name + ".partial")
        self.progress = output.with_name(output.name + ".progress.json")
        self.seen, self.written, self.broken = 0, 0, list[str]()
        self._rows: Any = None
        if self.progress.exists():
            self._resume()

    def _resume(self) -> None:
        record = read_json(self.progress)
        try:
            same = record["identity"] == self.identity
            self.seen, self.written = int(record["seen"]), int(record["written"])
            self.broken = list(record["broken"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"cannot be read: {error}", path=self.progress) from error
        if not same:
            message = "belongs to other images or to another encoder; delete it to start anew"
            raise DataError(message, path=self.progress)
        if self.written:
            self._rows = np.lib.format.open_memmap(self.partial, mode="r+")

    def write(self, features: np.ndarray[Any, Any], most: int) -> None:
        if self._rows is None:
            shape = (most, *features.shape[1:])
            self.output.parent.mkdir(parents=True, exist_ok=True)
            self._rows = np.lib.format.open_memmap(self.partial, mode="w+", dtype=np.float32, shape=shape)
        self._rows[self.written : self.written + len(features)] = features
        self.written += len(features)

    def commit(self, count: int, broken: list[str]) -> None:
        """The rows are on disk before the record says so."""
        self.seen += count
        self.broken += broken
        if self._rows is not None:
            self._rows.flush()
        record = {
            "identity": self.identity,
            "seen": self.seen,
            "written": self.written,
            "broken": self.broken,
        }
        write_atomically(self.progress, json.dumps(record).encode())

    def finish(self, names: list[str]) -> Extraction:
        if self._rows is None:
            self.progress.unlink()
            raise DataError(f"none of {len(names)} images can be read", path=self.output)
        kept = [name for name in names if name not in set(self.broken)]
        if self.written < len(self._rows):  # images were left out: a file without the rows that stayed empty
            shorter = self.output.with_name(self.output.name + ".short")
            shape = (self.written, *self._rows.shape[1:])
            rows = np.lib.format.open_memmap(shorter, mode="w+", dtype=np.float32, shape=shape)
            for start in range(0, self.written, 1024):
                rows[start : start + 1024] = self._rows[start : min(start + 1024, self.written)]
            rows.flush()
            os.replace(shorter, self.partial)
        names_path = self.output.with_suffix(".names.txt")
        write_atomically(names_path, "".join(f"{name}\n" for name in kept).encode())
        os.replace(self.partial, self.output)
        self.progress.unlink()
        return Extraction(self.output, names_path, len(kept), tuple(self.broken))


def _identity(names: list[str], identity: str, size: int, grid: bool) -> str:
    return hashlib.sha256(repr((names, identity, size, grid)).encode()).hexdigest()
