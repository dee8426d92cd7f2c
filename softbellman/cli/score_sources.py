"""What `softbellman score` scores: hypotheses and their references, from files, a table of captions, or a run folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from softbellman.cli.common import UserError, standard_input

if TYPE_CHECKING:
    from softbellman.data.captions import ImageCaptions
    from softbellman.experiments.outputs import Outputs

Groups = list[list[str]]
"""The references of each line, without the empty ones."""

STANDARD_INPUT = "standard input"


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
    table = read_table(options)
    if table is not None:
        return from_table(table, metrics)
    return from_files(options.references, metrics)


def _hypotheses() -> list[str]:
    """The lines of standard input, at least one."""
    lines = list(standard_input())
    if not lines:
        raise UserError("no hypotheses on standard input")
    refuse_scored(lines, STANDARD_INPUT)
    return lines


def refuse_scored(lines: Sequence[str], origin: str) -> None:
    """Raises UserError where all lines are of several hypotheses: a number or name, a score and a text between tabs.

    Args:
        lines: hypotheses.
        origin: where they are from, for the sentence.
    """
    if lines and all(map(_is_scored, lines)):
        raise UserError(
            f"{origin} has lines of --samples or --nbest (number or name, score, text); decode without that option, or "
            "keep the texts with cut -f3"
        )


def _is_scored(line: str) -> bool:
    cells = line.split("\t", 2)
    if len(cells) < 3 or not cells[0]:
        return False
    try:
        float(cells[1])
    except ValueError:
        return False
    return True


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


def read_table(options: argparse.Namespace) -> ImageCaptions | None:
    """The split of the table of captions that --references names: image, split and caption, or image and caption.

    None where no file of references is a table. Raises UserError where another file stands beside it, or of a split that it
    does not have.
    """
    from softbellman.data.captions.readers import read_tsv

    path = next(filter(is_table, options.references), None)
    if path is None:
        return None
    if len(options.references) > 1:
        raise UserError(
            f"--references: {path} holds all captions of each image; no other file stands beside it"
        )
    splits = read_tsv(path, keep_empty=True)
    if "" not in splits and options.split not in splits:
        raise UserError(f"{path} has no split {options.split!r}; it has: {', '.join(map(repr, splits))}")
    return splits[""] if "" in splits else splits[options.split]


def from_table(table: ImageCaptions, metrics: str) -> Scorable:
    """Captions on standard input, in their own order, beside those of a table."""
    found = captions_by_image(_hypotheses(), table, STANDARD_INPUT)
    references = dict(zip(table.images, references_in(table, metrics), strict=True))
    return Scorable(list(found.values()), [references[name] for name in found])


def captions_by_image(lines: Sequence[str], table: ImageCaptions, origin: str) -> dict[str, str]:
    """A caption of every image of a table by its name, in the order of the lines.

    Args:
        lines: where all hold a tab an image's name and its caption, as `softbellman caption` writes them, in any order; else
            captions in the order of the images.
        table: the images of the split.
        origin: where the lines are from, for error sentences.

    Raises:
        UserError: an image without a caption, twice, or not in the table.
    """
    if not all("\t" in line for line in lines):
        if len(lines) != len(table):
            raise UserError(f"{table.origin} has {len(table)} images, {origin} {len(lines)} captions")
        return dict(zip(table.images, lines, strict=True))
    known = set(table.images)
    found: dict[str, str] = {}
    for line in lines:
        given, _, caption = line.partition("\t")
        name = next((name for name in (given, Path(given).name) if name in known), None)
        if name is None:
            raise UserError(f"{origin} names the image {given!r}, of which {table.origin} has no captions")
        if name in found:
            raise UserError(f"{origin} names the image {name!r} twice")
        found[name] = caption
    if len(found) < len(table):
        missing = next(name for name in table.images if name not in found)
        raise UserError(
            f"{origin} has captions of {len(found)} of the {len(table)} images of the split in {table.origin}; "
            f"caption the others as well, such as {missing!r}"
        )
    return found


def references_in(table: ImageCaptions, metrics: str) -> Groups:
    """The references of each image of a table; raises UserError where all captions of one are empty."""
    return _filled(table.captions, [Path(table.origin)], "image", metrics)


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
