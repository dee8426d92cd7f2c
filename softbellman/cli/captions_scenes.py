"""`softbellman captions scenes --output DIR --count 20`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from softbellman.cli.common import UserError, finite, positive

DESCRIPTION = """\
Writes generated scenes as PNG files with their captions: DIR/captions.tsv has image, split and
caption between tabs, five lines an image. They are the first ones of a split that
`softbellman-train --data.kind scenes` reads with the same seed and difficulty. A run on scenes
captions them: softbellman caption RUN DIR/*.png

examples:
  softbellman captions scenes --output scenes --count 20
  softbellman captions scenes --output scenes --count 12 --sheet sheet.png
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of scenes."""
    parser.add_argument("--output", metavar="DIR", type=Path, required=True, help="folder to write into")
    parser.add_argument("--count", metavar="N", type=positive, default=20, help="scenes")
    parser.add_argument("--split", choices=["train", "dev", "test"], default="test", help="of which split")
    parser.add_argument("--seed", metavar="N", type=int, default=1, help="data.seed of the run")
    parser.add_argument(
        "--difficulty", metavar="X", type=finite, default=3.0, help="data.difficulty of the run"
    )
    parser.add_argument(
        "--size", metavar="N", type=positive, default=48, help="pixels a side: 32, 48, 64 or 96"
    )
    parser.add_argument(
        "--sheet", metavar="FILE", type=Path, help="also one PNG file of all scenes with their captions"
    )


def write(options: Any) -> int:
    """Writes the files."""
    from softbellman.data.scenes.figure import draw_sheet
    from softbellman.data.scenes.files import write_scenes
    from softbellman.data.scenes.generator import generate_split

    if (options.output / "captions.tsv").exists():
        raise UserError(f"{options.output / 'captions.tsv'} exists already; name another folder")
    split = generate_split(
        options.split, seed=options.seed, count=options.count, difficulty=options.difficulty
    )
    captions = write_scenes(split, options.output, name=options.split, side=options.size)
    print(f"{len(split)} images in {options.output}, {captions}")
    if options.sheet is not None:
        draw_sheet(split, options.sheet)
        print(f"sheet: {options.sheet}")
    return 0
