"""Finished stages, kept by the hash of what went into them: AC, ERAC and their ablations share one pre-trained actor."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import softbellman
from softbellman.core import native
from softbellman.payoffs.payoff import Payoff
from softbellman.training.algorithms import ALGORITHMS
from softbellman.training.files import beside, digest, flush_folder, read_json, write_atomically, write_json
from softbellman.training.processes import ALONE, Processes
from softbellman.training.record import package_digest
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import Settings
from softbellman.training.stages import Stage
from softbellman.training.task import Task

_INPUTS: dict[str, tuple[str, ...]] = {
    "actor": ("data", "model", "actor", "evaluation"),
    "warmup": ("data", "model", "evaluation", "warmup"),
    "critic": ("data", "model", "actor", "evaluation", "payoff", "credit", "warmup", "critic"),
    "oracle": ("data", "model", "evaluation", "payoff", "warmup", "oracle"),
}
"""Sections of the settings that decide a stage's result, those of the stages before it included. What a run ends with (joint,
augmented, completion) is its own result and is not shared."""


METRICS = "metrics.jsonl"
_CONTENTS = "contents.json"
"""The file of an entry that names the others with their digests; written last."""


class StageCache:
    """Copies finished stages between run folders and `settings.cache`; does nothing when that is empty.

    An entry is built aside and renamed when it is whole. One that lacks a file, or whose files have other digests than it
    says, is as good as none.

    Args:
        settings, folder, task, payoff: of the run.
        device: where it trains; part of the key, as numbers differ.
        processes: of the job; their number is a part too. The first one alone copies.
        warn: is told of bad entries.
    """

    def __init__(
        self,
        settings: Settings,
        folder: RunFolder,
        task: Task,
        payoff: Payoff,
        *,
        device: torch.device,
        warn: Callable[[str], object] = lambda text: None,
        processes: Processes = ALONE,
    ) -> None:
        self._settings, self._folder, self._device, self._warn = settings, folder, device, warn
        self._corpora = task.digest() if settings.cache else ""
        self._payoff = payoff.digest() if settings.cache else ""
        self._root = Path(settings.cache) if settings.cache and processes.first else None
        self._processes = processes.count

    def key(self, stage: str) -> str | None:
        """Hash of everything that decides the stage's result; None when it is not shared."""
        if self._root is None or stage not in _INPUTS:
            return None
        settings: dict[str, Any] = asdict(self._settings)
        facts = {name: settings[name] for name in _INPUTS[stage]}
        facts["corpora"] = self._corpora
        if "payoff" in facts:
            facts["document frequencies"] = self._payoff
        if facts["model"]["image_encoder"] == "likelihood":  # tells it from `trained` in later stages alone
            facts["model"] = {**facts["model"], "image_encoder": "trained"}
        if "credit" in facts:  # decides how actors move, not what a critic learns
            facts["credit"] = {
                k: v for k, v in facts["credit"].items() if k not in ("actor_entropy", "start_is_candidate")
            }
        if settings["logits"] != "whole":  # rounds otherwise
            facts["logits"] = settings["logits"]
        if settings["cuda_graphs"]:  # too
            facts["cuda_graphs"] = True
        if stage == "warmup":  # of the critic or of the oracle
            reader = settings[ALGORITHMS[self._settings.algorithm].reader]
            facts["reader"] = [reader["attention"], reader["dropout"]]
        facts.update(
            stage=stage,
            seed=settings["seed"],
            version=softbellman.__version__,
            source=[package_digest(), native.build_info()["source_digest"]],
            torch=torch.__version__,
            device=self._device.type,
            threads=torch.get_num_threads(),
        )
        if self._processes > 1:
            facts["processes"] = self._processes
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def fetch(self, key: str | None, stage: Stage) -> bool:
        """Put a kept stage into the run folder, unless the folder has the stage already."""
        if key is None or self._root is None or self._folder.has_checkpoints(stage.name):
            return False
        kept = self._root / f"{stage.name}-{key}"
        if not kept.is_dir():
            return False
        files = _read_entry(kept)
        if files is None:
            self._warn(f"the cache's {kept} is damaged; the stage is trained anew")
            return False
        self._folder.truncate_metrics(stage.name, None)
        self._folder.append_metrics(kept / METRICS)
        del files[METRICS]
        # What makes a checkpoint count comes last.
        for name in sorted(files, key=lambda name: name.endswith(".json")):
            write_atomically(self._folder.checkpoints / name, files[name])
        return True

    def keep(self, key: str | None, stage: Stage) -> None:
        """Keep a finished stage; an entry that is there stays, a damaged one gives way."""
        if key is None or self._root is None:
            return
        kept = self._root / f"{stage.name}-{key}"
        if _read_entry(kept) is not None:
            return
        self._root.mkdir(parents=True, exist_ok=True)
        building = beside(kept)
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        for path in self._folder.final_files(stage.name):
            shutil.copy2(path, building / path.name)
        self._folder.copy_metrics(stage.name, building / METRICS)
        write_json(
            building / _CONTENTS,
            {path.name: digest(path.read_bytes()) for path in sorted(building.iterdir())},
        )
        try:
            if kept.exists():
                os.replace(kept, aside := beside(kept.with_name(f"{kept.name}-damaged")))
                shutil.rmtree(aside, ignore_errors=True)
            os.replace(building, kept)
            flush_folder(self._root)
        except OSError:  # another run was faster
            shutil.rmtree(building, ignore_errors=True)


def _read_entry(kept: Path) -> dict[str, bytes] | None:
    """The files of an entry by name; None where one is missing, lies elsewhere or holds other bytes than were written."""
    try:
        contents = read_json(kept / _CONTENTS)
        if not isinstance(contents, dict) or METRICS not in contents:
            return None
        if any(Path(name).name != name for name in contents):
            return None
        files = {name: (kept / name).read_bytes() for name in contents}
    except (OSError, ValueError):
        return None
    return files if all(digest(files[name]) == known for name, known in contents.items()) else None
