"""`softbellman data fetch`, `softbellman data list` and `softbellman data export`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from softbellman.cli import data_fetch
from softbellman.cli.common import Parser, finite
from softbellman.training.settings import DataSettings

DESCRIPTION = """\
Corpora as files. `fetch` downloads public ones and prepares them, `list` says which, with licence
and citation. `export` writes generated ones.
"""

EXPORT = """\
Generated corpora as files. `export builtin` writes the text that `data.kind: builtin` trains on,
`export scenes` the pictures and captions of `data.kind: scenes`.
"""

BUILTIN = """\
Writes the built-in corpus as text files: train.de, train.en, val.de, val.en0, val.en1, ... A
sentence with fewer references than others has empty lines in the later files. Training on them is
training on the built-in corpus. The options are those of the data settings.

examples:
  softbellman data export builtin corpus --pairs 2000
  softbellman-train --data.kind parallel --data.path corpus
"""

SCENES = """\
Writes the scenes of all three splits: a PNG file for each, and captions.tsv with image, split and
caption between tabs. `data.kind: captions` reads the table, the commands below read the pictures.
The options are those of the data settings.

examples:
  softbellman data export scenes pictures --pairs 200
  softbellman caption runs/erac-20260101-120000 pictures/test-*.png
  softbellman captions extract --images pictures --encoder resnet18 --weights download \\
      --output pictures/features.npy
"""


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(prog="softbellman data", description=DESCRIPTION)
    actions = parser.add_subparsers(metavar="ACTION", required=True, title="actions")
    fetch = actions.add_parser(
        "fetch", description=data_fetch.FETCH, help="a public corpus, downloaded and prepared"
    )
    fetch.set_defaults(act=data_fetch.run)
    data_fetch.add_options(fetch)
    known = actions.add_parser(
        "list", description=data_fetch.LIST, help="the public corpora, with their licences"
    )
    known.set_defaults(act=data_fetch.show)
    data_fetch.add_list_options(known)
    export = actions.add_parser("export", description=EXPORT, help="generated corpora as files")
    kinds = export.add_subparsers(metavar="KIND", required=True, title="kinds")
    builtin = kinds.add_parser("builtin", description=BUILTIN, help="the translation corpus as text")
    builtin.set_defaults(act=_export_builtin)
    add_options(builtin, "pairs")
    for name in ("source", "target"):
        add_setting(builtin, name, str, f"ending of the {name} files")
    scenes = kinds.add_parser("scenes", description=SCENES, help="pictures with captions")
    scenes.set_defaults(act=_export_scenes)
    add_options(scenes, "images")
    return parser


def add_options(parser: argparse.ArgumentParser, unit: str) -> None:
    """Folder, size, seed, difficulty and names of the splits."""
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder to write into")
    add_setting(parser, "seed", int, "decides the corpus")
    add_setting(parser, "pairs", int, f"training {unit}")
    add_setting(parser, "dev_pairs", int, f"validation {unit}")
    add_setting(parser, "test_pairs", int, f"test {unit}")
    add_setting(parser, "difficulty", finite, "1 to 5")
    for name in ("train", "dev", "test"):
        add_setting(parser, name, str, f"name of the {name} split")


def add_setting(parser: argparse.ArgumentParser, name: str, kind: Callable[[str], object], text: str) -> None:
    """An option with the name and the default of a data setting."""
    parser.add_argument(
        f"--{name}", metavar={int: "N", finite: "X"}.get(kind, "NAME"), type=kind,
        default=getattr(DataSettings, name), help=text,
    )  # fmt: skip


def command(arguments: Sequence[str]) -> int:
    """Parses the arguments and writes the files."""
    options = build_parser().parse_args(arguments)
    return int(options.act(options))


def _export_builtin(options: Any) -> int:
    from softbellman.data import export_builtin, generate_builtin

    splits = generate_builtin(
        seed=options.seed,
        pairs=options.pairs,
        dev_pairs=options.dev_pairs,
        test_pairs=options.test_pairs,
        difficulty=options.difficulty,
    )
    files = export_builtin(
        splits, options.folder, names=_names(options), source=options.source, target=options.target
    )
    print(f"{sum(map(len, splits.values())):,} sentences in {options.folder}: {', '.join(files)}")
    return 0


def _export_scenes(options: Any) -> int:
    from softbellman.data import export_scenes, generate_scenes

    splits = generate_scenes(
        seed=options.seed,
        images=options.pairs,
        dev_images=options.dev_pairs,
        test_images=options.test_pairs,
        difficulty=options.difficulty,
    )
    table = export_scenes(splits, options.folder, names=_names(options))
    print(f"{sum(map(len, splits.values())):,} images in {options.folder}, {table}")
    return 0


def _names(options: Any) -> dict[str, str]:
    return {"train": options.train, "dev": options.dev, "test": options.test}
