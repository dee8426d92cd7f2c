"""`softbellman score --paired`: two files or two runs, the difference with its interval and p."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from study_runs import write_run

from softbellman.experiments.resampling import RESAMPLED, paired_test

RunCommand = Callable[..., Any]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    good = write_run(tmp_path / "erac", "erac", noise={"joint": 0.2}, references=2, metrics=("cider",))
    poor = write_run(tmp_path / "ac", "ac", noise={"joint": 0.3}, references=2, metrics=("cider",))
    return good, poor


def test_two_runs_by_their_own_references(softbellman: RunCommand, runs: tuple[Path, Path]) -> None:
    code, out, err = softbellman("score", "--paired", *map(str, runs), "--metrics", "bleu", "cider")
    assert code == 0 and err == ""
    header, _, bleu, cider, note = out.splitlines()
    assert cells(header) == ["metric", "system", "baseline", "difference", "95 % interval", "p"]
    name, system, baseline, difference, interval, p = cells(bleu)
    assert name == "BLEU" and float(difference) == pytest.approx(float(system) - float(baseline), abs=0.011)
    assert interval.startswith("+") and float(p) < 0.05 and cells(cider)[0] == "CIDEr-D"
    assert note.startswith("120 lines, case:mixed, tok:none")


def test_a_run_against_its_own_start(softbellman: RunCommand, runs: tuple[Path, Path]) -> None:
    code, out, _ = softbellman("score", "--paired", str(runs[0]), f"{runs[0]}:actor")
    assert code == 0 and float(cells(out.splitlines()[2])[3]) > 0
    code, _, err = softbellman("score", "--paired", str(runs[0]), f"{runs[0]}:oracle")
    assert code == 2 and "with hypotheses are actor, joint" in err


def test_two_files_against_reference_files(
    softbellman: RunCommand, runs: tuple[Path, Path], tmp_path: Path
) -> None:
    from softbellman.experiments.outputs import read_outputs

    own = read_outputs(runs[0], "joint").test_set.references
    files = []
    for number in (0, 1):
        files.append(tmp_path / f"references.{number}")
        files[-1].write_text("".join(f"{group[number]}\n" for group in own))
    texts = [str(run / "hypotheses" / "test-joint.txt") for run in runs]
    words = ["score", "--paired", *texts, "--references", *map(str, files), "--tokenize", "none"]
    code, out, err = softbellman(*words, "--metrics", "bleu", "ter")
    assert code == 0 and err == ""
    metric = RESAMPLED["bleu"]
    pair = [metric.statistics(read_outputs(run, "joint").hypotheses, own) for run in runs]
    wanted = paired_test(metric, [(pair[0], pair[1])]).pooled
    bleu, ter = (cells(line) for line in out.splitlines()[2:4])
    assert bleu[3] == f"{wanted.difference:+.2f}"
    assert bleu[4] == f"{wanted.interval.low:+.2f} to {wanted.interval.high:+.2f}"
    assert float(ter[3]) < 0  # fewer edits


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["{run}", "{run}", "--metrics", "chrf"],
            "chrF has no paired test; these have: bleu, cider, rouge_l, ter",
        ),
        (["{file}", "{file}"], "--paired of two files needs --references"),
        (["{file}", "{short}", "--references", "{file}"], "has 1 lines, the references 120"),
        (["{run}", "nowhere"], "nowhere is not a run folder: it does not exist"),
        (["{run}", "{other}"], "the two runs were tested on different data"),
        (["{run}", "{run}", "--sentence"], "--paired and --sentence exclude each other"),
    ],
)
def test_what_cannot_be_compared(
    softbellman: RunCommand, runs: tuple[Path, Path], tmp_path: Path, words: list[str], message: str
) -> None:
    short = tmp_path / "short.txt"
    short.write_text("one line\n")
    other = write_run(tmp_path / "other", "erac", data_seed=8)
    places = {
        "run": runs[0], "file": runs[0] / "hypotheses" / "test-joint.txt", "short": short, "other": other,
    }  # fmt: skip
    code, _, err = softbellman("score", "--paired", *(word.format(**places) for word in words))
    assert code == 2 and message in err


TABLE = "".join(
    f"{name}.jpg\t{split}\t{caption}\n"
    for name, split in (("a", "train"), *((f"b{number}", "test") for number in range(5)))
    for caption in (f"a dog of {name} runs", f"the {split} cat sleeps near {name}")
)


def test_two_systems_against_a_table_of_captions(softbellman: RunCommand, tmp_path: Path) -> None:
    """By names in any order, and in the order of the images; the scores are those of each system alone."""
    (tmp_path / "captions.tsv").write_text(TABLE)
    captions = [f"a dog of b{number} runs" if number else "the cat" for number in range(5)]
    named = [f"b{number}.jpg\t{caption}\n" for number, caption in enumerate(captions)]
    (tmp_path / "named.tsv").write_text("".join(reversed(named)))
    (tmp_path / "ordered.txt").write_text(
        "".join(f"{caption}\n" for caption in captions[:4]) + "a cat sleeps\n"
    )
    files = [str(tmp_path / name) for name in ("named.tsv", "ordered.txt")]
    words = ["--references", str(tmp_path / "captions.tsv"), "--tokenize", "none"]
    code, out, err = softbellman("score", "--paired", *files, *words)
    assert code == 0 and err == "" and "5 lines, case:mixed, tok:none" in out
    row = cells(out.splitlines()[2])
    assert float(row[1]) > float(row[2]) > 0
    for file, score in zip(files, row[1:], strict=False):
        assert f"BLEU = {score}" in softbellman("score", *words, stdin=Path(file).read_bytes()).out


@pytest.mark.parametrize(
    ("system", "words", "message"),
    [
        ("b0.jpg\tx\n", [], "has captions of 1 of the 5 images of the split in {table}; caption the others"),
        ("x\n", [], "{table} has 5 images, {system} 1 captions"),
        ("a.jpg\tx\n", [], "{system} names the image 'a.jpg', of which"),
        ("x\n", ["--split", "val"], "{table} has no split 'val'; it has: 'train', 'test'"),
        ("b0.jpg\t-1.2\tx\n", [], "{system} has lines of --samples or --nbest"),
    ],
)
def test_what_a_table_does_not_fit(
    softbellman: RunCommand, tmp_path: Path, system: str, words: list[str], message: str
) -> None:
    table, whole, part = (tmp_path / name for name in ("captions.tsv", "whole.txt", "part.txt"))
    table.write_text(TABLE)
    whole.write_text("a\nb\nc\nd\ne\n")
    part.write_text(system)
    code, out, err = softbellman(
        "score", "--paired", str(whole), str(part), "--references", str(table), *words
    )
    assert code == 2 and not out and message.format(table=table, system=part) in err
