"""One update of every stage with chunked logits against whole ones: time and peak memory.

    python -m benchmarks.training_memory [--data DIR] [--vocabulary V] [--stages mle,joint] [--threads 1] [--cpu-time]
        [--peaks-only] [--return-memory] [--json FILE]

Both take the same batches in turn, from the same start weights. Freed memory stays with the process, as it does in training
unless `--return-memory` or `--peaks-only` is given."""

from __future__ import annotations

import argparse
import gc
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks._harness import (
    as_record,
    compare,
    environment,
    format_ratio,
    format_seconds,
    print_table,
    save_json,
)
from benchmarks._memory import peak_bytes
from benchmarks._training_cases import STAGES, build_stage, load_data, settings_of, warm_actor
from benchmarks.training import add_common_options, choose_clock
from softbellman.data import Batch, Codec, Vocabulary
from softbellman.data.vocabulary import SPECIAL_TOKENS
from softbellman.training.allocator import keep_freed_memory
from softbellman.training.settings import Settings
from softbellman.training.task import Task

FORMS = ("whole", "chunked")
HEADER = ["stage", "whole", "chunked", "chunked / whole"]
MEMORY_HEADER = ["peak MB, whole", "chunked"]


def widen(task: Task, vocabulary: int) -> Task:
    """The same sentences, their target vocabulary filled up with words that never occur."""
    tokens = task.target_codec.vocabulary.tokens
    if vocabulary < len(tokens):
        raise ValueError(f"--vocabulary must be at least {len(tokens)}, that of the corpus, got {vocabulary}")
    unused = [f"unused-{number}" for number in range(vocabulary - len(tokens))]
    codec = Codec(
        Vocabulary([*tokens[len(SPECIAL_TOKENS) :], *unused]),
        task.target_codec.tokenizer,
    )
    return replace(task, target_codec=codec)


class Contender:
    """Our updates of a stage in one form of the logits, and batches for them."""

    def __init__(
        self, name: str, task: Task, settings: Settings, weights: dict[str, torch.Tensor], *, count: int
    ) -> None:
        _, self.stage, self.batches, _ = build_stage(name, task, settings, weights, count=count)
        self.step = 0

    def update(self, batch: Batch) -> None:
        self.stage.update(batch, self.step)
        self.step += 1

    def peak_bytes(self) -> int:
        """Of an update on the longest batch, gradients included: those of before are dropped first."""
        for optimizer in self.stage.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        longest = max(self.batches, key=lambda batch: batch.target.numel())
        return peak_bytes(partial(self.update, longest), "cpu")


def measure(
    name: str,
    task: Task,
    settings: Settings,
    weights: dict[str, torch.Tensor],
    *,
    repetitions: int,
    clock: Callable[[], float] | None,
) -> dict[str, Any]:
    """The row of one stage; without a clock memory alone, of one form after the other."""

    def contender(form: str) -> Contender:
        own = replace(settings, logits=form)
        return Contender(name, task, own, weights, count=repetitions + 2)

    row: dict[str, Any] = {"stage": name, "vocabulary": len(task.target_codec)}
    cells, peaks = [name], {}
    if clock is None:
        for form in FORMS:
            gc.collect()  # networks and stages of before refer to each other
            single = contender(form)
            single.update(single.batches[0])  # Adam's moments are there from the first update on
            peaks[form] = single.peak_bytes()
            del single
    else:
        both = {form: contender(form) for form in FORMS}
        comparison = compare(
            {form: one.update for form, one in both.items()},
            both["whole"].batches,
            repetitions=repetitions,
            warmup=2,
            clock=clock,
        )
        ratio = comparison.ratio("chunked", "whole")
        row |= {form: as_record(comparison.timings[form]) for form in FORMS}
        row["chunked_over_whole"] = as_record(ratio)
        cells += [*(format_seconds(comparison.timings[form]) for form in FORMS), format_ratio(ratio)]
        peaks = {form: one.peak_bytes() for form, one in both.items()}
    row["peak_bytes_longest_batch"] = peaks
    return row | {"cells": [*cells, *(f"{peaks[form] / 1e6:,.0f}" for form in FORMS)]}


def stage_list(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in STAGES:
            raise argparse.ArgumentTypeError(f"{name!r} is no stage, there are {', '.join(STAGES)}")
    return names


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_common_options(parser)
    parser.add_argument("--stages", type=stage_list, default=list(STAGES), help="some, between commas")
    parser.add_argument("--vocabulary", type=int, help="fill the target vocabulary up to this size")
    parser.add_argument(
        "--return-memory", action="store_true", help="as with keep_memory: false, for the times"
    )
    parser.add_argument("--peaks-only", action="store_true", help="no times: two updates a stage and form")
    return parser


def main() -> None:
    options = parser()
    arguments = options.parse_args()
    clock, time_name = choose_clock(options, arguments)
    keeps = not (arguments.return_memory or arguments.peaks_only) and keep_freed_memory()
    repetitions, warm_up = (2, 2) if arguments.quick else (arguments.repetitions, arguments.warm_up)
    with tempfile.TemporaryDirectory() as scratch:
        task, data = load_data(arguments.data, Path(scratch), small=arguments.quick)
    if arguments.vocabulary:
        try:
            task = widen(task, arguments.vocabulary)
        except ValueError as error:
            options.error(str(error))
    weights = warm_actor(task, settings_of("mle", data, small=arguments.quick), warm_up)
    rows, machine = [], environment()  # as it is before the first figure is written
    for name in arguments.stages:
        row = measure(
            *(name, task, settings_of(name, data, small=arguments.quick), weights),
            repetitions=repetitions,
            clock=None if arguments.peaks_only else clock,
        )
        rows.append(
            row | {"clock": time_name, "warm_up": warm_up, "keeps_memory": keeps, "corpus": task.describe()}
        )
        print(" ".join(row["cells"]), flush=True)
        if arguments.json:  # after every stage: a long run that is cut short keeps what it has
            stored = [{key: value for key, value in r.items() if key != "cells"} for r in rows]
            save_json(arguments.json, "training_memory", stored, machine)
    times = f"{time_name} time, medians of {repetitions} updates with quartiles, freed memory "
    times += "kept; " if keeps else "returned; "
    print(
        f"{task.describe()}; threads: {arguments.threads}; {'' if arguments.peaks_only else times}"
        "peaks on the longest batch beyond networks and optimisers"
    )
    print_table(
        ([HEADER[0]] if arguments.peaks_only else HEADER) + MEMORY_HEADER, [row["cells"] for row in rows]
    )


if __name__ == "__main__":
    main()
