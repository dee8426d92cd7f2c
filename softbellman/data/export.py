"""Generated corpora as files that `load_splits` and `read_caption_splits` read.

What is there already is never changed: an export that is repeated finds its own files, and other files are an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from softbellman.core.files import write_atomically
from softbellman.data.builtin import Split
from softbellman.data.dataset import side_files
from softbellman.data.errors import DataError
from softbellman.data.scenes.files import captions_table, write_pictures
from softbellman.data.scenes.generator import SceneSplit

NAMES = {"train": "train", "dev": "val", "test": "test"}
"""The splits' names in files."""


def export_builtin(
    splits: Mapping[str, Split],
    directory: str | Path,
    *,
    names: Mapping[str, str] = NAMES,
    source: str = "de",
    target: str = "en",
) -> list[str]:
    """Write the built-in corpus as parallel text.

    Args:
        splits: of `generate_builtin`.
        directory: made where it does not exist.
        names: of the splits, for the file names.
        source, target: endings of the two sides.

    Returns:
        The names of the files.

    Raises:
        DataError: two names are the same, a name is none of a file in the folder, or other files are in the way; names the
            first.
    """
    _check_names([*names.values(), source, target], directory)
    if len(set(names.values())) < len(names) or source == target:
        raise DataError("the splits and the two sides need names of their own", path=directory)
    files: dict[str, str] = {}
    for split, name in names.items():
        files |= splits[split].files(name, source=source, target=target)
    folder = Path(directory)
    sides = [f"{name}.{side}" for name in names.values() for side in (source, target)]
    for path in (path for side in sides for path in side_files(folder / side)):
        if path.name not in files:
            raise DataError(
                "the file would be read with those that are written; name another folder", path=path
            )
    write_new(folder, files)
    return list(files)


def export_scenes(
    splits: Mapping[str, SceneSplit], directory: str | Path, *, names: Mapping[str, str] = NAMES
) -> Path:
    """Write all scenes as PNG files beside one table of their captions.

    Args:
        splits: of `generate_scenes`.
        directory: made where it does not exist.
        names: of the splits, for the table.

    Returns:
        Path of the table.

    Raises:
        DataError: another table is there, or a split's name that its lines cannot hold.
    """
    _check_names(names.values(), directory)
    folder = Path(directory)
    table = "".join(captions_table(splits[split], name) for split, name in names.items())
    write_new(folder, {"captions.tsv": table})
    for split in names:
        write_pictures(splits[split], folder)
    return folder / "captions.tsv"


def _check_names(names: Iterable[str], directory: str | Path) -> None:
    """Raises DataError where a split or a side has a name that leads out of the folder, or that parts lines or columns."""
    for name in names:
        if name in ("", ".", "..") or any(mark in name for mark in "/\\\0\t\n\r"):
            raise DataError(
                f"{name!r} cannot be the name of a split or a side: names are parts of file names, without slashes",
                path=directory,
            )


def write_new(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files by their names; raises DataError, before anything is written, where one is there with other content."""
    contents = {
        folder / name: text.encode() if isinstance(text, str) else text for name, text in files.items()
    }
    for path, content in contents.items():
        if path.exists() and path.read_bytes() != content:
            raise DataError("the file exists with other content; name another folder", path=path)
    for path, content in contents.items():
        write_atomically(path, content)
