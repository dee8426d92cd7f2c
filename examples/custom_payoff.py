"""A payoff of your own: a function of texts trains an actor by RAML.

Shows: a payoff by name in the settings, and the record that the run keeps of it. A run takes seconds; its corpus is built in.

    python examples/custom_payoff.py [FOLDER]

The same on the command line: softbellman-train --algorithm raml --payoff.metric ./examples/custom_payoff.py:overlap
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import mkdtemp

from softbellman import load_run
from softbellman.config import load
from softbellman.training import Settings, run

TINY = {
    "data.pairs": "300", "data.dev_pairs": "20", "data.test_pairs": "20", "device": "cpu", "keep_memory": "false",
    "model.embedding": "16", "model.hidden": "16", "model.attention_size": "16",
    "actor.schedule.max_updates": "10", "augmented.schedule.max_updates": "10",
}  # fmt: skip


def overlap(hypotheses: list[str], references: list[list[str]]) -> list[float]:
    """Share of the words of the first reference that a hypothesis has."""
    wanted = [set(group[0].split()) for group in references]
    return [
        len(words & set(text.split())) / len(words) for text, words in zip(hypotheses, wanted, strict=True)
    ]


def main(folder: Path) -> None:
    """Trains, then reads the record."""
    mine = {"algorithm": "raml", "payoff.metric": f"{__file__}:overlap", "output": str(folder / "run")}
    result = run(load(Settings, overrides={**TINY, **mine}.items()))
    for row in result.rows:
        print(f"{row.system}: test BLEU {row.test.score:.2f}")
    (brought,) = json.loads((result.folder / "record.json").read_text(encoding="utf-8"))["objects"]
    print(f"the payoff was {Path(brought['name']).name}, SHA-256 {brought['digest'][:12]}")
    print(load_run(result.folder).translate(["der hund sieht die katze"])[0])


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else mkdtemp()))
