"""A causal language model learns to sort: supervised, by its samples' payoffs, and by credit for every token of the vocabulary.

Shows: losses on the `Head` of a Qwen3 made from a configuration, exact values where one or several strings are right, a learnt
critic, a divergence from the start; learning rates chosen on validation prompts, then seeds with intervals. The parts are in
`sorting/`. It needs the extra `softbellman[hf]`; nothing is downloaded. A study that was stopped goes on in its folder.
`--tiny` shows that it works, and no more.

    python examples/sort_with_credit.py [FOLDER] [--seeds 5] [--processes 2] [--tiny]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from tempfile import mkdtemp

from sorting.model import Sizes
from sorting.report import draw_figure, make_table
from sorting.study import run_study
from sorting.training import Settings

TINY = Settings(
    validation=16, test=16, sizes=Sizes(width=16, layers=1, heads=2), batch=8, samples=2,
    start_updates=4, updates=2, reader_updates=2, critic_updates=2, rates=(1e-3,),
)  # fmt: skip


def main() -> None:
    """Runs the study; writes results.json, table.md and figure.png."""
    parser = argparse.ArgumentParser(description="language models learn to sort, by several losses")
    parser.add_argument("folder", nargs="?", type=Path, help="for what is written; default: a new one")
    parser.add_argument("--seeds", type=int, default=5, help="at least 2")
    parser.add_argument("--processes", type=int, default=2, help="of one thread each")
    parser.add_argument("--tiny", action="store_true", help="seconds, and no result")
    asked = parser.parse_args()
    folder = asked.folder or Path(mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    settings = TINY if asked.tiny else Settings()
    study = run_study(settings, folder, seeds=asked.seeds, processes=asked.processes)
    seconds = time.perf_counter() - began
    (folder / "results.json").write_text(json.dumps(study) + "\n", encoding="utf-8")
    table = make_table(study)
    (folder / "table.md").write_text(table, encoding="utf-8")
    draw_figure(study, folder / "figure.png")
    print(table)
    print(f"{seconds:.0f} seconds; {folder}")


if __name__ == "__main__":
    main()
