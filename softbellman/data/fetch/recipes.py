"""From the files that were downloaded to those that a run reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from softbellman.data.errors import DataError
from softbellman.data.fetch import iwslt14
from softbellman.data.fetch.sources import Source

Advance = Callable[[int], object]
Contents = Mapping[str, bytes]
"""Contents by name: of the downloads that are no archives, and of the archives' members."""


@dataclass(frozen=True)
class Recipe:
    """How a corpus is prepared.

    Attributes:
        prepare: makes the files of the corpus; told the source, the contents, and what to call with the lines that are done.
        check: raises ImportError where something that it needs is not installed.
    """

    prepare: Callable[[Source, Contents, Advance], dict[str, bytes]]
    check: Callable[[], object] = lambda: None


def copy(source: Source, contents: Contents, advance: Advance) -> dict[str, bytes]:
    """The files as they are, under the names that settings know."""
    return {file.becomes: contents[file.name] for file in source.files}


def flickr8k(source: Source, contents: Contents, advance: Advance) -> dict[str, bytes]:
    """`captions.tsv`: image, split and caption between tabs, in the order of the published captions.

    Raises:
        DataError: a line that is no caption, or an image of a split without one; names the file.
    """
    splits: dict[str, str] = {}
    for split, name in (("train", "train"), ("val", "dev"), ("test", "test")):
        for image in contents[f"Flickr_8k.{name}Images.txt"].decode().split():
            splits[image] = split
    lines, told = [], set()
    for number, line in enumerate(contents["Flickr8k.token.txt"].decode().splitlines(), start=1):
        label, tab, caption = line.partition("\t")
        image = label.rpartition("#")[0]
        if not (tab and image):
            raise DataError("the line is no caption", path="Flickr8k.token.txt", line=number)
        if image in splits:  # 92 photographs are in no split
            lines.append(f"{image}\t{splits[image]}\t{caption}\n")
            told.add(image)
        advance(1)
    if missing := splits.keys() - told:
        raise DataError(f"image {min(missing)!r} has no caption", path="Flickr8k.token.txt")
    return {"captions.tsv": "".join(lines).encode()}


RECIPES: dict[str, Recipe] = {
    "copy": Recipe(copy),
    "flickr8k": Recipe(flickr8k),
    "iwslt14": Recipe(
        lambda source, contents, advance: iwslt14.prepare(contents, advance=advance),
        check=lambda: iwslt14.moses("en"),
    ),
}
"""The recipes that the table can name."""
