"""`softbellman show`: the record of a run for people, and as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from softbellman.training import run
from softbellman.training.settings import DataSettings, ModelSettings, Settings

RunCommand = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    settings = Settings(
        algorithm="mle",
        output=str(tmp_path / "run"),
        device="cpu",
        data=DataSettings(pairs=60, dev_pairs=5, test_pairs=5, difficulty=1.0, min_frequency=1),
        model=ModelSettings(embedding=8, hidden=8, attention_size=8),
    )
    schedule = replace(settings.actor.schedule, epochs=1)
    return run(replace(settings, actor=replace(settings.actor, schedule=schedule))).folder


def test_the_record_is_shown(softbellman: RunCommand, folder: Path) -> None:
    code, out, err = softbellman("show", str(folder))
    assert code == 0 and not err
    for text in (
        "algorithm   mle, seed 1",
        "state       finished 20",
        "ended by",
        "epochs",
        "software    softbellman ",
        "torch ",
        "machine     host ",
        "threads ",
        "data        training data ",
        "model.hidden: 8",
        "actor.schedule.epochs: 1",
    ):
        assert text in out, text
    assert "payoff.metric" not in out  # as by default
    # an epoch of 60 pairs is too little to say a word
    assert "health of actor: broken: translations have 0.00 times the references' length" in out
    assert "tokens / reference tokens" in out


def test_as_json(softbellman: RunCommand, folder: Path) -> None:
    found = json.loads(softbellman("show", str(folder), "--json").out)
    assert found["settings"]["model.hidden"] == 8 and found["stages"]["actor"]["ended"] == "epochs"
    (session,) = found["sessions"]
    assert session["status"] == "finished" and session["torch"] and session["command"]
    assert found["results"][0]["kind"] == "test"
    assert [finding["rule"] for finding in found["health"]["actor"]["findings"]] == ["few words"]
    assert found["health"]["actor"]["measures"]["bleu"]["unit"] == "BLEU, 0 to 100"
    examples = [
        json.loads(line) for line in (folder / "hypotheses" / "test-actor.jsonl").read_text().splitlines()
    ]
    assert len(examples) == 5 and set(examples[0]) == {"source", "references", "hypothesis"}
    assert [example["hypothesis"] for example in examples] == (
        folder / "hypotheses" / "test-actor.txt"
    ).read_text().splitlines()


def test_what_is_no_run_is_named(softbellman: RunCommand, folder: Path, tmp_path: Path) -> None:
    code, _, err = softbellman("show", str(tmp_path))
    assert code == 2 and "is not a run folder" in err
    (folder / "record.json").write_text("{")
    code, _, err = softbellman("show", str(folder))
    assert code == 2 and "record.json is damaged" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "change",
    ({"sessions": []}, {"sessions": ["x"]}, {"sessions": [{}]}, {"settings": {}}, {"data": {"test_data": 3}}),
    ids=str,
)
def test_a_record_that_is_none_is_one_sentence(
    softbellman: RunCommand, folder: Path, change: dict[str, object]
) -> None:
    path = folder / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    code, _, err = softbellman("show", str(folder))
    assert code == 2 and err.count("\n") == 1 and "record.json is damaged" in err


def test_test_records_without_names_are_passed_over(softbellman: RunCommand, folder: Path) -> None:
    with open(folder / "metrics.jsonl", "a") as stream:
        stream.write('{"kind": "test"}\n{"kind": "test", "stage": ["actor"], "system": 3}\n')
    for words in (("show", str(folder)), ("table", str(folder))):
        code, out, err = softbellman(*words)
        assert code == 0 and out and not err


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ("record.json", "checkpoints/actor-000001.json"))
def test_a_named_pipe_is_not_waited_for(softbellman: RunCommand, folder: Path, name: str) -> None:
    path = (
        next(iter(sorted((folder / "checkpoints").glob("actor-0*.json"))))
        if "actor" in name
        else folder / name
    )
    path.unlink()
    os.mkfifo(path)
    softbellman("show", str(folder))
