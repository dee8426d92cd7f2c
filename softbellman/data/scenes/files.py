"""Scenes as files: PNG pictures and a table of captions, as `data.kind: captions` reads tables."""

from __future__ import annotations

from pathlib import Path

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
    from matplotlib.image import imsave

    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for image, scene, captions in zip(split.names, split.scenes, split.captions, strict=True):
        imsave(folder / image, render(scene, side=side))
        lines += [f"{image}\t{name}\t{caption}\n" for caption in captions]
    table = folder / "captions.tsv"
    table.write_text("".join(lines), encoding="utf-8", newline="\n")
    return table
