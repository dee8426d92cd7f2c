"""The truth of a caption as a payoff: its scene is found by the references, and runs train on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from softbellman import config
from softbellman.data.scenes import TrueCaption, judge_captions
from softbellman.data.scenes.generator import generate_split
from softbellman.training import run
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import Settings


class Few(TrueCaption):
    """The scenes of a small data set of its own."""

    seed, images, dev_images, test_images, difficulty = 5, 30, 8, 8, 2.0


SPLIT = generate_split("train", seed=5, count=30, difficulty=2.0)


def test_it_judges_as_the_metric_does() -> None:
    payoff = Few()
    lines = [SPLIT.captions[(k + 1) % 30 if k % 3 == 0 else k][k % 5] for k in range(29)] + ["a a circle"]
    scores = payoff(lines, SPLIT.captions)
    assert set(scores) == {0.0, 1.0}
    assert sum(scores) / 30 == pytest.approx(judge_captions(lines, SPLIT.scenes).true)
    assert payoff([], []) == []


def test_a_scene_is_found_without_the_captions_that_have_unknown_words() -> None:
    captions = [SPLIT.captions[4][0], SPLIT.captions[4][1] + " <unk>", *SPLIT.captions[4][2:]]
    assert Few().scene_of(captions) == SPLIT.scenes[4]


@pytest.mark.parametrize(
    ("captions", "words"),
    [
        (
            ["a circle that nobody drew"],
            "no scenes of seed 5 and difficulty 2 have the captions .*nobody drew",
        ),
        (["<unk>"], "no scenes of seed 5"),
        ([], "no scenes of seed 5"),
    ],
)
def test_captions_of_no_scene_are_refused(captions: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Few()(["a circle"], [captions])


def test_captions_that_two_scenes_share_are_refused() -> None:
    payoff = TrueCaption()
    payoff.__dict__["_scenes"] = {"a circle": {*SPLIT.scenes[:2]}, "a star": {SPLIT.scenes[1]}}
    with pytest.raises(ValueError, match="2 scenes of seed 1"):
        payoff.scene_of(["a circle"])
    assert payoff.scene_of(["a circle", "a star"]) == SPLIT.scenes[1]


MODULE = """from softbellman import config
from softbellman.data.scenes import TrueCaption

class Few(TrueCaption):
    seed, images, dev_images, test_images, difficulty = 5, 30, 8, 8, 2.0
"""

SMALL = {
    "data.kind": "scenes",
    "data.seed": "5",
    "data.pairs": "12",
    "data.dev_pairs": "4",
    "data.test_pairs": "4",
    "data.difficulty": "2",
    "data.max_length": "40",
    "data.min_frequency": "1",
    "payoff.references": "all",
    "evaluation.metrics": "[truth]",
    "evaluation.max_length": "12",
    "model.embedding": "16",
    "model.hidden": "16",
    "model.attention_size": "16",
    "model.image_width": "16",
    "algorithm": "raml",
    "actor.schedule.max_updates": "2",
    "augmented.schedule.max_updates": "2",
    "augmented.edits.samples": "1",
}


def paid(output: Path, **payoff: str) -> float:
    """The payoff of references that an update of RAML on them alone logs, tokens a caption."""
    pairs = {**SMALL, **{f"payoff.{key}": value for key, value in payoff.items()}, "output": str(output)}
    folder = RunFolder(run(config.load(Settings, overrides=pairs.items())).folder)
    (tested,) = [record for record in folder.test_records() if record["stage"] == "augmented"]
    assert 0 <= tested["test_truth"] <= 100
    (trained,) = [
        record
        for record in folder.read_metrics()
        if (record["stage"], record["kind"]) == ("augmented", "train")
    ]
    return float(trained["payoff"])


def test_a_run_is_paid_for_true_captions(tmp_path: Path) -> None:
    """A reference is worth as much as under BLEU alone, all of its length, half of it at its end."""
    (tmp_path / "few.py").write_text(MODULE)
    both = paid(tmp_path / "both", metric="sum", terms=f"[bleu=0.5, {tmp_path}/few.py:Few=0.5]")
    assert both == pytest.approx(paid(tmp_path / "bleu", metric="bleu"), rel=1e-5)
    assert both > 5
