"""Run folders as experiments leave them, with outputs of a wanted quality, and without the training."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

from softbellman import config
from softbellman.experiments.resampling import RESAMPLED
from softbellman.training.algorithms import ALGORITHMS
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import Settings

WORDS = [f"{first}{second}" for first in "bdfgklmnprst" for second in ("a", "e", "i", "o", "un")]
ENDS = {"mle": "actor", "raml": "augmented", "vaml": "augmented", "ocd": "completion"}


def write_run(
    path: Path,
    algorithm: str,
    *,
    seed: int = 1,
    noise: dict[str, float] | None = None,
    sentences: int = 120,
    references: int = 1,
    metrics: tuple[str, ...] = (),
    data_seed: int = 7,
    **settings: str,
) -> Path:
    """A finished run whose words are wrong with a probability: `noise` is of the stages, by their names.

    The start of a seed is the same in all runs. Dotted settings are given as `credit__tau="0.1"`.
    """
    pairs = [("algorithm", algorithm), ("seed", str(seed)), ("output", str(path))]
    pairs += [(key.replace("__", "."), value) for key, value in settings.items()]
    pairs += [("evaluation.metrics", f"[{', '.join(metrics)}]")] if metrics else []
    loaded: Settings = ALGORITHMS[algorithm].settle(config.load(Settings, overrides=pairs))
    folder = RunFolder(path)
    folder.create(config.dump(loaded))
    texts = _test_set(sentences, references, data_seed)
    end = ENDS.get(algorithm, "joint")
    levels = {"actor": 0.30, end: 0.26, **(noise or {})}
    for number, stage in enumerate(dict.fromkeys(["actor", end])):
        own = loaded.seed_of("actor") if stage == "actor" else seed
        draw = random.Random(
            f"{stage}/{own}" if stage == "actor" else f"{stage}/{own}/{algorithm}/{settings}"
        )
        _log_curve(folder, stage, levels[stage], draw)
        lines = [_spoil(group[0], levels[stage], draw) for group in texts]
        scores = {
            name: float(RESAMPLED[name].score(RESAMPLED[name].statistics(lines, texts).sum(0)))
            for name in ("bleu", *metrics)
        }
        folder.write_hypotheses(f"test-{stage}", lines)
        folder.write_examples(
            f"test-{stage}",
            [
                {"source": f"source {place}", "references": list(group), "hypothesis": line}
                for place, (group, line) in enumerate(zip(texts, lines, strict=True))
            ],
        )
        folder.log(
            kind="test", stage=stage, system="MLE" if stage == "actor" else ALGORITHMS[algorithm].title,
            dev_bleu=scores["bleu"] + 0.5, length_ratio=0.99, peak_memory_bytes=(1 + number) * 10**9,
            signature="nrefs:1|case:mixed|eff:no|tok:none|smooth:exp|version:2.6.0",
            **{f"test_{name}": value for name, value in scores.items()},
        )  # fmt: skip
    _write_record(folder, loaded, data_seed)
    return path


def write_table(root: Path, *, seeds: int = 3, **options: object) -> Path:
    """Runs of the five algorithms; each is better than the one before it, RAML only by chance better than MLE."""
    for seed in range(1, seeds + 1):
        for algorithm, level in (("mle", 0.3), ("raml", 0.3), ("vaml", 0.24), ("ac", 0.27), ("erac", 0.2)):
            end = ENDS.get(algorithm, "joint")
            noise = {"actor": 0.30, end: level}
            write_run(root / f"{algorithm}-{seed}", algorithm, seed=seed, noise=noise, **options)  # type: ignore[arg-type]
    return root


def _test_set(sentences: int, references: int, seed: int) -> list[tuple[str, ...]]:
    draw = random.Random(seed)
    groups = []
    for _ in range(sentences):
        first = " ".join(draw.choices(WORDS, k=draw.randint(5, 14)))
        groups.append((first, *(_spoil(first, 0.4, draw) for _ in range(references - 1))))
    return groups


def _spoil(text: str, level: float, draw: random.Random) -> str:
    return " ".join(draw.choice(WORDS) if draw.random() < level else word for word in text.split())


def _log_curve(folder: RunFolder, stage: str, level: float, draw: random.Random) -> None:
    final = 100 * (1 - level) ** 3
    for number in range(7):
        share = number / 6
        dev = (
            final * (0.3 + 0.7 * share**0.3)
            if stage == "actor"
            else final - 2 + 2 * share + draw.gauss(0, 0.2)
        )
        common = {"stage": stage, "step": 100 * number, "epoch": share, "time": 30.0 * number}
        if number:
            folder.log(
                kind="train", **common, entropy=1.5 + 0.3 * share + draw.gauss(0, 0.05),
                payoff=5 + share + draw.gauss(0, 0.1),
            )  # fmt: skip
        rank = {} if stage == "actor" else {"rank_correlation": 0.4 + 0.1 * share}
        folder.log(kind="dev", **common, dev_bleu=dev, **rank)


def _write_record(folder: RunFolder, settings: Settings, data_seed: int) -> None:
    session = {
        "started": "2026-01-01T10:00:00+00:00", "ended": "2026-01-01T10:12:30+00:00", "status": "finished",
        "command": f"softbellman-train --config /home/me/configs/x.yaml --seed {settings.seed} --output {folder.path}",
        "softbellman": "0.1.0", "source": "0123456789abcdef", "commit": "c0ffee", "native": "fedcba9876543210",
        "torch": "2.13.0", "python": "3.11.7", "host": "machine-1", "process": 17, "processor": "A processor, 2 cores",
        "device": "cpu", "processes": 1, "threads": 1, "environment": {},
    }  # fmt: skip
    content = {
        "format": 1,
        "settings": config.flatten(replace(settings)),
        "data": {"training_data": "aa" * 32, "test_data": f"{data_seed:064x}"},
        "sessions": [session],
        "changes": [],
    }
    (folder.path / "record.json").write_text(json.dumps(content))
