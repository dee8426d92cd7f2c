"""`softbellman captions extract --images DIR --encoder NAME --weights FILE --output FILE.npy`; `... captions scenes`."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from softbellman.cli import scenes
from softbellman.cli.common import Parser, positive

DESCRIPTION = """\
Prepares captioning data. `extract` writes the features of all images of a folder, by an image
network of torchvision (extra [caption]), as FILE.npy with FILE.names.txt beside it: the mean over
the grid, [N, F], or with --grid the grid itself, [N, G, F]. An interrupted extraction continues
when it is started again in the same way.

Nothing is downloaded: --weights names a file with the network's state dict (.pth, .safetensors),
or is `none` for random weights, which are of use for tests alone.

`scenes` writes generated pictures with their captions; softbellman captions scenes --help explains.

example:
  softbellman captions extract --images flickr8k/images --encoder resnet101 \\
      --weights resnet101.pth --output flickr8k/features.npy
"""


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(prog="softbellman captions", description=DESCRIPTION)
    parser.add_argument(
        "action", choices=["extract"], metavar="extract", help="what to do: extract, or scenes"
    )
    parser.add_argument("--images", metavar="DIR", type=Path, required=True, help="folder of images")
    parser.add_argument(
        "--encoder", metavar="NAME", required=True, help="resnet18 ... resnet152, efficientnet_b0 ..."
    )
    parser.add_argument(
        "--weights", metavar="FILE", required=True, help="the network's weights, or none: random"
    )
    parser.add_argument("--output", metavar="FILE", type=Path, required=True, help="the .npy file to write")
    parser.add_argument("--grid", action="store_true", help="all grid positions instead of their mean")
    parser.add_argument("--size", metavar="N", type=positive, default=224, help="pixels a side")
    parser.add_argument("--batch-size", metavar="N", type=positive, default=16, help="images together")
    parser.add_argument(
        "--skip-broken", action="store_true", help="name images that cannot be read and leave them out"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... or auto")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    return parser


def command(arguments: Sequence[str]) -> int:
    """Parses the arguments and extracts."""
    if arguments and arguments[0] == "scenes":
        return scenes.command(arguments[1:])
    options = build_parser().parse_args(arguments)

    from softbellman.data.captions.encoder import ImageEncoder
    from softbellman.data.captions.extract import extract_features, list_images
    from softbellman.training.reporting import Progress
    from softbellman.training.task import choose_device

    weights = None if options.weights == "none" else Path(options.weights)
    total = len(list_images(options.images))
    encoder = ImageEncoder(options.encoder, weights, grid=options.grid)
    if weights is None:
        print(
            f"softbellman: {options.encoder} has random weights (--weights none): the features mean nothing",
            file=sys.stderr,
        )
    progress = Progress(quiet=options.quiet, out=sys.stderr)
    with progress.count("extract", total, unit="image") as bar:
        done = extract_features(
            options.images,
            options.output,
            encoder,
            identity=f"{options.encoder} {_digest(weights)}",
            size=options.size,
            batch_size=options.batch_size,
            skip_broken=options.skip_broken,
            device=choose_device(options.device),
            advance=bar.update,
        )
    for name in done.broken:
        print(f"softbellman: skipped {name}: it cannot be read", file=sys.stderr)
    print(f"{done.count} images: {done.features}, {done.names}")
    return 0


def _digest(weights: Path | None) -> str:
    """Hash of the weights' file; of none, the word random."""
    if weights is None:
        return "random"
    digest = hashlib.sha256()
    with open(weights, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
