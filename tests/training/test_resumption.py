"""A run is continued with its own data and settings, or not at all; damaged files are noticed."""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training.harness import Warnings, flip_bit, metrics_of, same_run

from softbellman import config
from softbellman.core.files import digest
from softbellman.training import load_run, run
from softbellman.training.checkpoint import load_state, save_modules
from softbellman.training.files import DamagedFile
from softbellman.training.generations import Generations
from softbellman.training.record import RunRecord
from softbellman.training.resumption import ResumeError, changed_settings
from softbellman.training.settings import DataSettings, Settings, follow_data


def contents(folder: Path) -> dict[Path, bytes]:
    return {
        path: path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def longer(settings: Settings, epochs: int) -> Settings:
    schedule = replace(settings.actor.schedule, epochs=epochs)
    return replace(settings, actor=replace(settings.actor, schedule=schedule))


@pytest.fixture
def short(tiny_settings: Settings) -> Settings:
    return replace(tiny_settings, algorithm="mle")


@pytest.fixture
def files(tmp_path: Path) -> DataSettings:
    """A parallel corpus as files."""
    folder = tmp_path / "text"
    folder.mkdir()
    words = [f"w{k}" for k in range(12)]
    for name, count in (("train", 60), ("val", 10), ("test", 10)):
        lines = [" ".join(words[(k * j + k) % 12] for j in range(2, 7)) for k in range(count)]
        for language in ("de", "en"):
            (folder / f"{name}.{language}").write_text("".join(f"{line}\n" for line in lines))
    return DataSettings(kind="parallel", path=str(folder), test="test", min_frequency=1)


def test_other_data_are_refused_before_anything_is_written(short: Settings) -> None:
    folder = run(short).folder
    before = contents(folder)
    other = replace(short, data=replace(short.data, seed=2))
    with pytest.raises(ResumeError, match=r"data\.seed is 1, given 2"):
        run(other, resume=folder)
    assert contents(folder) == before
    load_run(folder)


@pytest.mark.parametrize(
    ("name", "part"), (("train.de", "training data"), ("val.en", "validation data"), ("test.en", "test data"))
)
def test_edited_files_are_refused(short: Settings, files: DataSettings, name: str, part: str) -> None:
    settings = replace(short, data=files)
    folder = run(settings).folder
    before = contents(folder)
    path = Path(files.path) / name
    *others, last = path.read_text().splitlines()
    path.write_text("\n".join([*others, " ".join(reversed(last.split()))]) + "\n")  # the same words
    with pytest.raises(ResumeError, match=f"the data are not those .* {part} changed"):
        run(settings, resume=folder)
    assert contents(folder) == before


def test_moved_files_are_the_same_data(short: Settings, files: DataSettings, tmp_path: Path) -> None:
    folder = run(replace(short, data=files)).folder
    moved = tmp_path / "moved"
    Path(files.path).rename(moved)
    run(replace(short, data=replace(files, path=str(moved))), resume=folder)
    (change,) = json.loads((folder / "record.json").read_text())["changes"]
    assert change["key"] == "data.path" and change["to"] == str(moved)
    assert config.load(Settings, folder / "config.yaml").data.path == str(moved)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    (
        ("payoff", "metric", "rouge_l"),
        ("credit", "tau", 0.1),
        ("model", "hidden", 32),
        ("evaluation", "beam", 3),
        ("actor", "dropout", 0.5),
    ),
)
def test_other_settings_are_refused_by_name(
    tiny_settings: Settings, section: str, key: str, value: Any
) -> None:
    folder = run(tiny_settings).folder
    before = contents(folder)
    changed = replace(tiny_settings, **{section: replace(getattr(tiny_settings, section), **{key: value})})
    with pytest.raises(ResumeError, match=rf"{section}\.{key} is .*, given .*{value}"):
        run(changed, resume=folder)
    assert contents(folder) == before


def test_settings_of_stages_that_the_algorithm_does_not_have_may_differ(short: Settings) -> None:
    folder = run(short).folder
    metrics = metrics_of(folder)
    search = replace(short.search, margin=2.0)
    run(replace(short, search=search, joint=replace(short.joint, mle_weight=0.5)), resume=folder)
    assert metrics_of(folder) == metrics


def test_what_a_stage_reads_of_another_is_its_own(short: Settings) -> None:
    """Path consistency has no stage `critic`, but its values are a network with the settings of one."""
    record = RunRecord.read(run(replace(short, algorithm="pcl")).folder)
    changed = replace(short, algorithm="pcl", critic=replace(short.critic, dropout=0.5))
    with pytest.raises(ResumeError, match=r"critic\.dropout is"):
        changed_settings(record, changed)


def test_settings_that_an_older_version_did_not_know_had_their_defaults(tiny_settings: Settings) -> None:
    folder = run(tiny_settings).folder
    path = folder / "record.json"
    record = json.loads(path.read_text())
    for key in ("credit.trace", "credit.prior", "joint.average"):
        del record["settings"][key]
    path.write_text(json.dumps(record))
    with pytest.raises(ResumeError, match=r"credit\.trace is 0\.0, given 0\.5"):
        run(replace(tiny_settings, credit=replace(tiny_settings.credit, trace=0.5)), resume=folder)
    run(tiny_settings, resume=folder)
    assert json.loads(path.read_text())["changes"] == []


def test_more_epochs_of_the_last_stage_are_those_of_a_longer_run(short: Settings, tmp_path: Path) -> None:
    folder = run(short).folder
    with pytest.raises(ResumeError, match=r"actor\.schedule\.epochs is 2, given 1"):
        run(longer(short, 1), resume=folder)
    run(longer(short, 4), resume=folder)
    whole = run(replace(longer(short, 4), output=str(tmp_path / "whole"))).folder
    same_run(folder, whole)
    record = json.loads((folder / "record.json").read_text())
    (change,) = record["changes"]
    assert (change["key"], change["from"], change["to"]) == ("actor.schedule.epochs", 2, 4)
    assert (change["stage"], change["step"]) == ("actor", 20)
    assert [session["status"] for session in record["sessions"]] == ["finished", "finished"]
    assert config.load(Settings, folder / "config.yaml") == follow_data(longer(short, 4))


def test_an_emptied_config_is_not_taken_for_the_defaults(short: Settings) -> None:
    folder = run(short).folder
    (folder / "config.yaml").write_text("")
    with pytest.raises(ResumeError, match="algorithm is 'mle', given 'erac'"):
        run(replace(config.load(Settings, folder / "config.yaml"), device="cpu"), resume=folder)


def test_a_lost_or_damaged_record_is_named(short: Settings) -> None:
    folder = run(short).folder
    path = folder / "record.json"
    kept = path.read_bytes()
    for content in (b"", b"[]", b"{" * 100_000, kept[:-20], b'{"settings": 1}'):
        path.write_bytes(content)
        with pytest.raises(DamagedFile, match=r"record\.json is damaged"):
            run(short, resume=folder)
    path.unlink()
    with pytest.raises(DamagedFile, match=r"holds no record\.json"):
        run(short, resume=folder)


def test_emptied_metrics_are_told_of_and_the_score_is_known(short: Settings) -> None:
    first = run(short)
    (first.folder / "metrics.jsonl").write_text("")
    seen = Warnings()
    again = run(short, resume=first.folder, observer=seen)
    assert again.rows == first.rows
    assert "metrics.jsonl lacks 4 of the 4 records of stage actor" in seen.told[0]
    assert "metrics.jsonl lacks 4" in (first.folder / "log.txt").read_text()


def test_a_changed_vocabulary_is_named_and_not_rewritten(short: Settings) -> None:
    folder = run(short).folder
    path = folder / "target.vocabulary.json"
    changed = json.loads(path.read_text())
    changed["tokens"].reverse()
    path.write_text(json.dumps(changed))
    with pytest.raises(DamagedFile, match=r"target\.vocabulary\.json was changed"):
        run(short, resume=folder)
    assert json.loads(path.read_text()) == changed


@pytest.fixture
def stopped(short: Settings, tmp_path: Path) -> tuple[Path, Path]:
    """A run that has two of its four epochs, and the whole one."""
    folder = run(short).folder
    return folder, run(replace(longer(short, 4), output=str(tmp_path / "whole"))).folder


@pytest.mark.parametrize("suffix", (".safetensors", ".state", ".json"))
@pytest.mark.parametrize("fault", ("a bit", "half a file", "gone"))
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    short: Settings, stopped: tuple[Path, Path], suffix: str, fault: str
) -> None:
    folder, whole = stopped
    path = folder / "checkpoints" / f"actor-000002{suffix}"
    held = path.read_bytes()
    if fault == "a bit":
        flip_bit(path, 0.05 if suffix == ".json" else 0.9)
    elif fault == "half a file":
        path.write_bytes(held[: len(held) // 2])
    else:
        path.unlink()
    seen = Warnings()
    run(longer(short, 4), resume=folder, observer=seen)
    same_run(folder, whole)
    if suffix != ".json" or fault != "gone":  # without its .json a checkpoint was never finished
        assert str(path) in seen.told[0] and "the checkpoint before it is taken" in seen.told[0]
    if fault != "gone":
        assert (folder / "checkpoints" / "damaged" / path.name).exists()


@pytest.mark.parametrize("fault", ("a bit", "another file", "gone"))
def test_damaged_selected_weights_are_restored(
    short: Settings, stopped: tuple[Path, Path], fault: str
) -> None:
    folder, whole = stopped
    best = folder / "checkpoints" / "actor-best.safetensors"
    if fault == "a bit":
        flip_bit(best)
    elif fault == "another file":
        held = best.read_bytes()
        others = [path.read_bytes() for path in (folder / "checkpoints").glob("actor-0*.safetensors")]
        best.write_bytes(next(other for other in others if other != held))
    else:
        best.unlink()
    seen = Warnings()
    run(longer(short, 4), resume=folder, observer=seen)
    same_run(folder, whole)
    assert "actor-best.safetensors" in seen.told[0] and "restored from actor-00000" in seen.told[0]


def test_a_run_whose_checkpoints_are_all_damaged_says_so(short: Settings) -> None:
    folder = run(short).folder
    records = len(metrics_of(folder))
    for path in (folder / "checkpoints").glob("actor-0*.state"):
        flip_bit(path)
    with pytest.raises(DamagedFile, match=r"no checkpoint of stage actor .* is whole"):
        run(short, resume=folder)
    run(short, resume=folder)  # from the start of the stage
    assert len(metrics_of(folder)) == records


def test_damaged_weights_are_named_where_they_are_used(short: Settings) -> None:
    folder = run(short).folder
    best = folder / "checkpoints" / "actor-best.safetensors"
    held = flip_bit(best)
    with pytest.raises(DamagedFile, match=r"actor-best\.safetensors is damaged or was replaced"):
        load_run(folder)
    for content in (held[:100], b"", b"\xff" * 200, held[: len(held) // 2]):
        best.write_bytes(content)
        with pytest.raises(DamagedFile, match=r"actor-best\.safetensors is damaged"):
            load_run(folder)


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("/tmp/softbellman-hostile").touch, ())


def test_a_state_with_code_is_not_loaded(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"cursor": Hostile()}, buffer)
    for content in (buffer.getvalue(), pickle.dumps(Hostile())):
        path = tmp_path / "x.state"
        path.write_bytes(content)
        with pytest.raises(DamagedFile, match="it was not loaded") as caught:
            load_state(path, digest(content))
        assert "weights_only" not in str(caught.value)
    assert not Path("/tmp/softbellman-hostile").exists()


def test_old_checkpoints_go_and_the_selected_one_stays(tmp_path: Path) -> None:
    module = torch.nn.Linear(2, 1)
    generations = Generations(tmp_path, "actor", keep=2)
    facts: dict[str, Any] = {"records": 0, "seconds": 0.0, "ended": "", "score": 1.0, "best_step": 10}
    facts["best"] = save_modules(generations.best_path, {"actor": module}, stage="actor", step=10)
    for number in range(1, 6):
        generations.write({"actor": module}, {"n": number}, {**facts, "step": 10 * number, "best_number": 1})
        torch.nn.init.uniform_(module.weight)
    assert generations.numbers() == [1, 4, 5]
    found = generations.newest()
    assert found is not None and found[0].step == 50 and found[1] == {"n": 5}
    (tmp_path / "actor-000009.safetensors").write_bytes(b"half")  # killed before it counted
    assert generations.next_number() == 10
    assert generations.newest() is not None and not (tmp_path / "actor-000009.safetensors").exists()
