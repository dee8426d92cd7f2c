"""The lines that a run prints under `Next:` are typed as they stand, and do what they say."""

from __future__ import annotations

import glob
import gzip
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from softbellman.report.next_steps import next_steps
from softbellman.training import RunResult
from softbellman.training.evaluation import BleuScore
from softbellman.training.result import FinalRow

RunCommand = Callable[..., Any]

TINY = {
    "algorithm": "mle", "model.embedding": "8", "model.hidden": "8", "model.attention_size": "8",
    "actor.schedule.max_updates": "8", "actor.schedule.batch_size": "10", "actor.schedule.epochs": "2",
    "actor.optimizer.name": "adam", "actor.optimizer.learning_rate": "1e-2",
    "evaluation.max_length": "8", "evaluation.beam": "2", "data.min_frequency": "1", "data.pairs": "60",
    "data.dev_pairs": "6", "data.test_pairs": "6", "data.difficulty": "1.0",
}  # fmt: skip


@pytest.fixture
def train(
    softbellman: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[str, list[str]]]:
    """Trains for a few updates, in a folder whose name a shell must be told; gives all that was shown, and the Next lines."""
    (tmp_path / "a folder").mkdir()
    monkeypatch.chdir(tmp_path / "a folder")

    def run(config: str = "builtin_erac", **keys: str) -> tuple[str, list[str]]:
        pairs = {**TINY, "output": "my run", **{key.replace("__", "."): value for key, value in keys.items()}}
        words = [word for key, value in pairs.items() for word in (f"--{key}", value)]
        code, out, err = softbellman("train", "--config", config, "--quiet", *words)
        assert code == 0, err
        _, _, rest = out.partition("\nNext:\n")
        return out, [line.removeprefix("  ") for line in rest.splitlines()]

    return run


def typed(softbellman: RunCommand, line: str) -> str:
    """What a command line shows, or writes where it says so; a shell's redirections and patterns are carried out here."""
    words, stdin, target = shlex.split(line), b"", None
    if "|" in words:
        start = words.index("|")
        assert words[:2] == ["gzip", "-dc"] and start == 3
        stdin, words = gzip.decompress(Path(words[2]).read_bytes()), words[start + 1 :]
    if ">" in words:
        target, words = Path(words[-1]), words[:-2]
    if "<" in words:
        stdin, words = Path(words[-1]).read_bytes(), words[:-2]
    assert words[0] == "softbellman" and not {"<", ">", "|"} & set(words)
    expanded = [name for word in words[1:] for name in (sorted(glob.glob(word)) if "*" in word else [word])]
    code, out, err = softbellman(*expanded, stdin=stdin)
    assert code == 0, (line, err)
    if target is not None:
        target.write_bytes(out.encode())
    return str(out)


def bleu_of_the_run(shown: str) -> str:
    """Test BLEU in the table of the run."""
    (row,) = re.findall(r"^MLE +([\d.]+) +([\d.]+)", shown, flags=re.MULTILINE)
    return str(row[1])


@pytest.mark.parametrize("seed", ["1", "3"])
def test_the_builtin_corpus(softbellman: RunCommand, train: Any, seed: str) -> None:
    shown, lines = train(data__seed=seed)
    assert [line.split()[1] for line in lines] == ["data", "translate", "score", "table"]
    assert ("--seed 3" in lines[0]) == (seed == "3") and "--difficulty 1.0" in lines[0]
    for _ in range(2):  # and once more
        *_, score, table = [typed(softbellman, line) for line in lines]
        assert f"BLEU = {bleu_of_the_run(shown)} " in score and "MLE" in table
    translated = Path("my run/hypotheses/translated.txt").read_bytes()
    assert translated == Path("my run/hypotheses/test-actor.txt").read_bytes()


def test_parallel_text_of_subwords(softbellman: RunCommand, train: Any) -> None:
    pytest.importorskip("sentencepiece")
    sizes = ["--pairs", "60", "--dev_pairs", "6", "--test_pairs", "6", "--difficulty", "1"]
    softbellman("data", "export", "builtin", "my text", *sizes)
    packed = Path("my text/test.de.gz")
    packed.write_bytes(gzip.compress(Path("my text/test.de").read_bytes()))
    Path("my text/test.de").unlink()
    keys = {"data__kind": "parallel", "data__path": "my text", "data__tokenizer": "sentencepiece"}
    shown, lines = train(**keys, data__vocabulary_size="120")
    assert "|tok:13a|" in shown and "--tokenize 13a" in lines[1]
    assert [line.split()[0] for line in lines] == ["gzip", "softbellman", "softbellman"]
    _, score, _ = [typed(softbellman, line) for line in lines]
    assert f"BLEU = {bleu_of_the_run(shown)} " in score


def test_captions(softbellman: RunCommand, train: Any) -> None:
    folder = Path("my images")
    folder.mkdir()
    names = [f"{number}.png" for number in range(12)]
    splits = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    lines = [f"{name}\t{split}\ta dog runs .\n" for name, split in zip(names, splits, strict=True)]
    (folder / "captions.tsv").write_text("".join(lines))
    np.save(folder / "features.npy", np.eye(12, 4, dtype=np.float32))
    (folder / "features.names.txt").write_text("".join(f"{name}\n" for name in names))
    keys = {"data__kind": "captions", "data__path": "my images", "actor__attention": "none"}
    _, steps = train("flickr8k_mle", **keys)
    assert [line.split()[1] for line in steps] == ["caption", "table"]
    for step in steps:
        typed(softbellman, step)
    captions = Path("my run/captions.txt").read_text().splitlines()
    assert [line.partition("\t")[0] for line in captions] == names


def test_scenes(softbellman: RunCommand, train: Any) -> None:
    pytest.importorskip("PIL.Image")
    _, lines = train("scenes_mle", data__seed="2", model__image_width="16")
    assert [line.split()[1] for line in lines] == ["captions", "caption", "table"]
    assert "--seed 2" in lines[0] and "--difficulty 1.0" in lines[0]
    typed(softbellman, lines[0])
    captions = typed(softbellman, lines[1]).splitlines()
    hypotheses = Path("my run/hypotheses/test-actor.txt").read_text().splitlines()
    # the run's six test pictures are the first of those that were written
    assert [line.partition("\t")[2] for line in captions[:6]] == hypotheses and len(captions) == 20


@pytest.mark.parametrize(
    ("reads", "word"), [("text", "translate"), ("features", "--features"), ("pixels", "IMAGE")]
)
def test_a_folder_that_is_gone_gets_general_lines(tmp_path: Path, reads: Any, word: str) -> None:
    row = FinalRow("MLE", "actor", 1.0, BleuScore(1.0, "nrefs:1|tok:none|version:2", 1.0), {})
    steps = next_steps(RunResult(tmp_path / "gone", (row,), reads))
    assert word in steps[0] and all(line.startswith("softbellman ") for line in steps)
