"""Finished stages, kept by the hash of what went into them: AC, ERAC and their ablations share one pre-trained actor."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import softbellman
from softbellman.payoffs.payoff import Payoff
from softbellman.training.algorithms import ALGORITHMS
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


class StageCache:
    """Copies finished stages between run folders and `settings.cache`; does nothing when that is empty."""

    def __init__(self, settings: Settings, folder: RunFolder, task: Task, payoff: Payoff) -> None:
        self._settings, self._folder = settings, folder
        self._corpora = task.digest() if settings.cache else ""
        self._payoff = payoff.digest() if settings.cache else ""
        self._root = Path(settings.cache) if settings.cache else None

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
            threads=torch.get_num_threads(),
        )
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def fetch(self, key: str | None, stage: Stage) -> bool:
        """Put a kept stage into the run folder, unless the folder has the stage already."""
        if key is None or self._root is None or self._state(stage).exists():
            return False
        kept = self._root / f"{stage.name}-{key}"
        if not (kept / "complete").exists():
            return False
        for item in kept.glob(f"{stage.name}*"):
            shutil.copy2(item, self._folder.checkpoints / item.name)
        self._folder.append_metrics(kept / "metrics.jsonl")
        return True

    def keep(self, key: str | None, stage: Stage) -> None:
        """Keep a finished stage."""
        if key is None or self._root is None:
            return
        kept = self._root / f"{stage.name}-{key}"
        if (kept / "complete").exists():
            return
        kept.mkdir(parents=True, exist_ok=True)
        for item in self._folder.checkpoints.glob(f"{stage.name}*"):
            shutil.copy2(item, kept / item.name)
        self._folder.copy_metrics(stage.name, kept / "metrics.jsonl")
        (kept / "complete").touch()

    def _state(self, stage: Stage) -> Path:
        return self._folder.checkpoints / f"{stage.name}.state"
