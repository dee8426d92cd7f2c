"""Finished runs decoded with other length penalties: what a system's training adds where each is searched as suits it.

    python scripts/compare_search.py RUN [RUN ...] [--length-penalty 0 1] [--baseline MLE]

Runs of one label (else of one algorithm) are a system. For each, the penalty is chosen by its mean BLEU on the validation set.
Then every system is compared with the baseline on the test set, run by run of the same seed, as `softbellman report` does it.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch

import softbellman
from softbellman.experiments import RESAMPLED, paired_test
from softbellman.experiments.collect import read_run

METRICS = ("bleu", "cider", "rouge_l")


def spread(values: list[float]) -> str:
    """Mean and sample standard deviation."""
    return f"{statistics.fmean(values):.2f}" + (
        f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    )


def decoded(run: Any, penalty: float) -> dict[str, Any]:
    """Scores on both sets, and the statistics of the test set that paired tests need."""
    lines, references = run.decode("test", length_penalty=penalty), run.task.test.reference_texts
    tokenize = run.settings.evaluation.tokenize
    counts = {name: RESAMPLED[name].statistics(lines, references, tokenize=tokenize) for name in METRICS}
    said, wanted = counts["bleu"].sum(0)[:2]
    return {
        "dev": float(run.score("dev", length_penalty=penalty)["bleu"]),
        "ratio": said / wanted,
        "statistics": counts,
        "test": {name: float(RESAMPLED[name].score(counts[name].sum(0))) for name in METRICS},
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", metavar="RUN", nargs="+")
    parser.add_argument("--length-penalty", type=float, nargs="+", default=[0.0, 1.0])
    parser.add_argument("--baseline", default="MLE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[float, dict[int, dict[str, Any]]]] = defaultdict(lambda: defaultdict(dict))
    for path in options.runs:
        run, system = softbellman.load_run(path), read_run(path).systems[-1].system
        for penalty in options.length_penalty:
            found[system][penalty][run.settings.seed] = decoded(run, penalty)
    print(
        "| system | length penalty | runs | validation BLEU | test BLEU | test CIDEr-D | test ROUGE-L | length ratio |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for system, by_penalty in found.items():
        for penalty, runs in by_penalty.items():
            cells = [spread([each["dev"] for each in runs.values()])]
            cells += [spread([each["test"][name] for each in runs.values()]) for name in METRICS]
            cells.append(spread([each["ratio"] for each in runs.values()]))
            print(f"| {system} | {penalty:g} | {len(runs)} | {' | '.join(cells)} |")
    best = {system: max(by, key=lambda penalty: mean_dev(by[penalty])) for system, by in found.items()}
    print()
    for system, penalty in best.items():
        if system != options.baseline and options.baseline in best:
            compare(system, found[system][penalty], penalty, options.baseline, found, best)


def mean_dev(runs: Mapping[int, dict[str, Any]]) -> float:
    """Mean BLEU on the validation set."""
    return statistics.fmean(each["dev"] for each in runs.values())


def compare(
    system: str,
    runs: Mapping[int, dict[str, Any]],
    penalty: float,
    baseline: str,
    found: Mapping[str, Mapping[float, Mapping[int, dict[str, Any]]]],
    best: Mapping[str, float],
) -> None:
    """One sentence a metric: the difference, its interval over sentences, p, and the interval for new runs."""
    others = found[baseline][best[baseline]]
    seeds = [seed for seed in runs if seed in others]
    for name in METRICS if seeds else ():
        pairs = [(runs[seed]["statistics"][name], others[seed]["statistics"][name]) for seed in seeds]
        test = paired_test(RESAMPLED[name], pairs, starts=seeds)
        pooled, new = test.pooled, test.new_runs
        more = f"; for new runs {new.low:+.2f} to {new.high:+.2f}" if new else ""
        print(
            f"- {system} (penalty {penalty:g}) minus {baseline} ({best[baseline]:g}), {name}: {pooled.difference:+.2f} "
            f"({pooled.interval.low:+.2f} to {pooled.interval.high:+.2f}, p = {pooled.p:.2g}{more})"
        )


if __name__ == "__main__":
    main()
