"""`softbellman captions extract ...`, `softbellman captions scenes ...` and `softbellman captions sheet ...`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from softbellman.cli import captions_scenes, captions_sheet
from softbellman.cli.common import Parser, positive

DESCRIPTION = """\
Captioning data and what became of it. `extract` writes the features of a folder of images. `scenes`
writes generated pictures with captions. `sheet` draws photographs of the test set with captions.
"""

EXTRACT = """\
Writes the features of all images of a folder, by an image network of torchvision or timm (extra
[caption]). FILE.npy holds the mean over the grid, [N, F], or with --grid the grid itself, [N, G,
F]; FILE.names.txt stands beside it. An interrupted extraction continues when it is started again in
the same way.

--weights names a file with the network's state dict (.pth, .safetensors). `download` takes the
library's own weights; nothing is downloaded without that word. `none` takes random ones, which are
of use for tests alone.

examples:
  softbellman captions extract --images flickr8k/images --encoder resnet101 \\
      --weights resnet101.pth --output flickr8k/features.npy
  softbellman captions extract --images flickr8k/images --encoder timm:efficientnet_lite0 \\
      --weights download --output flickr8k/features.npy
"""


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(prog="softbellman captions", description=DESCRIPTION)
    actions = parser.add_subparsers(metavar="ACTION", required=True, title="actions")
    extract = actions.add_parser("extract", description=EXTRACT, help="image features from pixels")
    extract.set_defaults(act=_extract)
    add_extract_options(extract)
    scenes = actions.add_parser(
        "scenes", description=captions_scenes.DESCRIPTION, help="generated pictures with their captions"
    )
    scenes.set_defaults(act=captions_scenes.write)
    captions_scenes.add_options(scenes)
    sheet = actions.add_parser(
        "sheet", description=captions_sheet.DESCRIPTION, help="a picture of photographs and their captions"
    )
    sheet.set_defaults(act=captions_sheet.draw)
    captions_sheet.add_options(sheet)
    return parser


def add_extract_options(parser: Parser) -> None:
    """The options of extract."""
    parser.add_argument("--images", metavar="DIR", type=Path, required=True, help="folder of images")
    parser.add_argument(
        "--encoder", metavar="NAME", required=True,
        help="resnet18 ... resnet152, efficientnet_b0 ... of torchvision, or timm:NAME",
    )  # fmt: skip
    parser.add_argument(
        "--weights", metavar="FILE", required=True,
        help="the network's weights; or download: the library's own; or none: random",
    )  # fmt: skip
    parser.add_argument("--output", metavar="FILE", type=Path, required=True, help="the .npy file to write")
    parser.add_argument("--grid", action="store_true", help="all grid positions instead of their mean")
    parser.add_argument("--size", metavar="N", type=positive, default=224, help="pixels a side")
    parser.add_argument("--batch-size", metavar="N", type=positive, default=16, help="images together")
    parser.add_argument(
        "--skip-broken", action="store_true", help="name images that cannot be read and leave them out"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... or auto")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def command(arguments: Sequence[str]) -> int:
    """Parses the arguments and does what they say."""
    options = build_parser().parse_args(arguments)
    return int(options.act(options))


def _extract(options: Any) -> int:
    from softbellman.core.devices import choose_device
    from softbellman.data.captions.encoder import ImageEncoder, weights_digest
    from softbellman.data.captions.extract import extract_features, list_images
    from softbellman.report import Progress

    weights = None if options.weights == "none" else options.weights
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
            identity=f"{options.encoder} {weights_digest(encoder)}",
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
