"""Parallel text: a source file and one or more reference files whose lines belong together."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from softbellman.data.errors import DataError
from softbellman.data.text import read_lines

logger = logging.getLogger(__name__)

EmptyLines = Literal["refuse", "skip", "keep"]


@dataclass(frozen=True)
class ParallelText:
    """Sentences as text, one source and at least one reference each.

    Attributes:
        sources: N source sentences.
        references: N lists of reference sentences. The first one is the target of maximum likelihood.
        source_origin: name of the source file, for later error sentences.
        target_origin: name of the (first) reference file.
        skipped: lines that were left out because a side was empty.
    """

    sources: list[str]
    references: list[list[str]]
    source_origin: str = "the given sources"
    target_origin: str = "the given references"
    skipped: int = 0

    def __post_init__(self) -> None:
        if len(self.sources) != len(self.references):
            raise ValueError(
                "sources and references must have the same length, "
                f"got {len(self.sources)} and {len(self.references)}"
            )

    def __len__(self) -> int:
        return len(self.sources)


def read_parallel(
    source_path: str | Path,
    target_path: str | Path | Sequence[str | Path],
    *,
    empty_lines: EmptyLines = "refuse",
) -> ParallelText:
    """Read aligned files, plain or `.gz`.

    Args:
        source_path: the source side.
        target_path: the target side, or a list of files with one reference a line each.
        empty_lines: what to do with a line that is empty (or only spaces). "refuse": in any of the files it is an error
            that names file and line. "skip", for training: a line without a source or without any reference is left out of
            every file, and one log line counts. "keep", for a test set, which must agree line by line with its files: an
            empty source is translated from nothing; a line without any reference is an error. Unless refused, an empty
            reference beside another one is absent: so a line may have fewer references than there are files.

    Raises:
        MissingFileError: a file does not exist.
        DataError: unequal line counts, a file without lines, invalid UTF-8, an empty line; names file and
            line.
    """
    if empty_lines not in get_args(EmptyLines):
        raise ValueError(f"empty_lines must be 'refuse', 'skip' or 'keep', got {empty_lines!r}")
    target_paths = [target_path] if isinstance(target_path, (str, Path)) else list(target_path)
    if not target_paths:
        raise ValueError("target_path must name at least one file, got none")
    paths = [Path(source_path), *map(Path, target_paths)]
    columns = [read_lines(path) for path in paths]
    _check_line_counts(paths, columns)

    sources: list[str] = []
    references: list[list[str]] = []
    for number, row in enumerate(zip(*columns, strict=True), start=1):
        source, *targets = (line.strip() for line in row)
        present = [target for target in targets if target]
        if empty_lines == "refuse" and not (source and all(targets)):
            empty = paths[[source, *targets].index("")]
            raise DataError("the line is empty", path=empty, line=number)
        if empty_lines == "skip" and not (source and present):
            continue
        if not present:
            raise DataError("the line is empty and there is no other reference", path=paths[1], line=number)
        sources.append(source)
        references.append(present)
    skipped = len(columns[0]) - len(sources)
    if not sources:
        raise DataError("every line is empty on one side or the other", path=paths[0])
    if skipped:
        logger.info(
            "%s: skipped %d of %d lines that are empty on one side", paths[0], skipped, len(columns[0])
        )
    return ParallelText(
        sources, references, source_origin=str(paths[0]), target_origin=str(paths[1]), skipped=skipped
    )


def _check_line_counts(paths: list[Path], columns: list[list[str]]) -> None:
    for path, lines in zip(paths, columns, strict=True):
        if not lines:
            raise DataError("the file has no lines", path=path)
    for path, lines in zip(paths[1:], columns[1:], strict=True):
        if len(lines) != len(columns[0]):
            first, count = (paths[0], len(columns[0])) if len(columns[0]) < len(lines) else (path, len(lines))
            other = path if first == paths[0] else paths[0]
            raise DataError(
                f"the file ends after {count} lines, but {other} has {max(len(lines), len(columns[0]))}: "
                "aligned files must have equally many lines",
                path=first,
                line=count + 1,
            )
