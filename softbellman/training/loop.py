"""The loop of a stage: updates, validation, selection, learning-rate decay, checkpoints, resumption.

A stage is validated every `interval` updates (or once an epoch). At each validation the state is written, so a killed
run continues from the last one. Random numbers are seeded anew there from (seed, stage, update), which makes the continued run
repeat the uninterrupted one.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from softbellman.data import BatchIterator
from softbellman.models.projection import Bfloat16, bfloat16_products
from softbellman.training.checkpoint import load_modules, load_state, save_modules, save_state
from softbellman.training.observer import Observer
from softbellman.training.runfolder import RunFolder
from softbellman.training.stages import Stage, Sums, draw_key


@dataclass
class Cursor:
    """Where a stage stands.

    Attributes:
        epoch, position: next batch, as the iterator counts.
        step: updates done.
        decays: learning-rate decays done.
        best: best selection score so far (larger is better).
        best_step: the update it was reached after.
        seconds: training time so far, validation included.
        done: the stage has ended.
    """

    epoch: int = 0
    position: int = 0
    step: int = 0
    decays: int = 0
    best: float = -math.inf
    best_step: int = -1
    seconds: float = 0.0
    done: bool = False


def run_stage(
    stage: Stage,
    batches: BatchIterator,
    folder: RunFolder,
    observer: Observer,
    *,
    seed: int,
    device: torch.device,
    resume: bool,
    bfloat16: Bfloat16 = "none",
) -> None:
    """Train a stage to its end; its modules then hold the selected weights.

    `bfloat16` names the products that have bfloat16 factors in updates; validation has none.

    Files in the run folder: `checkpoints/STAGE-last.safetensors` and `-best.safetensors`, `checkpoints/STAGE.state`.
    """
    cursor = Cursor()
    if resume:
        state_path = folder.checkpoints / f"{stage.name}.state"
        if state_path.exists():
            cursor = _restore(stage, folder, state_path)
        folder.truncate_metrics(stage.name, cursor.step if state_path.exists() else -1)
    if stage.start_is_candidate and cursor.step == 0 and not cursor.done:
        metrics = stage.evaluate()
        folder.log(stage=stage.name, kind="dev", epoch=0.0, step=0, time=0.0, **metrics)
        observer.validated(stage.name, 0.0, metrics, best=False)
        _select(stage, cursor, metrics, folder)
    while not cursor.done:
        _interval(stage, cursor, batches, folder, observer, seed=seed, device=device, bfloat16=bfloat16)
    load_modules(folder.checkpoints / f"{stage.name}-best.safetensors", stage.modules)


def _interval(
    stage: Stage,
    cursor: Cursor,
    batches: BatchIterator,
    folder: RunFolder,
    observer: Observer,
    *,
    seed: int,
    device: torch.device,
    bfloat16: Bfloat16,
) -> None:
    """Updates up to the next validation, the validation, selection, decay, checkpoint."""
    schedule = stage.schedule
    torch.manual_seed(draw_key(seed, f"{stage.name}/{cursor.step}"))
    started = time.perf_counter()
    epoch_length = batches.epoch_length(cursor.epoch)
    count = epoch_length - cursor.position
    if schedule.interval:
        count = min(count, schedule.interval)
    if schedule.max_updates:
        count = min(count, schedule.max_updates - cursor.step)
    totals: dict[str, float] = {}
    pending: list[Sums] = []
    with observer.updates(stage.name, cursor.epoch + 1, schedule.epochs, count) as bar:
        for batch in batches.epoch(cursor.epoch, start=cursor.position):
            with bfloat16_products(bfloat16):
                pending.append(stage.update(batch.to(device), cursor.step))
            cursor.step += 1
            cursor.position += 1
            count -= 1
            if len(pending) == 20 or not count:
                latest = _drain(pending, totals)
                bar.update(len(pending), _means(latest))
                pending.clear()
            if not count:
                break
    trained = time.perf_counter() - started
    if cursor.position >= epoch_length:
        cursor.epoch, cursor.position = cursor.epoch + 1, 0
    progressed = cursor.epoch + cursor.position / batches.epoch_length(cursor.epoch)

    averages = _means(totals)
    _check_finite(stage, cursor.step, totals)
    metrics = stage.evaluate()
    cursor.seconds += time.perf_counter() - started
    rates = {f"{name}_learning_rate": o.param_groups[0]["lr"] for name, o in stage.optimizers.items()}
    common = {"stage": stage.name, "epoch": progressed, "step": cursor.step, "time": cursor.seconds}
    folder.log(kind="train", **common, **averages, **rates, train_seconds=trained)
    folder.log(kind="dev", **common, **metrics)
    improved = _select(stage, cursor, metrics, folder)
    observer.validated(stage.name, progressed, {**averages, **metrics}, best=improved)

    if not improved:
        if cursor.decays >= schedule.max_decays:
            cursor.done = True
        else:
            cursor.decays += 1
            for name in stage.annealed:
                for group in stage.optimizers[name].param_groups:
                    group["lr"] *= schedule.decay
    if cursor.epoch >= schedule.epochs or (schedule.max_updates and cursor.step >= schedule.max_updates):
        cursor.done = True
    _save(stage, cursor, folder)


def _select(stage: Stage, cursor: Cursor, metrics: dict[str, float], folder: RunFolder) -> bool:
    """Keep the weights when their selection score is the best so far."""
    sign = -1.0 if stage.selection.startswith("-") else 1.0
    score = sign * metrics[stage.selection.lstrip("-")]
    if not score > cursor.best:
        return False
    cursor.best, cursor.best_step = score, cursor.step
    save_modules(folder.checkpoints / f"{stage.name}-best.safetensors", stage.modules)
    return True


def _save(stage: Stage, cursor: Cursor, folder: RunFolder) -> None:
    """Weights and state as one transaction: new weights under another name, the state, then the weights' rename."""
    last, waiting = _last_paths(stage, folder, cursor.step)
    save_modules(waiting, stage.modules)
    state: dict[str, Any] = {
        "cursor": asdict(cursor),
        "optimizers": {name: optimizer.state_dict() for name, optimizer in stage.optimizers.items()},
    }
    save_state(folder.checkpoints / f"{stage.name}.state", state)
    waiting.replace(last)


def _restore(stage: Stage, folder: RunFolder, state_path: Path) -> Cursor:
    state = load_state(state_path)
    cursor = Cursor(**state["cursor"])
    last, waiting = _last_paths(stage, folder, cursor.step)
    if waiting.exists():  # killed between the state and the rename
        waiting.replace(last)
    for orphan in folder.checkpoints.glob(f"{stage.name}-last-*.safetensors"):  # killed before the state
        orphan.unlink()
    for name, optimizer in stage.optimizers.items():
        optimizer.load_state_dict(state["optimizers"][name])
    load_modules(last, stage.modules)
    return cursor


def _last_paths(stage: Stage, folder: RunFolder, step: int) -> tuple[Path, Path]:
    """The last weights, and the name they wait under until the state of their step is written."""
    return (
        folder.checkpoints / f"{stage.name}-last.safetensors",
        folder.checkpoints / f"{stage.name}-last-{step}.safetensors",
    )


def _drain(pending: list[Sums], totals: dict[str, float]) -> dict[str, float]:
    """Add up the pending diagnostics (one transfer from the device for all of them); returns their own sums."""
    latest: dict[str, float] = {"updates": float(len(pending))}
    names = list(dict.fromkeys(name for sums in pending for name in sums))
    found = [(name, number.detach().double()) for sums in pending for name, number in sums.items()]
    remote = [number for _, number in found if number.device.type != "cpu"]
    fetched = iter(torch.stack(remote).tolist() if remote else ())
    latest.update(dict.fromkeys(names, 0.0))
    for name, number in found:
        latest[name] += float(number) if number.device.type == "cpu" else next(fetched)
    for name, value in latest.items():
        totals[name] = totals.get(name, 0.0) + value
    return latest


PER_TOKEN = ("td_error", "td_squared", "entropy", "value")


def _means(totals: dict[str, float]) -> dict[str, float]:
    """Sums to means: per token, per reference token, per sequence, per update."""
    means: dict[str, float] = {}
    for name in PER_TOKEN:
        if name in totals:
            means[name] = totals[name] / totals["tokens"]
    if "nll" in totals:
        means["perplexity"] = math.exp(min(totals["nll"] / totals["reference_tokens"], 50.0))
    if "cross_entropy" in totals:
        means["cross_entropy"] = totals["cross_entropy"] / totals["weight"]
    if "effective_samples" in totals:
        means["effective_samples"] = totals["effective_samples"] / totals["sources"]
    if "payoff" in totals:
        means["payoff"] = totals["payoff"] / totals["sequences"]
    for name in totals:
        if name.endswith("_gradient"):
            means[name] = totals[name] / totals["updates"]
    return means


def _check_finite(stage: Stage, step: int, totals: dict[str, float]) -> None:
    """A diverged stage ends with a sentence instead of decoding nonsense."""
    broken = [name for name, value in totals.items() if not math.isfinite(value)]
    for name, module in stage.modules.items():
        if not all(bool(parameter.isfinite().all()) for parameter in module.parameters()):
            broken.append(f"a weight of the {name}")
    if broken:
        raise FloatingPointError(
            f"stage {stage.name} diverged before update {step}: {', '.join(broken)} is not finite; "
            f"lower the learning rate or the temperature"
        )
