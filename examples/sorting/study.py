"""Learning rates by a sweep on validation prompts, then all arms with several seeds on test prompts.

The sweep has a seed of its own, and every arm has the same rates to choose from. Test prompts are the same for all seeds.
Training, validation and test share no set of numbers. A study that was stopped goes on when started again with its folder.
"""

from __future__ import annotations

import json
import multiprocessing
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from softbellman.core.files import replacing
from sorting.arms import ARMS, Arm
from sorting.task import LABELLED, TASKS, Pairs, make_pairs
from sorting.training import Settings, evaluate, make_critic, make_start, train

START = "SFT"
SWEEP_SEED = 0
Found = TypeVar("Found")


def arms_of(task: str) -> list[Arm]:
    """The arms that a task is for."""
    return [arm for arm in ARMS if len(TASKS[task]) > 1 or not arm.for_several]


def split(task: str, settings: Settings, seed: int) -> tuple[Pairs, Pairs, Pairs]:
    """Labelled pairs of a seed, and the validation and test prompts of all."""
    held_out = settings.test + settings.validation
    labelled = LABELLED[task]
    pool = make_pairs(task, held_out + 4 * labelled, length=settings.length, numbers=settings.numbers, seed=0)
    generator = torch.Generator().manual_seed(seed)
    chosen = held_out + torch.randperm(4 * labelled, generator=generator)[:labelled]
    return pool.of(chosen), pool.of(slice(settings.test, held_out)), pool.of(slice(settings.test))


def once(path: Path, key: object, make: Callable[[], Found]) -> Found:
    """What `make` gives, or what it gave before and the file kept.

    Raises:
        ValueError: the file is of another key.
    """
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["key"] != repr(key):
            raise ValueError(f"{path} must be of these settings, or not there; it is of {kept['key']}")
        found: Found = kept["found"]
        return found
    found = make()
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"key": repr(key), "found": found}), encoding="utf-8")
    return found


def sweep(task: str, settings: Settings) -> dict[str, dict[str, float]]:
    """Of each arm and rate: right validation answers, the mean of the likeliest and a drawn one, in percent."""
    pairs, validation, _ = split(task, settings, SWEEP_SEED)
    start = make_start(pairs, settings, SWEEP_SEED)
    critic = make_critic(start, pairs, settings, SWEEP_SEED)
    found: dict[str, dict[str, float]] = {}
    for arm in arms_of(task):
        for rate in settings.rates:
            model = train(start, arm, pairs, settings, rate=rate, seed=SWEEP_SEED, critic=critic)
            right = torch.stack(evaluate(model, validation, settings)).mean()
            found.setdefault(arm.title, {})[str(rate)] = 100.0 * float(right)
    return found


def compare(
    task: str, settings: Settings, seed: int, rates: dict[str, float]
) -> dict[str, list[list[float]]]:
    """Of the start and each arm, 1 or 0 for each test prompt: by the likeliest answer, and by a drawn one."""
    pairs, _, test = split(task, settings, seed)
    start = make_start(pairs, settings, seed)
    critic = make_critic(start, pairs, settings, seed)
    models = {START: start}
    for arm in arms_of(task):
        models[arm.title] = train(
            start, arm, pairs, settings, rate=rates[arm.title], seed=seed, critic=critic
        )
    return {
        name: [right.tolist() for right in evaluate(model, test, settings)] for name, model in models.items()
    }


def _swept(folder: Path, task: str, settings: Settings) -> dict[str, dict[str, float]]:
    return once(folder / f"{task}-sweep.json".replace(" ", "-"), settings, lambda: sweep(task, settings))


def _compared(
    folder: Path, task: str, settings: Settings, seed: int, rates: dict[str, float]
) -> dict[str, list[list[float]]]:
    path = folder / f"{task}-{seed}.json".replace(" ", "-")
    return once(path, (settings, rates), lambda: compare(task, settings, seed, rates))


def run_study(settings: Settings, folder: Path, *, seeds: int, processes: int) -> dict[str, Any]:
    """Everything: by task the validation scores, the rates that were chosen, and the test answers of each seed.

    Args:
        folder: keeps what is finished.
        seeds: 1 to this number.
        processes: that run beside each other, of one thread each.

    Raises:
        ValueError: fewer than two seeds, which have no spread, or a folder of other settings.
    """
    if seeds < 2:
        raise ValueError(f"seeds must be at least 2, got {seeds}")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_begin) as pool:
        swept = dict(zip(TASKS, pool.map(partial(_swept, folder, settings=settings), TASKS), strict=True))
        rates = {
            task: {arm: float(max(scores, key=scores.__getitem__)) for arm, scores in by_arm.items()}
            for task, by_arm in swept.items()
        }
        jobs = [(folder, task, settings, seed, rates[task]) for seed in range(1, seeds + 1) for task in TASKS]
        results = list(pool.map(_compared, *zip(*jobs, strict=True)))
    by_seed = {
        task: [found for job, found in zip(jobs, results, strict=True) if job[1] == task] for task in TASKS
    }
    return {"validation": swept, "rates": rates, "test": by_seed}


def _begin() -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=FutureWarning)
