"""`softbellman caption RUN --features FILE.npy [image names...]`, or `softbellman caption RUN image.png`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softbellman.cli.common import Parser, UserError, positive
from softbellman.cli.decoding import Writer, add_decoding_options, chosen_decoding, open_actor

if TYPE_CHECKING:
    from torch import Tensor

    from softbellman.training import TrainedActor

    Reader = Callable[[TrainedActor, Any, int], tuple[list[str], Iterator[Tensor]]]

DESCRIPTION = """\
Captions images with the actor of a run: one line for each, its name, a tab and the caption.

With --features the images are names within that file (all of it where none is named). Without, they
are image files, read by the network that made the run's features (needs the extra [caption]). The
run's settings data.encoder and data.encoder_weights name it, or --encoder and --weights do. A run
on scenes (data.kind: scenes) reads pixels itself: image files are all it takes.

With --nbest or --samples each hypothesis is a line: name, score and caption between tabs. The score
of a search is the log-probability over the length penalty; of a draw it is the log-probability
under the distribution drawn from.

examples:
  softbellman caption runs/erac-20260101-120000 --features features.npy > captions.tsv
  softbellman caption runs/erac-20260101-120000 --features features.npy 1000268201.jpg
  softbellman caption runs/erac-20260101-120000 holiday.jpg --weights resnet101.pth
  softbellman caption runs/erac-20260101-120000 scenes/*.png
  softbellman caption runs/erac scenes/*.png --samples 5 --top-p 0.9 --block-ngrams 3
"""


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(
        prog="softbellman caption", usage="%(prog)s RUN [IMAGE ...] [OPTION ...]", description=DESCRIPTION
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder")
    parser.add_argument("images", metavar="IMAGE", nargs="*", help="names in the features, or image files")
    parser.add_argument("--features", metavar="FILE", type=Path, help=".npy or .safetensors")
    parser.add_argument(
        "--names",
        metavar="FILE",
        type=Path,
        help="names of the features, one a line (default: STEM.names.txt)",
    )
    parser.add_argument("--encoder", metavar="NAME", help="image network (default: the run's)")
    parser.add_argument(
        "--weights", metavar="FILE",
        help="its weights; or download: the library's own; or none: random (default: the run's)",
    )  # fmt: skip
    parser.add_argument("--size", metavar="N", type=positive, help="pixels a side (default: 224)")
    add_decoding_options(parser, unit="image", text=False)
    return parser


def command(arguments: Sequence[str]) -> int:
    """Parses the arguments and captions."""
    options = build_parser().parse_intermixed_args(arguments)  # images may stand behind options

    from softbellman.report import Progress
    from softbellman.training.translation import captions

    actor = open_actor(options)
    if actor.features is None:
        place = shlex.quote(str(options.run))
        raise UserError(f"{options.run} translates text; softbellman translate {place} does that")
    how = chosen_decoding(actor, options)
    names, batches = _choose_reader(actor, options)(actor, options, how.batch_size)
    for name in names:
        if any(mark in name for mark in "\t\n\r"):
            raise UserError(f"the image name {name!r} holds a tab or a line break, which parts the output")
    writer = Writer(how, options.attention)
    progress = Progress(quiet=options.quiet, out=sys.stderr)
    with progress.count("caption", len(names), unit="image") as bar:
        for name, group in zip(names, captions(actor, batches, how), strict=True):
            text = writer.lines(name, group, named=True)
            sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))  # of a file name
            bar.update(1)
            sys.stdout.buffer.flush()
    return 0


def _choose_reader(actor: TrainedActor, options: Any) -> Reader:
    """How images become what the run's actor reads."""
    from softbellman.data import PixelSpec

    if not isinstance(actor.features, PixelSpec):
        if options.features is None and not options.images:
            raise UserError("name --features FILE, or image files")
        return _through_network if options.features is None else _from_features
    for name in ("features", "names", "encoder", "weights", "size"):
        if getattr(options, name) is not None:
            raise UserError(f"{options.run} reads image files itself, without --{name}")
    if not options.images:
        raise UserError(f"{options.run} reads pixels: name image files")
    return _from_files


def _from_files(actor: TrainedActor, options: Any, size: int) -> tuple[list[str], Iterator[Tensor]]:
    """The files' names and their pixels in batches."""
    from softbellman.training.images import image_batches

    return list(options.images), image_batches(actor, options.images, size)


def _from_features(actor: TrainedActor, options: Any, size: int) -> tuple[list[str], Iterator[Tensor]]:
    """The images' names and their features in batches, from a file."""
    from softbellman.data import FeatureSpec, ImageFeatures

    assert isinstance(actor.features, FeatureSpec)
    opened = ImageFeatures.open(options.features, options.names)
    actor.features.check(opened.spec, origin=opened.origin)
    names = options.images or opened.names
    rows = opened.rows(names)
    return names, (opened.gather(rows[start : start + size]) for start in range(0, len(rows), size))


def _through_network(actor: TrainedActor, options: Any, size: int) -> tuple[list[str], Iterator[Tensor]]:
    """The files' names and their features in batches, by the image network."""
    from softbellman.training.images import PHOTO_SIDE, image_batches

    data = actor.settings.data
    name, weights = options.encoder or data.encoder, options.weights or data.encoder_weights
    if not name or not weights:
        missing = "--encoder" if not name else "--weights"
        raise UserError(f"the run does not say which image network made its features; give {missing}")
    side = options.size or PHOTO_SIDE
    return list(options.images), image_batches(
        actor, options.images, size, encoder=name, weights=weights, size=side
    )
