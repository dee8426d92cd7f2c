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
from softbellman.core.files import beside, digest, flush_folder, write_atomically
from softbellman.payoffs.payoff import Payoff
from softbellman.payoffs.settings import deciding
from softbellman.training.algorithms import Algorithm
from softbellman.training.files import read_json, write_json
from softbellman.training.own_algorithm import algorithm_object, algorithm_of
from softbellman.training.own_model import model_object
from softbellman.training.processes import ALONE, Processes
from softbellman.training.record import package_digest
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import MEAN_PAYOFF, Settings
from softbellman.training.stages import Stage
from softbellman.training.stages.spec import Network, StageSpec
from softbellman.training.task import Task

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
        self._payoff_is_known = all(found.is_known for found in payoff.objects)
        self._root = Path(settings.cache) if settings.cache and processes.first else None
        self._processes = processes.count

    def key(self, stage: str) -> str | None:
        """Hash of everything that decides the stage's result; None when it is not shared.

        A payoff or a model that was handed over in Python has no file to know it by: without a `version` nothing that
        it decides is shared.
        """
        facts = deciding_facts(self._settings, stage)
        if self._root is None or facts is None:
            return None
        facts["corpora"] = self._corpora
        if "payoff" in facts:
            facts["document frequencies"] = self._payoff
            if not self._payoff_is_known:
                return None
        if (model := model_object(self._settings)) is not None:
            if not model.is_known:
                return None
            facts["model is made by"] = [model.digest, model.version]
        facts.update(
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
        building = beside(kept)
        try:
            self._build(building, stage)
            if kept.exists():
                os.replace(kept, aside := beside(kept.with_name(f"{kept.name}-damaged")))
                shutil.rmtree(aside, ignore_errors=True)
            os.replace(building, kept)
            flush_folder(self._root)
        except OSError as error:
            shutil.rmtree(building, ignore_errors=True)
            if _read_entry(kept) is None:  # else another run was faster
                self._warn(f"stage {stage.name} is not kept in the cache {self._root}: {error.strerror}")

    def _build(self, building: Path, stage: Stage) -> None:
        """An entry under another name than its own."""
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        for path in self._folder.final_files(stage.name):
            shutil.copy2(path, building / path.name)
        self._folder.copy_metrics(stage.name, building / METRICS)
        write_json(
            building / _CONTENTS,
            {path.name: digest(path.read_bytes()) for path in sorted(building.iterdir())},
        )


def deciding_facts(settings: Settings, stage: str) -> dict[str, Any] | None:
    """What of the settings decides a stage's result, given data, code and machine; None of a stage that is not shared.

    That is the settings of the networks it uses, its own, and those of all stages before it that these networks went through.
    What a run ends with is its own result and is not shared, nor is what a user's code of unknown source decides.
    """
    algorithm = algorithm_of(settings)
    spec = algorithm.spec(stage)
    if not spec.shared:
        return None
    parts, used = _deciding_stages(algorithm, spec)
    if any(part in algorithm.own for part in parts):
        brought = algorithm_object(settings)
        if brought is None or not brought.is_known:
            return None
        own = brought.name.rpartition(":")[2]  # a file may have several
        facts: dict[str, Any] = {"stages are of": [own, brought.digest, brought.version]}
    else:
        facts = {}
    sections: dict[str, Any] = asdict(settings)
    facts |= {name: sections[name] for name in ("data", "model", "evaluation")}
    moved = any(part.trains_actor and not part.likelihood for part in parts)
    if (
        facts["model"]["image_encoder"] == "likelihood" and not moved
    ):  # as `trained` until the actor moves further
        facts["model"] = {**facts["model"], "image_encoder": "trained"}
    reader = sections[algorithm.reader]
    if "actor" in used:
        facts["actor"] = sections["actor"]
    if "reader" in used:
        facts["reader"] = [reader["attention"], reader["dropout"]]
    if settings.evaluation.select_by == MEAN_PAYOFF:
        facts["payoff"] = deciding(sections["payoff"])
    for part in parts:
        facts[algorithm.key_of(part.name)] = asdict(algorithm.section(settings, part.name))
        alike = {name: asdict(section) for name, section in part.alike(settings).items()}
        for name in (*part.reads, *part.also_reads(settings)):
            name, _, single = name.partition(".")
            section = alike.get(name, sections[name])
            read = deciding(section) if name == "payoff" else section
            kept = {
                key: value
                for key, value in read.items()
                if f"{name}.{key}" not in part.ignores and single in ("", key)
            }
            if name in alike:  # another stage may read the section as it is
                facts[f"{name} of {part.name}"] = kept
            else:
                facts[name] = {**facts.get(name, {}), **kept}
    if settings.logits != "whole":  # rounds otherwise
        facts["logits"] = settings.logits
    if settings.precision != "float32":
        facts["precision"] = settings.precision
    if settings.cuda_graphs:  # too
        facts["cuda_graphs"] = True
    seeds = [settings.seed_of_network(network) for network in sorted(used)]
    facts.update(stage=stage, seed=[*seeds, *(settings.seed_of(part.name) for part in parts)])
    return facts


def _deciding_stages(algorithm: Algorithm, spec: StageSpec) -> tuple[list[StageSpec], set[Network]]:
    """A stage and those before it that train a network which it, or one of these, uses; and all these networks."""
    parts, used = [spec], set(spec.uses)
    for earlier in reversed(algorithm.specs[: algorithm.stages.index(spec.name)]):
        if used & set(earlier.trains):
            parts.insert(0, earlier)
            used |= set(earlier.uses)
    return parts, used


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
