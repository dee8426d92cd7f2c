"""What one process of a job finds: exchanges, and updates of every stage on its share of each batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from small_updates import CPU, settings_of

from softbellman.training.assembly import Assembly
from softbellman.training.processes import LostProcess, Processes, ProcessesDiffer, current, joined
from softbellman.training.runfolder import RunFolder
from softbellman.training.stagefiles import StageFiles
from softbellman.training.stages import Stage
from softbellman.training.task import Task, load_task

DRY = {"actor.dropout": "0", "critic.dropout": "0", "oracle.dropout": "0"}
CASES: dict[str, tuple[str, dict[str, str]]] = {
    "actor": ("actor", {}),
    "actor, batches of one": ("actor", {"actor.schedule.batch_size": "1"}),
    "actor, batches of tokens": (
        "actor",
        {"actor.schedule.batch_unit": "tokens", "actor.schedule.batch_size": "120"},
    ),
    "warmup": ("warmup", {}),
    "warmup, completions": ("warmup", {"warmup.target": "completion"}),
    "critic": ("critic", {}),
    "critic, two samples, chunked": ("critic", {"critic.samples": "2", "logits": "chunked"}),
    "joint": ("joint", {"joint.mle_weight": "0.1"}),
    "joint, published": ("joint", {"preset": "published", "credit.sampling_dropout": "false"}),
    "joint, longer returns, a prior, an average": (
        "joint",
        {
            "credit.trace": "0.6",
            "credit.prior": "start",
            "joint.average": "0.5",
            "credit.reference_weight": "0.3",
        },
    ),
    "joint, input feeding": ("joint", {"model.input_feeding": "true"}),
    "joint, scenes": ("joint", {"data.kind": "scenes", "actor.attention": "dot"}),
    "oracle": ("oracle", {"algorithm": "vaml"}),
    "oracle, published": ("oracle", {"algorithm": "vaml", "oracle.bootstrap_after_end": "true"}),
    "augmented, raml": ("augmented", {"algorithm": "raml", "augmented.edits.proposal": "edit"}),
    "augmented, vaml": ("augmented", {"algorithm": "vaml", "augmented.drop_below": "0.01"}),
    "completion": ("completion", {"algorithm": "ocd", "completion.mle_weight": "0.2"}),
    "completion, BLEU": ("completion", {"algorithm": "ocd", "completion.payoff": "bleu"}),
    "augmented, completions": ("augmented", {"algorithm": "vaml", "oracle.kind": "completion"}),
    "scheduled": ("scheduled", {"algorithm": "scheduled", "scheduled.updates": "2"}),
    "interpolated": (
        "interpolated",
        {"algorithm": "interpolation", "interpolated.increments": "0.3", "interpolated.own": "0.2"},
    ),
    "sequence, drawn ends": (
        "sequence",
        {"algorithm": "mixer", "sequence.baseline": "learnt", "sequence.mixer_chunk": "3"},
    ),
    "sequence, all others": ("sequence", {"algorithm": "reinforce", "sequence.mle_weight": "0.2"}),
    "sequence, batches of one": (
        "sequence",
        {"algorithm": "reinforce", "sequence.schedule.batch_size": "1", "sequence.samples": "2"},
    ),
    "sequence, learnt": ("sequence", {"algorithm": "reinforce", "sequence.baseline": "learnt"}),
    "sequence, greedy": (
        "sequence",
        {"algorithm": "scst", "sequence.baseline": "greedy", "sequence.samples": "1"},
    ),
    "sequence, risk": ("sequence", {"algorithm": "mrt", "sequence.objective": "minimum_risk"}),
    "consistency": ("consistency", {"algorithm": "pcl", "consistency.mle_weight": "0.1"}),
    "consistency, unified": (
        "consistency",
        {
            "algorithm": "pcl",
            "consistency.value": "unified",
            "consistency.steps": "2",
            "credit.prior": "start",
        },
    ),
    "search": ("search", {"algorithm": "bso"}),
    "search, batches of one": ("search", {"algorithm": "bso", "search.schedule.batch_size": "1"}),
    "future": ("future", {"algorithm": "future_success"}),
    "future, beam": ("future", {"algorithm": "future_success", "future.sequences": "beam"}),
    "professor": (
        "professor",
        {"algorithm": "professor_forcing", "professor.generator_above": "0.1", "professor.hidden": "8"},
    ),
    "completion, edits": ("completion", {"algorithm": "ocd", "completion.states": "edits"}),
}
UPDATES = 2
_tasks: dict[str, Task] = {}


def gradients(stage: Stage) -> dict[str, torch.Tensor]:
    """Gradients after clipping, by name."""
    return {
        f"{network}.{key}": parameter.grad.clone()
        for network, module in stage.modules.items()
        for key, parameter in module.named_parameters()
        if parameter.grad is not None
    }


def updates(case: str) -> Iterator[tuple[dict[str, float], dict[str, torch.Tensor]]]:
    """Sums and gradients of the first updates of a stage."""
    name, overrides = CASES[case]
    settings, processes = settings_of({**DRY, **overrides}), current()
    task = _tasks.setdefault(settings.data.kind, load_task(settings.data))
    parts = Assembly(settings, task, CPU)
    stage = parts.build(name)
    batches = parts.train_batches(stage.schedule, name).epoch(0)
    for step, batch in zip(range(UPDATES), batches, strict=False):
        share = processes.share(batch)
        sums = processes.counted(share, stage.update(share, step))
        yield processes.total([{key: float(value) for key, value in sums.items()}])[0], gradients(stage)
    yield stage.evaluate(), {}


def all_updates() -> dict[str, Any]:
    """Sums and gradients of every case."""
    return {case: list(updates(case)) for case in CASES}


def exchanges(processes: Processes, out: Path) -> dict[str, Any]:
    """What the processes tell each other, and what is raised where they differ."""
    rank, found = processes.rank, {}
    found["largest"] = processes.largest(rank + 5)
    found["agree"] = processes.agree({"rank": rank})
    found["gather"] = processes.gather(rank)
    found["spread"] = processes.spread(range(5), lambda item: (item, rank))
    linear = torch.nn.Linear(2, 3)
    torch.nn.init.constant_(linear.weight, float(rank + 1))
    files = StageFiles(RunFolder(out / "run"), "actor", {"actor": linear}, processes, keep=1, warn=print)
    try:
        files.save({}, {"step": 3})
    except ProcessesDiffer as error:
        found["weights"] = str(error)
    processes.send([linear])
    found["sent"] = float(linear.weight.detach().sum())
    processes.check_same(lambda: "alike", "they")
    try:
        processes.check_same(lambda: rank, "the ranks")
    except ProcessesDiffer as error:
        found["differ"] = str(error)
    try:
        with processes.together():
            if rank == 0:
                raise ValueError("no such folder")
    except (ValueError, LostProcess) as error:
        found["together"] = f"{type(error).__name__}: {error}"
    return found


def find(out: Path) -> None:
    """Write what this process finds to OUT/RANK.pt."""
    torch.set_num_threads(1)
    with joined(CPU, minutes=1.0) as processes:
        found = {"exchanges": exchanges(processes, out), "updates": all_updates()}
        torch.save(found, out / f"{processes.rank}.pt")
