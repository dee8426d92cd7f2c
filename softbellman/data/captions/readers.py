"""Readers of caption files: tab-separated text, Karpathy's JSON, COCO's annotation JSON.

Every reader keeps the images in the order in which the file first names them and leaves the text as it is. A caption that is
empty is an error, or with `keep_empty` an empty text.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from softbellman.data.captions.text import ImageCaptions
from softbellman.data.errors import DataError
from softbellman.data.text import read_json, read_lines

CaptionFormat = Literal["tsv", "karpathy", "coco"]
Splits = dict[str, ImageCaptions]

_ONE_SPLIT = ""


class _Collector:
    """Gathers captions by split and image, and refuses an image that two splits share.

    Args:
        path: of the file.
        keep_empty: an empty caption is none of the errors.
    """

    def __init__(self, path: Path, keep_empty: bool) -> None:
        self.path, self.keep_empty = path, keep_empty
        self.empty_lines = 0
        self.splits: dict[str, dict[str, list[str]]] = {}
        self._split_of: dict[str, str] = {}

    def open(self, split: str, image: str, *, line: int | None = None) -> list[str]:
        """The captions of an image so far; the image is in this split from now on."""
        known = self._split_of.setdefault(image, split)
        if known != split:
            message = f"image {image!r} stands in the splits {known!r} and {split!r}"
            raise DataError(message, path=self.path, line=line)
        return self.splits.setdefault(split, {}).setdefault(image, [])

    def check(self, caption: str, image: str, *, line: int | None = None) -> str:
        """The caption; raises DataError where it is empty and must not be."""
        if not caption and not self.keep_empty:
            of = "the caption" if line is not None else "a caption"
            raise DataError(f"{of} of image {image!r} is empty", path=self.path, line=line)
        return caption

    def finish(self) -> Splits:
        for images in self.splits.values():
            for image, captions in images.items():
                if not captions:
                    raise DataError(f"image {image!r} has no caption", path=self.path)
        return {
            split: ImageCaptions(
                list(images), list(images.values()), origin=str(self.path), left_out=self.empty_lines
            )
            for split, images in self.splits.items()
        }


def read_tsv(path: str | Path, *, keep_empty: bool = False) -> Splits:
    """Read image<TAB>split<TAB>caption, or image<TAB>caption, one caption a line, plain or `.gz`.

    All lines have as many columns as the first. With two columns the only split is named "".

    Args:
        path: the file.
        keep_empty: an empty caption is an empty text, and a line that is empty as a whole is left out.

    Raises:
        MissingFileError: there is no such file.
        DataError: no lines, another number of columns, an empty cell, an image in two splits; names file and line.
    """
    path = Path(path)
    collector = _Collector(path, keep_empty)
    lines = list(enumerate(read_lines(path), start=1))
    if keep_empty:
        filled = [(number, line) for number, line in lines if line.strip()]
        collector.empty_lines, lines = len(lines) - len(filled), filled
    if not lines:
        raise DataError("the file has no lines", path=path)
    columns = len(lines[0][1].split("\t"))
    if columns not in (2, 3):
        message = f"a line must be image<TAB>split<TAB>caption or image<TAB>caption, got {columns} columns"
        raise DataError(message, path=path, line=lines[0][0])
    for number, line in lines:
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != columns:
            message = f"the line has {len(cells)} columns, the first one {columns}"
            raise DataError(message, path=path, line=number)
        image, split, caption = cells if columns == 3 else (cells[0], _ONE_SPLIT, cells[1])
        if not image or (columns == 3 and not split):
            raise DataError("the name of the image or of its split is empty", path=path, line=number)
        caption = collector.check(caption, image, line=number)
        collector.open(split, image, line=number).append(caption)
    return collector.finish()


def read_karpathy(path: str | Path, *, keep_empty: bool = False) -> Splits:
    """Read `dataset_*.json`: images[] with filename, split and sentences[], each with tokens or raw.

    The split "restval" counts as "train". The tokens, where a sentence has them, are preferred to its raw text.

    Raises:
        MissingFileError: there is no such file.
        DataError: not such JSON, an image twice or without caption, an empty caption; names file and image.
    """
    path = Path(path)
    collector = _Collector(path, keep_empty)
    seen: set[str] = set()
    for position, record in enumerate(_records(_read_json(path), "images", path)):
        image = _text(record, "filename", f"images[{position}]", path)
        split = _text(record, "split", f"image {image!r}", path)
        if image in seen:
            raise DataError(f"image {image!r} is there twice", path=path)
        seen.add(image)
        captions = collector.open("train" if split == "restval" else split, image)
        for sentence in _records(record, "sentences", path, of=f"image {image!r}"):
            captions.append(collector.check(_sentence(sentence, image, path), image))
    return collector.finish()


def _sentence(sentence: dict[str, Any], image: str, path: Path) -> str:
    tokens = sentence.get("tokens")
    if isinstance(tokens, list) and all(isinstance(token, str) for token in tokens):
        caption = " ".join(tokens)
    else:
        caption = _text(sentence, "raw", f"a sentence of image {image!r}", path)
    return " ".join(caption.split())


def read_coco(path: str | Path, *, keep_empty: bool = False) -> Splits:
    """Read COCO's caption annotations of one split: images[] (id, file_name), annotations[] (image_id, caption).

    The only split is named "".

    Raises:
        MissingFileError: there is no such file.
        DataError: not such JSON, an image twice or without caption, a caption of no image, an empty caption.
    """
    path = Path(path)
    whole = _read_json(path)
    collector = _Collector(path, keep_empty)
    names: dict[Any, str] = {}
    seen: set[str] = set()
    for position, record in enumerate(_records(whole, "images", path)):
        image = _text(record, "file_name", f"images[{position}]", path)
        key = _scalar(record, "id", f"image {image!r}", path)
        if image in seen or key in names:
            raise DataError(f"image {image!r} (id {key!r}) is there twice", path=path)
        seen.add(image)
        names[key] = image
        collector.open(_ONE_SPLIT, image)
    for position, record in enumerate(_records(whole, "annotations", path)):
        key = _scalar(record, "image_id", f"annotations[{position}]", path)
        if key not in names:
            raise DataError(f"annotations[{position}] is of image_id {key!r}, which is no image", path=path)
        caption = " ".join(_text(record, "caption", f"annotations[{position}]", path).split())
        collector.open(_ONE_SPLIT, names[key]).append(collector.check(caption, names[key]))
    return collector.finish()


_READERS = {"tsv": read_tsv, "karpathy": read_karpathy, "coco": read_coco}


def read_caption_splits(
    path: str | Path, names: Iterable[str], *, format: CaptionFormat = "tsv", keep_empty: bool = False
) -> list[ImageCaptions]:
    """The named splits of a caption file, or of a folder with `captions.tsv` or one file per split.

    Args:
        path: a file with all splits; or a folder with such a file (`captions.tsv`, or a single `dataset_*.json`),
            or with NAME.tsv, NAME.tsv.gz or NAME.json, as the format says, for each split.
        names: the splits wanted, in this order.
        format: "tsv", "karpathy", or "coco" (always one file per split).
        keep_empty: an empty caption is an empty text instead of an error.

    Raises:
        MissingFileError, DataError: see the readers; a split the file does not have names those it has; an image in
            two of the splits.
    """
    path, names = Path(path), list(names)
    if format not in _READERS:
        raise ValueError(f"format must be 'tsv', 'karpathy' or 'coco', got {format!r}")
    whole = path
    if path.is_dir():
        together = [path / "captions.tsv"] if format == "tsv" else sorted(path.glob("dataset_*.json"))
        whole = together[0] if format != "coco" and len(together) == 1 else path
        if not whole.is_file():
            return _read_files(path, names, format, keep_empty)
    splits = _READERS[format](whole, keep_empty=keep_empty)
    missing = [name for name in names if name not in splits]
    if missing:
        present = (
            ", ".join(repr(name) for name in splits) if set(splits) != {_ONE_SPLIT} else "one without a name"
        )
        raise DataError(f"there is no split {missing[0]!r}; present: {present}", path=whole)
    return [splits[name] for name in names]


def _read_files(
    folder: Path, names: list[str], format: CaptionFormat, keep_empty: bool
) -> list[ImageCaptions]:
    """One file per split."""
    found: list[ImageCaptions] = []
    split_of: dict[str, str] = {}
    for name in names:
        endings = (".tsv", ".tsv.gz") if format == "tsv" else (".json",)
        choices = [folder / f"{name}{ending}" for ending in endings]
        path = next((choice for choice in choices if choice.is_file()), choices[0])
        splits = _READERS[format](path, keep_empty=keep_empty)
        if len(splits) != 1:
            raise DataError(f"a file of one split holds {len(splits)} splits: {', '.join(splits)}", path=path)
        (split,) = splits.values()
        for image in split.images:
            if split_of.setdefault(image, name) != name:
                message = f"image {image!r} stands in the splits {split_of[image]!r} and {name!r}"
                raise DataError(message, path=path)
        found.append(split)
    return found


def _read_json(path: Path) -> dict[str, Any]:
    whole = read_json(path)
    if not isinstance(whole, dict):
        raise DataError("the JSON file must hold an object", path=path)
    return whole


def _records(holder: dict[str, Any], key: str, path: Path, *, of: str = "the file") -> list[dict[str, Any]]:
    records = holder.get(key)
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(f"{of} must have {key!r}, a list of objects", path=path)
    return records


def _text(record: dict[str, Any], key: str, of: str, path: Path) -> str:
    value = record.get(key)
    if not isinstance(value, str) or (not value and key in ("filename", "file_name", "split")):
        raise DataError(f"{of} must have a text {key!r}, got {value!r}", path=path)
    return value


def _scalar(record: dict[str, Any], key: str, of: str, path: Path) -> int | str:
    value = record.get(key)
    if not isinstance(value, (int, str)):
        raise DataError(f"{of} must have {key!r}, a number or a text, got {value!r}", path=path)
    return value
