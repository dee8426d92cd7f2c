"""Generated corpora as files that `load_splits` and `read_caption_splits` read.

What is there already is never changed: an export that is repeated finds its own files, and other files are an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from softbellman.data.builtin import Split
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
        DataError: two names are the same, or other files are in the way; names the first.
    """
    if len(set(names.values())) < len(names) or source == target:
        raise DataError("the splits and the two sides need names of their own", path=directory)
    files: dict[str, str] = {}
    for split, name in names.items():
        files |= splits[split].files(name, source=source, target=target)
    folder = Path(directory)
    sides = "|".join(re.escape(f"{name}.{side}") for name in names.values() for side in (source, target))
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if re.fullmatch(rf"({sides})\d*(\.gz)?", path.name) and path.name not in files:
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
        DataError: another table is there.
    """
    folder = Path(directory)
    table = "".join(captions_table(splits[split], name) for split, name in names.items())
    write_new(folder, {"captions.tsv": table})
    for split in names:
        write_pictures(splits[split], folder)
    return folder / "captions.tsv"


def write_new(folder: Path, files: Mapping[str, str]) -> None:
    """Write text files by their names; raises DataError, before anything is written, where one is there with other content."""
    contents = {folder / name: text.encode() for name, text in files.items()}
    for path, content in contents.items():
        if path.exists() and path.read_bytes() != content:
            raise DataError("the file exists with other content; name another folder", path=path)
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in contents.items():
        path.write_bytes(content)
