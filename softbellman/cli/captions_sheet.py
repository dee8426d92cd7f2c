"""`softbellman captions sheet RUN [RUN ...] --images DIR --output sheet.png`."""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

from softbellman.cli.common import UserError, positive

DESCRIPTION = """\
Draws photographs of the test set, each with its reference captions and the captions of every run.
Those are of the run's final system and of the maximum likelihood it started from. Captions come
from the run's hypotheses, or are decoded anew where these are not there.

examples:
  softbellman captions sheet runs/erac --images flickr8k/images --output sheet.png
  softbellman captions sheet runs/erac runs/raml --images DIR --pick random --seed 3 --bleu \\
      --output sheet.pdf
  softbellman captions sheet runs/erac --images DIR --pick a.jpg b.jpg --output sheet.png
"""

DEFAULT_COUNT = 10


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of sheet."""
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folders of image captions")
    parser.add_argument("--images", metavar="DIR", type=Path, required=True, help="folder of the photographs")
    parser.add_argument(
        "--output", metavar="FILE", type=Path, required=True, help="the picture: .png, .pdf or .svg"
    )
    parser.add_argument(
        "--count",
        metavar="N",
        type=positive,
        help=f"photographs of first and random (default: {DEFAULT_COUNT})",
    )
    parser.add_argument(
        "--pick", metavar="HOW", nargs="+", default=["first"],
        help="first, random, or the names of test images (default: first)",
    )  # fmt: skip
    parser.add_argument("--seed", metavar="N", type=int, help="of random (default: 1)")
    parser.add_argument(
        "--references", metavar="N", type=positive, default=2, help="reference captions a photograph, at most"
    )
    parser.add_argument(
        "--bleu", action="store_true", help="sentence BLEU (0 to 100, add-k) beside each caption"
    )
    parser.add_argument(
        "--checkpoint", choices=["best", "last"], default="best",
        help="weights of the final systems: the selected ones, which may be the start's, or the last (default: best)",
    )  # fmt: skip
    parser.add_argument("--columns", metavar="N", type=positive, default=2, help="photographs side by side")


def draw(options: Any) -> int:
    """Chooses the images, gathers the captions, draws the picture."""
    from softbellman.experiments.captioned import caption_images, read_test_set
    from softbellman.report.paper import FORMATS
    from softbellman.report.sheet import draw_sheet

    if options.output.suffix.lower() not in FORMATS:
        raise UserError(f"--output must end in {', '.join(FORMATS)}, given {options.output}")
    if not options.images.is_dir():
        raise UserError(f"--images: {options.images} is not a folder")
    names = choose(read_test_set(options.runs).names, options)
    entries = caption_images(options.runs, names, bleu=options.bleu, last=options.checkpoint == "last")
    draw_sheet(
        entries, options.images, options.output, references=options.references, columns=options.columns
    )
    print(f"{len(entries)} images: {options.output}")
    return 0


def choose(names: list[str], options: Any) -> list[str]:
    """The images to show: the first, some drawn by --seed (in the order of the test set), or those named."""
    how = options.pick[0] if len(options.pick) == 1 else ""
    if options.seed is not None and how != "random":
        raise UserError("--seed is for --pick random")
    if how not in ("first", "random"):
        if options.count is not None:
            raise UserError("--count is for --pick first and --pick random; names are their own count")
        return list(dict.fromkeys(options.pick))
    count = DEFAULT_COUNT if options.count is None else options.count
    if options.count is None:
        count = min(count, len(names))
    if count > len(names):
        raise UserError(f"--count {count}: the test set has {len(names)} images")
    if how == "first":
        return names[:count]
    drawn = random.Random(1 if options.seed is None else options.seed).sample(range(len(names)), count)
    return [names[row] for row in sorted(drawn)]
