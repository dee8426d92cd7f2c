"""Whether captions of scenes are true has intervals and verdicts: as a metric of a study, with texts and without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from study_runs import write_run

from softbellman.data.scenes import judge_captions
from softbellman.data.scenes.generator import generate_split
from softbellman.experiments import read_outputs
from softbellman.experiments.gather import gather
from softbellman.experiments.resampling import RESAMPLED, paired_test
from softbellman.experiments.study import build_study
from softbellman.report.study_text import verdicts
from softbellman.training.runfolder import RunFolder

IMAGES = 60
DATA = {"data__kind": "scenes", "data__test_pairs": str(IMAGES), "data__seed": "3", "data__difficulty": "2"}
WRONG = {"actor": 4, "joint": 2}  # every so many captions are another image's


def scenes_run(path: Path, algorithm: str, seed: int) -> Path:
    """A run on scenes, of which every few captions tell another image."""
    write_run(path, algorithm, seed=seed, sentences=IMAGES, **DATA)
    split = generate_split("test", seed=3, count=IMAGES, difficulty=2.0)
    order = np.random.default_rng(0).permutation(IMAGES)  # not that of the split
    records = []
    folder = RunFolder(path)
    for stage, every in WRONG.items():
        said = [
            split.captions[(k + seed) % IMAGES if place % every == 0 else k][0]
            for place, k in enumerate(order)
        ]
        folder.write_hypotheses(f"test-{stage}", said)
        folder.write_examples(
            f"test-{stage}",
            [
                {"source": split.names[k], "references": split.captions[k], "hypothesis": line}
                for k, line in zip(order, said, strict=True)
            ],
        )
        truth = 100 * judge_captions(said, [split.scenes[k] for k in order]).true
        records.append((stage, truth))
    lines = (path / "metrics.jsonl").read_text().splitlines()
    for stage, truth in records:
        lines = [
            line[:-1] + f', "test_truth": {truth}}}'
            if '"kind": "test"' in line and f'"stage": "{stage}"' in line
            else line
            for line in lines
        ]
    (path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [scenes_run(tmp_path / "runs" / f"erac-{seed}", "erac", seed) for seed in (1, 2)]


def test_statistics_are_those_of_the_logged_share(runs: list[Path]) -> None:
    for run in runs:
        for record in RunFolder(run).test_records():
            found = read_outputs(run, record["stage"]).statistics("truth", "none")
            assert found.shape == (IMAGES, 2)
            assert RESAMPLED["truth"].score(found.sum(0)) == pytest.approx(record["test_truth"])
            assert 30 < record["test_truth"] < 90


@pytest.mark.parametrize("texts", [True, False])
def test_truth_has_a_verdict(runs: list[Path], tmp_path: Path, texts: bool) -> None:
    pairs = [
        tuple(read_outputs(run, stage).statistics("truth", "none") for stage in ("joint", "actor"))
        for run in runs
    ]
    wanted = paired_test(RESAMPLED["truth"], pairs, starts=[1, 2])  # type: ignore[arg-type]
    gather([tmp_path / "runs"], tmp_path / "copy", texts=texts)
    (section,) = build_study([tmp_path / "copy"], orderings=["MLE < ERAC"]).sections
    assert "truth" in section.tested
    (contrast,) = section.steps.values()
    assert contrast.tests["truth"].pooled == wanted.pooled
    assert wanted.pooled.interval.high < 0
    said = dict(
        (text.split(" is ")[0], verdict) for verdict, text in verdicts(section.steps) if "% true" in text
    )
    assert len(said) == 1 and list(said.values()) == ["does not hold"]


def test_truth_of_other_data_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "erac-1", "erac", sentences=5)
    with pytest.raises(ValueError, match=r"captions of scenes, and .*erac-1 is on builtin data"):
        read_outputs(run, "joint").statistics("truth", "none")


def changed(run: Path, old: str, new: str) -> None:
    path = run / "config.yaml"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"), [("  seed: 3\n", "  seed: 4\n"), (f"test_pairs: {IMAGES}", "test_pairs: 50")]
)
def test_scenes_of_other_settings_are_noticed(runs: list[Path], tmp_path: Path, old: str, new: str) -> None:
    """Truth is not tested then, and the page says why; all else is."""
    for run in runs:
        changed(run, old, new)
    study = build_study([tmp_path / "runs"], orderings=["MLE < ERAC"])
    (contrast,) = study.sections[0].steps.values()
    assert set(contrast.tests) == {"bleu"}
    assert len(study.left_out) == 4  # two stages of two runs
    for sentence in study.left_out:
        assert "no paired test of the truth of" in sentence and "cannot be made again" in sentence
    assert gather([tmp_path / "runs"], tmp_path / "copy", texts=False)


def test_a_copy_without_texts_of_an_earlier_version_is_read(runs: list[Path], tmp_path: Path) -> None:
    """It has no numbers of truth; what it has is tested, and it can be copied again."""
    for run in gather([tmp_path / "runs"], tmp_path / "copy", texts=False):
        for path in (run / "hypotheses").glob("*.npz"):
            with np.load(path) as found:
                kept = {kind: found[kind] for kind in found.files if kind != "truth"}
            assert len(kept) < 2
            np.savez_compressed(path, **kept)
    study = build_study([tmp_path / "copy"], orderings=["MLE < ERAC"])
    (contrast,) = study.sections[0].steps.values()
    assert set(contrast.tests) == {"bleu"}
    assert "the copy without texts has no numbers of truth" in study.left_out[0]
    gather([tmp_path / "copy"], tmp_path / "again", texts=False)


def test_a_share_that_is_not_that_of_the_captions_is_noticed(runs: list[Path], tmp_path: Path) -> None:
    path = runs[0] / "metrics.jsonl"
    lines = path.read_text().splitlines()
    place = next(k for k, line in enumerate(lines) if '"test_truth": ' in line)
    head, _, _ = lines[place].partition('"test_truth": ')
    lines[place] = f'{head}"test_truth": 99.0}}'
    path.write_text("\n".join(lines) + "\n")
    (section,) = build_study([tmp_path / "runs"]).sections
    (warning,) = [text for text in section.warnings if "true captions" in text]
    assert "99.00 was logged" in warning and "erac-1" in warning
