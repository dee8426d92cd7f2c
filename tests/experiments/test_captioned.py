"""What a sheet shows, from runs that were really trained on a few images."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from softbellman.experiments.captioned import caption_images, read_test_set
from softbellman.training import load_run, run
from softbellman.training.generations import Generations
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import (
    ActorStageSettings,
    CriticStageSettings,
    DataSettings,
    EvaluationSettings,
    JointStageSettings,
    ModelSettings,
    OptimizerSettings,
    ScheduleSettings,
    Settings,
    WarmUpSettings,
)

ANIMALS = ["dog", "cat", "horse", "bird"]


def write_images(folder: Path, kind: str) -> None:
    """24 images of one animal each, two captions an image (the last one: a long caption alone), in one of the formats."""
    features = np.random.default_rng(1).normal(size=(24, 4)).astype(np.float32) * 0.1
    records = []
    for image in range(24):
        features[image, image % 4] += 2
        animal = ANIMALS[image % 4]
        captions = (
            [f"A {animal} runs over the grass .", f"the {animal} on the grass"]
            if image < 23
            else [" ".join(["a"] * 15)]
        )
        split = "train" if image < 14 else "val" if image < 18 else "test"
        records.append((f"{image}.png", split, captions))
    np.save(folder / "features.npy", features)
    (folder / "features.names.txt").write_text("".join(f"{name}\n" for name, _, _ in records))
    if kind == "tsv":
        lines = (f"{name}\t{split}\t{caption}\n" for name, split, group in records for caption in group)
        (folder / "captions.tsv").write_text("".join(lines))
    elif kind == "karpathy":
        images = [
            {"filename": name, "split": split, "sentences": [{"raw": caption} for caption in group]}
            for name, split, group in records
        ]
        (folder / "dataset_x.json").write_text(json.dumps({"images": images}))
    else:
        for wanted in ("train", "val", "test"):
            chosen = [(name, group) for name, split, group in records if split == wanted]
            content = {
                "images": [{"id": n, "file_name": name} for n, (name, _) in enumerate(chosen)],
                "annotations": [{"image_id": n, "caption": c} for n, (_, group) in enumerate(chosen) for c in group],
            }  # fmt: skip
            (folder / f"{wanted}.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """ERAC on tab-separated captions, and maximum likelihood of another length on the same captions as Karpathy's JSON."""
    folder = tmp_path_factory.mktemp("captions")
    for kind in ("tsv", "karpathy", "coco"):
        (folder / kind).mkdir()
        write_images(folder / kind, kind)
    one = ScheduleSettings(batch_size=10, epochs=1)
    settings = Settings(
        device="cpu", threads=1, output=str(folder / "erac"),
        data=DataSettings(
            kind="captions", path=str(folder / "tsv"), test="test", min_frequency=1, punctuation="drop"
        ),
        model=ModelSettings(embedding=8, hidden=8, attention_size=8),
        actor=ActorStageSettings(
            attention="none", dropout=0.0, schedule=ScheduleSettings(batch_size=7, epochs=20, decay=1.0, max_decays=99),
            optimizer=OptimizerSettings(name="adam", learning_rate=3e-2),
        ),
        warmup=WarmUpSettings(schedule=one), critic=CriticStageSettings(schedule=one),
        joint=JointStageSettings(schedule=one, actor_optimizer=OptimizerSettings(learning_rate=5e-2)),
        evaluation=EvaluationSettings(beam=2, batch_size=10, max_length=8),
    )  # fmt: skip
    short = replace(settings.actor, schedule=replace(settings.actor.schedule, epochs=1))
    mle = replace(
        settings,
        algorithm="mle",
        output=str(folder / "mle"),
        actor=short,
        data=replace(settings.data, path=str(folder / "karpathy"), captions="karpathy"),
    )
    coco = replace(
        mle,
        output=str(folder / "coco-run"),
        data=replace(settings.data, path=str(folder / "coco"), captions="coco", max_length=10),
        evaluation=replace(settings.evaluation, drop_long=True),
    )
    return {name: run(each).folder for name, each in (("erac", settings), ("mle", mle), ("coco", coco))}


def lines_of(folder: Path, stage: str) -> list[str]:
    return (folder / "hypotheses" / f"test-{stage}.txt").read_text().splitlines()


def test_captions_are_those_of_the_hypotheses(runs):
    entries = caption_images([runs["erac"]], ["20.png", "18.png"])
    assert [entry.image for entry in entries] == ["20.png", "18.png"]
    assert entries[0].references == ("A dog runs over the grass .", "the dog on the grass")
    for entry, row in zip(entries, (2, 0), strict=True):
        assert [(said.system, said.caption, said.bleu) for said in entry.said if said.system == "MLE"] == [
            ("MLE", lines_of(runs["erac"], "actor")[row], None)
        ]
        assert entry.said[-1].caption == lines_of(runs["erac"], "joint")[row]
    assert len(set(lines_of(runs["erac"], "actor"))) > 1  # the captions depend on the image


def test_starts_of_several_runs_have_names_of_their_own(runs):
    (entry,) = caption_images([runs["erac"], runs["mle"]], ["19.png"])
    said = {each.system: each.caption for each in entry.said}
    assert list(said) == ["MLE (epochs 20)", "MLE (epochs 1)", "ERAC"]
    assert said["ERAC"] == lines_of(runs["erac"], "joint")[1]
    (twice,) = caption_images([runs["erac"], runs["erac"]], ["19.png"])
    assert [each.system for each in twice.said] == ["MLE", "ERAC"]


def test_what_is_not_there_is_decoded_anew(runs, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(runs["erac"], copy)
    shutil.rmtree(copy / "hypotheses")
    images = ["22.png", "18.png", "19.png"]
    assert caption_images([copy], images) == caption_images([runs["erac"]], images)


def test_the_last_weights_are_decoded_whatever_was_selected(runs, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(runs["erac"], copy)
    folder = RunFolder(copy)
    checkpoint = asdict(folder.newest_checkpoint("joint"))
    facts = {name: checkpoint[name] for name in checkpoint.keys() - {"stage", "number", "weights", "state"}}
    start = load_run(copy, "actor-best").model
    Generations(folder.checkpoints, "joint").write({"actor": start}, {}, facts)
    for entry in caption_images([copy], ["18.png", "20.png", "22.png"], last=True):
        said = {each.system: each.caption for each in entry.said}
        assert list(said) == ["MLE", "ERAC (last)"]
        assert said["ERAC (last)"] == said["MLE"]


def test_the_order_is_that_of_the_test_without_what_was_left_out(runs):
    assert read_test_set([runs["erac"]]).names == [f"{n}.png" for n in range(18, 24)]
    dropped = read_test_set([runs["coco"]])
    assert dropped.names == [f"{n}.png" for n in range(18, 23)] and len(lines_of(runs["coco"], "actor")) == 5
    assert caption_images([runs["coco"]], ["22.png"])[0].said[0].caption == lines_of(runs["coco"], "actor")[4]


def test_sentence_bleu_by_hand(runs, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(runs["mle"], copy)
    path = copy / "hypotheses" / "test-actor.txt"
    path.write_text("a horse runs over the grass\nthe horse horse\n\n\nhorse\n\n")
    found = caption_images([copy], ["18.png", "19.png", "20.png", "22.png"], bleu=True)
    said = [entry.said[0].bleu for entry in found]
    # 18 and 22 are horses, 19 is a bird: the closest reference of three words and of one has five
    assert said[0] == pytest.approx(100.0)
    assert said[1] == pytest.approx(100 * (1 / 3 * 1 / 3 * 1 / 2 * 1) ** 0.25 * np.exp(1 - 5 / 3))
    assert said[2] == 0.0  # nothing was said
    assert said[3] == pytest.approx(100 * np.exp(1 - 5))  # an order longer than the caption counts 1/1


def test_errors_name_the_run_or_the_image(runs, tmp_path):
    with pytest.raises(ValueError, match=r"image '3\.png' is not in the test set"):
        caption_images([runs["erac"]], ["3.png"])
    with pytest.raises(ValueError, match=r"coco-run has another test set than .*erac"):
        read_test_set([runs["erac"], runs["coco"]])
    copy = tmp_path / "copy"
    shutil.copytree(runs["mle"], copy)
    (copy / "hypotheses" / "test-actor.txt").write_text("one line\n")
    with pytest.raises(ValueError, match=r"test-actor\.txt has 1 lines, the test set 6 images"):
        caption_images([copy], ["18.png"])
    config = (copy / "config.yaml").read_text().replace("kind: captions", "kind: parallel")
    (copy / "config.yaml").write_text(config)
    with pytest.raises(ValueError, match="copy is a run on parallel text"):
        read_test_set([copy])
