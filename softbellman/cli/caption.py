"""`softbellman caption RUN --features FILE.npy [image names...]`, or `softbellman caption RUN image.png`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softbellman.cli.common import Parser, UserError, positive

if TYPE_CHECKING:
    from torch import Tensor

    from softbellman.training import TrainedActor

    Reader = Callable[[TrainedActor, Any], tuple[list[str], Iterator[Tensor]]]

DESCRIPTION = """\
Captions images with the actor of a run: one line for each, its name, a tab and the caption.

With --features the images are names within that file (all of it where none is named). Without, they
are image files, read by the network that made the run's features (needs the extra [caption]). The
run's settings data.encoder and data.encoder_weights name it, or --encoder and --weights do. A run
on scenes (data.kind: scenes) reads pixels itself: image files are all it takes.

examples:
  softbellman caption runs/erac-20260101-120000 --features features.npy > captions.tsv
  softbellman caption runs/erac-20260101-120000 --features features.npy 1000268201.jpg
  softbellman caption runs/erac-20260101-120000 holiday.jpg --weights resnet101.pth
  softbellman caption runs/erac-20260101-120000 scenes/*.png
"""


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(prog="softbellman caption", description=DESCRIPTION)
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
    parser.add_argument(
        "--checkpoint", metavar="NAME", default="best",
        help="best or last of the final stage, or a stage: actor, joint, actor-last, ...",
    )  # fmt: skip
    parser.add_argument(
        "--beam", metavar="N", type=positive, help="beam size (default: the run's); 1 is greedy"
    )
    parser.add_argument(
        "--batch-size", metavar="N", type=positive, help="images captioned together (default: the run's)"
    )
    parser.add_argument(
        "--max-length", metavar="N", type=positive, help="longest caption in tokens (default: the run's)"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... or auto")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    return parser


def command(arguments: Sequence[str]) -> int:
    """Parses the arguments and captions."""
    options = build_parser().parse_intermixed_args(arguments)  # images may stand behind options

    from softbellman.report import Progress
    from softbellman.training import load_run

    actor = load_run(options.run, checkpoint=options.checkpoint, device=options.device)
    if actor.features is None:
        raise UserError(f"{options.run} translates text; softbellman translate {options.run} does that")
    names, batches = _choose_reader(actor, options)(actor, options)
    for name in names:
        if any(mark in name for mark in "\t\n\r"):
            raise UserError(f"the image name {name!r} holds a tab or a line break, which parts the output")
    progress = Progress(quiet=options.quiet, out=sys.stderr)
    with progress.count("caption", len(names), unit="image") as bar:
        lines = iter(names)
        for features in batches:
            for caption in caption_features(
                actor, features, beam=options.beam, max_length=options.max_length
            ):
                line = f"{next(lines)}\t{caption}\n"
                sys.stdout.buffer.write(line.encode("utf-8", "surrogateescape"))  # of a file name
                bar.update(1)
            sys.stdout.buffer.flush()
    return 0


def caption_features(
    actor: TrainedActor, features: Tensor, *, beam: int | None = None, max_length: int | None = None
) -> list[str]:
    """Captions of B images from their features [B, F] or [B, G, F], or pixels; beam and length default to the run's."""
    import torch

    from softbellman.decoding import beam_search

    evaluation = actor.settings.evaluation
    with torch.inference_mode():
        found = beam_search(
            actor.model,
            features.to(next(actor.model.parameters()).device),
            beam=beam or evaluation.beam,
            max_length=max_length or evaluation.max_length,
            length_penalty=evaluation.length_penalty,
        )
    return [actor.target_codec.decode(tokens) for tokens in found.tokens.tolist()]


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


def _from_files(actor: TrainedActor, options: Any) -> tuple[list[str], Iterator[Tensor]]:
    """The files' names and their pixels in batches."""
    import torch

    from softbellman.data import PixelSpec, read_pixels

    spec, files = actor.features, options.images
    assert isinstance(spec, PixelSpec)
    size = options.batch_size or actor.settings.evaluation.batch_size
    batches = (
        torch.stack([read_pixels(path, side=spec.side) for path in files[start : start + size]])
        for start in range(0, len(files), size)
    )
    return list(files), batches


def _from_features(actor: TrainedActor, options: Any) -> tuple[list[str], Iterator[Tensor]]:
    """The images' names and their features in batches, from a file."""
    from softbellman.data import FeatureSpec, ImageFeatures

    assert isinstance(actor.features, FeatureSpec)
    opened = ImageFeatures.open(options.features, options.names)
    actor.features.check(opened.spec, origin=opened.origin)
    names = options.images or opened.names
    rows = opened.rows(names)
    size = options.batch_size or actor.settings.evaluation.batch_size
    return names, (opened.gather(rows[start : start + size]) for start in range(0, len(rows), size))


def _through_network(actor: TrainedActor, options: Any) -> tuple[list[str], Iterator[Tensor]]:
    """The files' names and their features in batches, by the image network."""
    import torch

    from softbellman.data import FeatureSpec
    from softbellman.data.captions.encoder import ImageEncoder, read_image

    spec, data = actor.features, actor.settings.data
    assert isinstance(spec, FeatureSpec)
    name, weights = options.encoder or data.encoder, options.weights or data.encoder_weights
    if not name or not weights:
        missing = "--encoder" if not name else "--weights"
        raise UserError(f"the run does not say which image network made its features; give {missing}")
    encoder = ImageEncoder(name, None if weights == "none" else weights, grid=bool(spec.positions))
    size = options.batch_size or actor.settings.evaluation.batch_size

    def batches() -> Iterator[Tensor]:
        for start in range(0, len(options.images), size):
            pixels = [
                read_image(path, size=options.size or 224) for path in options.images[start : start + size]
            ]
            with torch.inference_mode():
                features = encoder(torch.stack(pixels))
            found = FeatureSpec(features.shape[-1], features.shape[1] if features.dim() == 3 else 0)
            spec.check(found, origin=name)
            yield features

    return list(options.images), batches()
