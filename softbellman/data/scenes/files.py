"""Scenes as files: PNG pictures and a table of captions, as `data.kind: captions` reads tables."""

from __future__ import annotations

from pathlib import Path

from softbellman.core.files import replacing, write_atomically
from softbellman.data.scenes.generator import SceneSplit
from softbellman.data.scenes.render import SIDE, render


def write_scenes(split: SceneSplit, directory: str | Path, *, name: str, side: int = SIDE) -> Path:
    """Write NAME.png for each scene and captions.tsv: image, split and caption between tabs.

    Args:
        split: what is written.
        directory: made where it does not exist.
        name: of the split, for the table.
        side: pixels a side, see `render`.

    Returns:
        Path of the table.
    """
    write_pictures(split, directory, side=side)
    table = Path(directory) / "captions.tsv"
    write_atomically(table, captions_table(split, name).encode())
    return table


def write_pictures(split: SceneSplit, directory: str | Path, *, side: int = SIDE) -> None:
    """Write NAME.png for each scene, see `render`."""
    from matplotlib.image import imsave

    folder = Path(directory)
    for image, scene in zip(split.names, split.scenes, strict=True):
        with replacing(folder / image) as temporary:
            imsave(temporary, render(scene, side=side), format="png")


def captions_table(split: SceneSplit, name: str) -> str:
    """A line for each caption: image, `name` of the split and caption between tabs."""
    return "".join(
        f"{image}\t{name}\t{caption}\n"
        for image, captions in zip(split.names, split.captions, strict=True)
        for caption in captions
    )
