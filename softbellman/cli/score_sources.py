"""What `softbellman score` scores: hypotheses and their references, from files, a table of captions, or a run folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from softbellman.cli.common import UserError, standard_input

if TYPE_CHECKING:
    from softbellman.experiments.outputs import Outputs

Groups = list[list[str]]
"""The references of each line, without the empty ones."""


class Scorable(NamedTuple):
    """Hypotheses, the references of each, and sacrebleu's tokeniser where their source says one."""

    hypotheses: list[str]
    references: Groups
    tokenize: str = ""


def read_scorable(options: argparse.Namespace, metrics: str) -> Scorable:
    """What the options name, for some metrics in words.

    Raises UserError where lines and references are not as many, or a line has no reference.
    """
    if options.run is not None:
        if options.references:
            raise UserError(
                "a run has its own references: leave --references out, or score its hypotheses file"
            )
        outputs, tokenize = outputs_of_run(options.run)
        return Scorable(list(outputs.hypotheses), [list(g) for g in outputs.test_set.references], tokenize)
    if not options.references:
        raise UserError(
            "the following arguments are required: --references, or RUN (softbellman score --help explains)"
        )
    tables = [path for path in options.references if is_table(path)]
    if tables and len(options.references) > 1:
        raise UserError(
            f"--references: {tables[0]} holds all captions of each image; no other file stands beside it"
        )
    if tables:
        return from_table(tables[0], options.split, metrics)
    return from_files(options.references, metrics)


def _hypotheses() -> list[str]:
    """The lines of standard input, at least one."""
    lines = list(standard_input())
    if not lines:
        raise UserError("no hypotheses on standard input")
    return lines


def from_files(paths: Sequence[Path], metrics: str) -> Scorable:
    """References line by line."""
    from softbellman.data import read_lines

    references = [read_lines(path) for path in paths]
    hypotheses = _hypotheses()
    for path, lines in zip(paths, references, strict=True):
        if len(lines) != len(hypotheses):
            raise UserError(f"{path} has {len(lines)} lines, standard input has {len(hypotheses)}")
    return Scorable(hypotheses, group_references(references, paths, metrics))


def is_table(path: Path) -> bool:
    """Whether a file of references is a table of captions, by its name."""
    return path.name.endswith((".tsv", ".tsv.gz"))


def from_table(path: Path, split: str, metrics: str) -> Scorable:
    """Captions of a table: image, split and caption, or image and caption, between tabs.

    Lines that all hold a tab are an image's name and its caption, as `softbellman caption` writes them, in any order. Others
    are captions in the order of the images.
    """
    from softbellman.data.captions.readers import read_tsv

    splits = read_tsv(path, keep_empty=True)
    if "" not in splits and split not in splits:
        raise UserError(f"{path} has no split {split!r}; it has: {', '.join(map(repr, splits))}")
    table = splits[""] if "" in splits else splits[split]
    lines = _hypotheses()
    named = all("\t" in line for line in lines)
    if named:
        captions = dict(zip(table.images, table.captions, strict=True))
        names = [_name_in(line.partition("\t")[0], captions, path) for line in lines]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"standard input names the image {twice!r} twice")
        lines = [line.partition("\t")[2] for line in lines]
        groups = [captions[name] for name in names]
    else:
        if len(lines) != len(table.images):
            raise UserError(f"{path} has {len(table.images)} images, standard input {len(lines)} captions")
        groups = table.captions
    return Scorable(lines, _filled(groups, [path], "image", metrics))


def _name_in(name: str, captions: dict[str, list[str]], path: Path) -> str:
    """The image's name in the table: as it is, or without its folders."""
    for candidate in (name, Path(name).name):
        if candidate in captions:
            return candidate
    raise UserError(f"standard input names the image {name!r}, of which {path} has no captions")


def group_references(references: Sequence[Sequence[str]], paths: Sequence[Path], metrics: str) -> Groups:
    """The references of each line; raises UserError where all files have an empty line."""
    return _filled(list(zip(*references, strict=True)), paths, "line", metrics)


def _filled(groups: Sequence[Sequence[str]], paths: Sequence[Path], unit: str, metrics: str) -> Groups:
    from softbellman.payoffs.text_metrics import present

    found = [present(group) for group in groups]
    for number, group in enumerate(found, start=1):
        if not group:
            files = ", ".join(map(str, paths))
            raise UserError(f"{files}: {unit} {number} is empty, which leaves {metrics} no reference there")
    return found


def outputs_of_run(word: str) -> tuple[Outputs, str]:
    """What a run said on its test set: RUN for what it ends with, RUN:STAGE for another stage. And its tokeniser."""
    from softbellman import config
    from softbellman.experiments.collect import actor_stages
    from softbellman.experiments.outputs import read_outputs
    from softbellman.training.runfolder import RunFolder
    from softbellman.training.settings import Settings, follow_data

    folder, _, stage = (word, "", "") if Path(word).is_dir() else word.rpartition(":")
    run = RunFolder.open(folder or word)
    settings = follow_data(config.load(Settings, run.config_path))
    stages = actor_stages(settings)
    if stage and stage not in stages:
        raise UserError(f"{word}: the stages of {folder} with hypotheses are {', '.join(stages)}")
    return read_outputs(run.path, stage or stages[-1]), settings.evaluation.tokenize
