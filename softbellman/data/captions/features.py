"""Image features from a memory-mapped file, found by the image's name.

Notation: N images of the file, B images asked for, G grid positions, F width.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softbellman.core.files import write_atomically
from softbellman.data.errors import DataError, MissingFileError
from softbellman.data.text import read_json, read_lines, refuse_named_pipe

_FORMAT = "softbellman-image-features"
_CHUNK = 1 << 24  # numbers looked at together
_LOOKED_THROUGH = 1 << 32  # bytes: larger sets of rows are not read before they are needed
_SAFETENSORS_TYPES = {"F16": np.float16, "F32": np.float32, "F64": np.float64}


@dataclass(frozen=True)
class FeatureSpec:
    """What a model must know of the features it was trained on; a run folder keeps it.

    Attributes:
        width: F.
        positions: G; 0: one vector an image.
    """

    width: int
    positions: int = 0

    def __str__(self) -> str:
        return f"{self.positions} x {self.width}" if self.positions else str(self.width)

    def check(self, other: FeatureSpec, *, origin: str) -> None:
        """Raises DataError when features of the shape `other`, from `origin`, do not fit a model of this one."""
        if self.width != other.width or bool(self.positions) != bool(other.positions):
            raise DataError(f"features of {other} an image do not fit a model of {self}", path=origin)

    def save(self, folder: str | Path) -> None:
        """Write source.features.json."""
        record = {"format": _FORMAT, "version": 1, **asdict(self)}
        write_atomically(Path(folder) / "source.features.json", (json.dumps(record) + "\n").encode())

    @classmethod
    def load(cls, folder: str | Path) -> FeatureSpec:
        """Read what `save` wrote. Raises MissingFileError or DataError naming the file."""
        path = Path(folder) / "source.features.json"
        record = read_json(path)
        found = record if isinstance(record, dict) else {}
        width, positions = found.get("width"), found.get("positions")
        if not isinstance(width, int) or not isinstance(positions, int):
            raise DataError("must hold the numbers 'width' and 'positions'", path=path)
        return cls(width, positions)


class ImageFeatures:
    """Features of N images. Rows are read from the file when they are asked for.

    Args:
        array: [N, F] or [N, G, F], floating point.
        names: the N image names, distinct.
        origin: the file's name, for the error sentences.

    Raises:
        DataError: another rank, an empty dimension, another type, wrong count of names, a name twice.
    """

    def __init__(self, array: Any, names: Sequence[str], *, origin: str = "the given features") -> None:
        if array.ndim not in (2, 3) or 0 in array.shape:
            raise DataError(f"features must be [N, F] or [N, G, F], got shape {array.shape}", path=origin)
        if array.dtype.kind != "f":
            raise DataError(f"features must be floating point, got {array.dtype}", path=origin)
        if len(names) != len(array):
            raise DataError(f"there are {len(array)} rows of features, but {len(names)} names", path=origin)
        self._array, self.names, self.origin = array, list(names), origin
        self._rows: dict[str, int] = {}
        for row, name in enumerate(names):
            if not name:
                raise DataError(f"the name of features row {row} is empty", path=origin)
            if self._rows.setdefault(name, row) != row:
                raise DataError(f"the name {name!r} is there twice", path=origin)

    @classmethod
    def open(cls, path: str | Path, names: str | Path | None = None) -> ImageFeatures:
        """Memory-map a `.npy` or `.safetensors` file (tensor `features`).

        Args:
            path: the file.
            names: a file with one image name a line. None: the names in the metadata of the `.safetensors` file (entry
                `names`, a JSON list or lines), else STEM.names.txt beside the file.

        Raises:
            MissingFileError, DataError: no such file, or none that can be used; names it.
        """
        path = Path(path)
        refuse_named_pipe(path)
        if path.suffix == ".npy":
            array, found = _open_npy(path), None
        elif path.suffix == ".safetensors":
            array, found = _open_safetensors(path)
        else:
            raise DataError("features must be a .npy or a .safetensors file", path=path)
        if names is not None or found is None:
            found = read_lines(path.with_suffix(".names.txt") if names is None else names)
        return cls(array, found, origin=str(path))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def spec(self) -> FeatureSpec:
        """Width and grid positions."""
        shape = self._array.shape
        return FeatureSpec(int(shape[-1]), int(shape[1]) if len(shape) == 3 else 0)

    def rows(self, images: Sequence[str], *, origin: str | None = None) -> list[int]:
        """The rows of the named images.

        Raises:
            DataError: an image without features; names the first, and `origin`, which asked for it.
        """
        for image in images:
            if image not in self._rows:
                message = f"image {image!r} has no features in {self.origin}"
                raise DataError(message, path=origin or self.origin)
        return [self._rows[image] for image in images]

    def gather(self, rows: Sequence[int]) -> Tensor:
        """The features of B rows as float32, [B, F] or [B, G, F].

        Raises:
            DataError: a feature that is NaN or infinite; names the image.
        """
        taken = torch.from_numpy(np.asarray(self._array[np.asarray(rows, dtype=np.int64)], dtype=np.float32))
        finite = taken.isfinite().flatten(1).all(dim=1)
        if not bool(finite.all()):
            image = self.names[rows[int((~finite).nonzero()[0])]]
            raise DataError(f"the features of image {image!r} hold NaN or infinity", path=self.origin)
        return taken

    def check(self, rows: Sequence[int]) -> None:
        """Read the rows once, so that NaN is found before a training starts; beyond 4 GiB only `gather` finds it."""
        if len(rows) * math.prod(self._array.shape[1:]) * self._array.dtype.itemsize > _LOOKED_THROUGH:
            return
        step = max(1, _CHUNK // math.prod(self._array.shape[1:]))
        for start in range(0, len(rows), step):
            self.gather(rows[start : start + step])

    def bytes_of(self, row: int) -> bytes:
        """The features of a row as bytes, for a hash."""
        return np.ascontiguousarray(self._array[row]).tobytes()


def find_features(folder: str | Path, name: str | Path | None = None) -> Path:
    """The file of features for the captions in a folder.

    Args:
        folder: where the captions are.
        name: a file, or the name of one in the folder; None: `features.npy` or `features.safetensors` there.

    Raises:
        MissingFileError: it is in neither place.
    """
    if name is not None:
        given, beside = Path(name), Path(folder) / name
        for path in (given, beside):
            if path.exists():
                return path
        aside = "" if given == beside else f" (nor {beside})"
        raise MissingFileError(f"the file does not exist{aside}", path=given)
    choices = [Path(folder) / f"features.{ending}" for ending in ("npy", "safetensors")]
    for path in choices:
        if path.is_file():
            return path
    raise MissingFileError("the file does not exist (nor features.safetensors)", path=choices[0])


def _open_npy(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise MissingFileError("the file does not exist", path=path) from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"cannot be read as a .npy file: {error}", path=path) from error


def _open_safetensors(path: Path) -> tuple[Any, list[str] | None]:
    """The tensor `features`, memory-mapped by its place in the header, and the names of the metadata."""
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size - 8:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        entry = header["features"]
        kind, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        if kind not in _SAFETENSORS_TYPES:
            raise ValueError(f"features of type {kind} are not known; F16, F32 and F64 are")
        dtype = np.dtype(_SAFETENSORS_TYPES[kind])
        if (
            end - begin != math.prod(shape) * dtype.itemsize
            or begin < 0
            or 8 + length + end > path.stat().st_size
        ):
            raise ValueError("the tensor does not lie within the file")
        if 0 in shape:
            raise ValueError(f"the tensor is empty: {shape}")
        array = np.memmap(path, dtype=dtype, mode="r", offset=8 + length + begin, shape=shape)
        names = header.get("__metadata__", {}).get("names")
        if names is not None:
            names = json.loads(names) if names.lstrip().startswith("[") else names.splitlines()
    except FileNotFoundError:
        raise MissingFileError("the file does not exist", path=path) from None
    except KeyError as error:
        raise DataError(f"the file has no {error}", path=path) from None
    except RecursionError:
        raise DataError("its header is nested too deeply", path=path) from None
    except (OSError, ValueError, TypeError, AttributeError, struct.error) as error:
        raise DataError(f"cannot be read as a .safetensors file: {error}", path=path) from error
    return array, names
