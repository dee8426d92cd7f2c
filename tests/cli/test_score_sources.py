"""`softbellman score RUN`, tables of captions as references, and the interval of a single system."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
from study_runs import write_run

from softbellman.experiments.outputs import read_outputs
from softbellman.experiments.resampling import RESAMPLED, bleu_of, bleu_statistics, bootstrap_interval

RunCommand = Callable[..., Any]

TABLE = "".join(
    f"{name}\t{split}\t{caption}\n"
    for name, split in (("a.jpg", "train"), ("b.jpg", "test"), ("c.jpg", "test"))
    for caption in (f"a dog of {name}", f"the {split} cat sleeps")
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "erac", "erac", noise={"joint": 0.3}, references=2, metrics=("cider",))


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "captions.tsv"
    path.write_text(TABLE)
    return str(path)


def text(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def test_a_run_is_scored_as_its_files_would_be(softbellman: RunCommand, run: Path) -> None:
    for stage, word in (("joint", str(run)), ("actor", f"{run}:actor")):
        outputs = read_outputs(run, stage)
        streams = [[group[place] for group in outputs.test_set.references] for place in (0, 1)]
        wanted = sacrebleu.metrics.BLEU(tokenize="none", force=True).corpus_score(
            list(outputs.hypotheses), streams
        )
        code, out, err = softbellman("score", word)
        assert code == 0 and err == "" and wanted.format() in out and "tok:none" in out
    code, out, _ = softbellman("score", str(run), "--metrics", "bleu", "cider", "ter", "--sentence")
    assert code == 0 and len(out.splitlines()) == 1 + len(outputs.hypotheses)


def test_a_table_of_captions_by_name_or_in_order(softbellman: RunCommand, table: str) -> None:
    named = text("folder/c.jpg\ta dog of c.jpg", "b.jpg\tthe cat")
    ordered = text("the cat", "a dog of c.jpg")
    words = ["score", "--references", table, "--tokenize", "none", "--metrics", "bleu", "rouge_l"]
    streams = [["a dog of b.jpg", "a dog of c.jpg"], ["the test cat sleeps"] * 2]
    wanted = sacrebleu.metrics.BLEU(tokenize="none", force=True).corpus_score(
        ["the cat", "a dog of c.jpg"], streams
    )
    for stdin in (named, ordered):
        code, out, err = softbellman(*words, stdin=stdin)
        assert code == 0 and err == "" and wanted.format() in out
    code, out, _ = softbellman(*words, "--split", "train", stdin=text("a dog of a.jpg"))
    assert code == 0 and "ROUGE-L = 100.00" in out


def test_a_part_of_the_split_is_refused(softbellman: RunCommand, table: str) -> None:
    words = ["score", "--references", table]
    code, out, err = softbellman(*words, stdin=text("b.jpg\ta dog of b.jpg"))
    assert code == 2 and not out and err.count("\n") == 1
    assert f"standard input has captions of 1 of the 2 images of the split in {table}; " in err
    assert "caption the others as well, such as 'c.jpg'" in err
    assert softbellman(*words, "--split", "train", stdin=text("a.jpg\ta dog of a.jpg")).code == 0


@pytest.mark.parametrize("score", ["-1.2500", "-inf", "nan", "3"])
def test_scored_hypotheses_are_refused(
    softbellman: RunCommand, table: str, tmp_path: Path, score: str
) -> None:
    """Lines of --nbest and --samples; a single line of another form shows that the text itself holds tabs."""
    plain = tmp_path / "plain.txt"
    plain.write_text("a dog\nthe cat\n")
    for references, names in ((plain, ("1", "2")), (table, ("b.jpg", "c.jpg"))):
        lines = [f"{name}\t{score}\ta dog" for name in names]
        words = ["score", "--references", str(references)]
        code, out, err = softbellman(*words, stdin=text(*lines))
        assert code == 2 and not out and err.count("\n") == 1
        assert "standard input has lines of --samples or --nbest (number or name, score, text)" in err
        assert "decode without that option, or keep the texts with cut -f3" in err
        assert softbellman(*words, stdin=text(lines[0], f"{names[1]}\tthe cat")).code == 0


def test_intervals(softbellman: RunCommand, run: Path) -> None:
    code, out, err = softbellman("score", str(run), "--metrics", "bleu", "cider", "ter", "--confidence")
    assert code == 0 and err == ""
    outputs = read_outputs(run, "joint")
    found = re.findall(r"(\S+) = ([\d.]+).*\n  signature.*\n  95 % interval: ([\d.]+) to ([\d.]+)", out)
    assert [name for name, *_ in found] == ["BLEU", "CIDEr-D", "TER"]
    for _, score, low, high in found:
        assert float(low) < float(score) < float(high)
    statistics = bleu_statistics(outputs.hypotheses, outputs.test_set.references)
    low, high = bootstrap_interval(RESAMPLED["bleu"], statistics)
    assert (found[0][2], found[0][3]) == (f"{low:.2f}", f"{high:.2f}")
    assert "bootstrap over 120 lines, 2000 draws" in out


def test_the_interval_is_the_percentile_bootstrap() -> None:
    """Against resampling with numpy's own choice, and its width against the normal approximation of a mean."""
    scores = np.random.default_rng(5).normal(50.0, 10.0, size=200)
    statistics = np.stack([scores, np.ones(200)], axis=1)
    low, high = bootstrap_interval(RESAMPLED["rouge_l"], statistics, resamples=5000)
    half = 1.96 * scores.std() / np.sqrt(200)
    assert low == pytest.approx(scores.mean() - half, abs=0.15)
    assert high == pytest.approx(scores.mean() + half, abs=0.15)
    # scores of so many equal sentences lie 1.4 apart
    texts = ["a b c d e f"] * 30 + ["a b x d e y"] * 30
    counts = bleu_statistics(texts, [["a b c d e f"]] * 60)
    generator = np.random.default_rng(9)
    drawn = [bleu_of(counts[generator.choice(60, size=60)].sum(0)) for _ in range(4000)]
    wanted = np.quantile(drawn, [0.025, 0.975])
    assert bootstrap_interval(RESAMPLED["bleu"], counts, resamples=4000) == pytest.approx(
        tuple(wanted), abs=1.5
    )
    with pytest.raises(ValueError, match="at least one sentence"):
        bootstrap_interval(RESAMPLED["bleu"], counts[:0])


def test_what_is_refused(softbellman: RunCommand, run: Path, table: str, tmp_path: Path) -> None:
    def error(*words: str, stdin: bytes = b"x\n") -> str:
        code, out, err = softbellman("score", *words, stdin=stdin)
        assert code == 2 and not out and err.count("\n") == 1
        return str(err)

    assert "required: --references, or RUN" in error()
    assert "a run has its own references" in error(str(run), "--references", table)
    assert "--paired and RUN exclude each other" in error(str(run), "--paired", "a", "b")
    assert "--paired and --confidence exclude each other" in error("--confidence", "--paired", "a", "b")
    assert "--confidence: chrF has no interval" in error(str(run), "--metrics", "chrf", "--confidence")
    assert "with hypotheses are actor, joint" in error(f"{run}:critic")
    assert "is not a run folder" in error(str(tmp_path / "nowhere"))
    assert "has no split 'val'; it has: 'train', 'test'" in error("--references", table, "--split", "val")
    assert "has 2 images, standard input 1 captions" in error("--references", table)
    assert "no other file stands beside it" in error("--references", table, table)
    assert "names the image 'q.jpg', of which" in error("--references", table, stdin=b"q.jpg\tx\n")
    assert "names the image 'b.jpg' twice" in error("--references", table, stdin=b"b.jpg\tx\nb.jpg\ty\n")
