"""Options that several benchmarks take, and what they must not contradict."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks._harness import replace_between


def add_options(parser: argparse.ArgumentParser, quick: str) -> None:
    """Device, record, rounds and threads; `quick` explains `--quick`."""
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:0 (default cpu)")
    parser.add_argument("--json", type=Path, help="save figures and the record of the machine here")
    parser.add_argument("--repetitions", type=int, help="timed rounds (default 20; 3 with --quick)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--cpu-time", action="store_true", help="processor time, for one thread of a busy machine"
    )
    parser.add_argument("--quick", action="store_true", help=quick)


def add_table_options(parser: argparse.ArgumentParser) -> None:
    """`--table` and `--page`, which `tables_shown` reads."""
    parser.add_argument(
        "--table", type=Path, nargs="+", metavar="FILE", help="measure nothing: the tables of these files"
    )
    parser.add_argument("--page", type=Path, help="with --table: put them into this page")


def tables_shown(
    parser: argparse.ArgumentParser,
    arguments: argparse.Namespace,
    tables: Callable[[Any], str],
    start: str,
    end: str,
) -> bool:
    """Whether tables of recorded files were asked for: they are printed, or put between two marks of the page."""
    if arguments.page and not arguments.table:
        parser.error("--page takes the tables of files: give --table FILE as well")
    if not arguments.table:
        return False
    text = "\n\n".join(tables(json.loads(file.read_text())) for file in arguments.table)
    if arguments.page:
        replace_between(arguments.page, start, end, text)
    else:
        print(text)
    return True


def settle(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Sets the threads and what was not given; a usage error where two options contradict each other."""
    if arguments.cpu_time and (arguments.threads != 1 or arguments.device != "cpu"):
        parser.error("--cpu-time adds up the time of all threads: it needs --threads 1 --device cpu")
    arguments.repetitions = arguments.repetitions or (3 if arguments.quick else 20)
    torch.set_num_threads(arguments.threads)


def parse_shapes(
    parser: argparse.ArgumentParser, shapes: Sequence[str], form: str, example: str
) -> list[tuple[int, ...]]:
    """Shapes such as `2048x8192`; a usage error where one has not the form, such as ROWSxVOCABULARY."""
    try:
        found = [tuple(map(int, shape.split("x"))) for shape in shapes]
    except ValueError:
        found = []
    if not found or any(len(shape) != len(form.split("x")) or min(shape) < 1 for shape in found):
        parser.error(f"--shapes takes {form} such as {example}, positive numbers all, got {' '.join(shapes)}")
    return found
