"""Run folders as a training leaves them, with scores of one's choice, and without the training."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from softbellman import config
from softbellman.training.algorithms import ALGORITHMS
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import Settings

WriteRun = Callable[..., Path]


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """write_run(NAME, {"MLE": {"test_bleu": 30.0}, "ERAC": ...}, algorithm="erac", seed=2, **{"credit.tau": "0.1"})."""

    def write(
        name: str,
        scores: dict[str, dict[str, Any]],
        *,
        algorithm: str = "erac",
        seed: int = 1,
        **settings: str,
    ) -> Path:
        base = tmp_path / f"{name}.yaml"
        base.write_text(config.dump(Settings()))
        pairs = [("algorithm", algorithm), ("seed", str(seed)), *settings.items()]
        loaded: Settings = config.load(Settings, base, overrides=pairs)
        loaded = replace(ALGORITHMS[algorithm].settle(loaded), output=str(tmp_path / name))
        folder = RunFolder(tmp_path / name)
        folder.create(config.dump(loaded))
        folder.log(kind="dev", stage="actor", step=1, dev_bleu=1.0)
        stages = {"MLE": "actor", "RAML": "augmented", "OCD": "completion"}
        for system, metrics in scores.items():
            folder.log(
                kind="test", stage=stages.get(system, "joint"), system=system, peak_memory_bytes=10**9,
                **{"signature": "tok:none", "dev_bleu": 1.0, "length_ratio": 0.9, **metrics},
            )  # fmt: skip
        (folder.path / "target.vocabulary.json").write_text(json.dumps(["a", "b"]))
        return folder.path

    return write


@pytest.fixture
def three_seeds(write_run: WriteRun) -> list[Path]:
    """Runs of ERAC with seeds 3, 1, 2: differences of 1, 3 and -1 BLEU to their start."""
    scores = {3: (30.0, 31.0), 1: (32.0, 35.0), 2: (34.0, 33.0)}
    return [
        write_run(f"erac-{seed}", {"MLE": {"test_bleu": mle}, "ERAC": {"test_bleu": erac}}, seed=seed)
        for seed, (mle, erac) in scores.items()
    ]
