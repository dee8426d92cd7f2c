"""Test scores of the last weights of finished runs, beside those of the weights that their validation selected.

    python scripts/score_checkpoint.py RUN [RUN ...]

A stage that starts from an earlier actor keeps that actor where no validation was better; this says what the training itself
came to. One line a run, then the mean and sample standard deviation over the runs of an algorithm.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from pathlib import Path

import torch

from softbellman.data.scenes import scenes_of
from softbellman.experiments.collect import actor_stages
from softbellman.training.evaluation import corpus_batches, corpus_bleu, further_metrics, translate_corpus
from softbellman.training.runfolder import RunFolder
from softbellman.training.task import load_task
from softbellman.training.trained import load_run


def score(path: Path) -> tuple[str, dict[str, float]]:
    """The algorithm of a run and the test scores of its final stage's last weights."""
    folder = RunFolder.open(path)
    trained = load_run(path, "last")
    settings = trained.settings
    test = load_task(settings.data).test
    lines = translate_corpus(
        trained.model,
        corpus_batches(test, settings.evaluation.batch_size),
        trained.target_codec,
        settings.evaluation,
        device=torch.device("cpu"),
    )
    bleu = corpus_bleu(lines, test.reference_texts, tokenize=settings.evaluation.tokenize)
    others = further_metrics(
        settings.evaluation.of_texts,
        lines,
        test.reference_texts,
        settings.evaluation,
        scenes=scenes_of(test),
    )
    selected = next(
        record
        for record in folder.read_metrics()
        if record.get("kind") == "test" and record.get("stage") == actor_stages(settings)[-1]
    )
    scores = {"bleu selected": selected["test_bleu"], "bleu last": bleu.score}
    for name, value in others.items():
        scores[f"{name} selected"], scores[f"{name} last"] = selected[f"test_{name}"], value
    scores["length ratio last"] = bleu.length_ratio
    return settings.algorithm, scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folders")
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for path in options.runs:
        algorithm, scores = score(path)
        found[algorithm].append(scores)
        print(path.name, *(f"{name} {value:.2f}" for name, value in scores.items()), sep="  ", flush=True)
    for algorithm, runs in found.items():
        for name in runs[0]:
            values = [scores[name] for scores in runs]
            deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            print(f"{algorithm}  {name}  {statistics.mean(values):.2f}{deviation}  ({len(values)} runs)")


if __name__ == "__main__":
    main()
