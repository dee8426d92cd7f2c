"""Training many runs, as `softbellman experiment` and `softbellman sweep` do: workers, progress, the report at the end."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from softbellman.cli.common import Parser, positive

if TYPE_CHECKING:
    from softbellman.experiments.description import Experiment
    from softbellman.experiments.plan import Plan
    from softbellman.report.progress import Progress

FAILED = 1


def add_worker_options(parser: Parser) -> None:
    """How many runs at a time, and what is told."""
    parser.add_argument(
        "--workers", metavar="N", type=positive,
        help="runs at a time (default: one for each GPU, else one for each core)",
    )  # fmt: skip
    parser.add_argument(
        "--nice", metavar="N", type=int, default=10, help="by how much the runs give way to others, 0 to 19"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be run, and stop")
    parser.add_argument("--quiet", action="store_true", help="no progress, only what failed and the report")


def train_plan(
    experiment: Experiment, plan: Plan, root: Path, options: argparse.Namespace, *, device: str
) -> int:
    """Train what is missing and write the report; returns the exit code."""
    from softbellman.config import dump
    from softbellman.core.files import write_atomically
    from softbellman.experiments.description import NAME
    from softbellman.experiments.workers import Stopped, Workers
    from softbellman.report.fleet import FleetDisplay
    from softbellman.report.progress import Progress
    from softbellman.training.lock import FolderLock

    devices = _gpus() if device != "cpu" else []
    workers = options.workers or len(devices) or _cores()
    progress = Progress(quiet=options.quiet)
    for sentence in plan.left_out:
        progress.warn(f"softbellman: {sentence}")
    if options.dry_run:
        print("\n".join(_described(plan, root, workers)))
        return 0
    root.mkdir(parents=True, exist_ok=True)
    with FolderLock(root):
        write_atomically(root / NAME, dump(experiment).encode())
        os.nice(max(0, options.nice - os.nice(0)))  # once, where trials come before the runs
        display = FleetDisplay(progress, plan.jobs, workers)
        try:
            failed = Workers(root, count=workers, devices=devices, watcher=display).run(plan.jobs)
        except Stopped as stopped:
            progress.warn(f"softbellman: stopped by {stopped}; the same command continues")
            return 128 + stopped.signal
        finally:
            display.close()
        _report(root, progress)
    for name, log in failed.items():
        progress.warn(f"softbellman: {name} failed; its log is {log}")
    return FAILED if failed else 0


def _gpus() -> list[str]:
    """Values of CUDA_VISIBLE_DEVICES, one for each GPU that this process may use."""
    import torch

    count = torch.cuda.device_count()
    visible = [part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]
    return visible[:count] if visible else list(map(str, range(count)))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _described(plan: Plan, root: Path, workers: int) -> list[str]:
    """The plan as lines: each run with its state, and how many stages are trained for how many runs."""
    lines = [f"{len(plan.jobs)} runs in {root}, {workers} at a time"]
    width = max(len(job.name) for job in plan.jobs)
    lines += [f"  {job.name:<{width}}  {job.settings.algorithm:<5} {job.state()}" for job in plan.jobs]
    needed: Counter[str] = Counter()
    trained: dict[str, set[str]] = {}
    for job in plan.jobs:
        for stage, key in job.shared.items():
            needed[stage] += 1
            trained.setdefault(stage, set()).add(key)
    lines += [
        f"stage {stage}: trained {len(trained[stage])} times for {needed[stage]} runs" for stage in needed
    ]
    return lines


def _report(root: Path, progress: Progress) -> None:
    """Write the report, and say where it is; an experiment of which nothing is finished has none."""
    from softbellman.experiments.study import build_study
    from softbellman.report.study_page import write_report

    try:
        study = build_study([root])
    except ValueError as error:
        progress.warn(f"softbellman: no report: {error}")
        return
    page = write_report(study, root / "report.html")[0]
    progress.line(f"report: {page}", always=True)
