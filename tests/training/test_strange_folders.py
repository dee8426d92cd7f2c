"""What other programs and hands do to a run's folder: noticed, or survived, but never taken for what it is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from training.harness import Warnings, metrics_of, same_run

from softbellman import config
from softbellman.core.devices import choose_device
from softbellman.experiments.collect import OtherDataError, check_same_data, read_run
from softbellman.training import load_run, run
from softbellman.training.files import DamagedFile
from softbellman.training.lock import FolderMovedError
from softbellman.training.runfolder import RunFolderError
from softbellman.training.settings import DataSettings, Settings


@pytest.fixture
def short(tiny_settings: Settings) -> Settings:
    return replace(tiny_settings, algorithm="mle")


def test_checkpoints_of_a_lost_record_are_no_start_of_another_run(short: Settings) -> None:
    folder = run(short).folder
    for name in ("record.json", "metrics.jsonl"):
        (folder / name).unlink()
    with pytest.raises(RunFolderError, match="holds checkpoints of a run whose record"):
        run(replace(short, seed=9, output=str(folder)))


def test_a_settings_file_of_the_user_is_not_written_over(short: Settings, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "config.yaml"
    mine.parent.mkdir()
    mine.write_text("seed: 3  # the one that worked\n")
    with pytest.raises(RunFolderError, match=r"config\.yaml is in the way"):
        run(replace(short, output=str(mine.parent)))
    assert mine.read_text() == "seed: 3  # the one that worked\n"


def test_a_run_goes_on_without_its_metrics(short: Settings) -> None:
    folder = run(short).folder
    (folder / "metrics.jsonl").unlink()
    seen = Warnings()
    run(short, resume=folder, observer=seen)
    assert any("metrics.jsonl lacks" in line for line in seen.told)


def test_a_line_that_is_no_record_stops_no_run(short: Settings) -> None:
    folder = run(short).folder
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "garbage", *lines[2:], ""]))
    seen = Warnings()
    run(short, resume=folder, observer=seen)
    assert any("lacks 1 of the" in line for line in seen.told)


@pytest.mark.parametrize(
    "change", ({"records": 1}, {"number": 77}, {"score": 99.0}, {"seconds": "x"}, {"records": None}), ids=str
)
def test_an_edited_description_of_a_checkpoint_is_noticed(short: Settings, change: dict[str, object]) -> None:
    folder = run(short).folder
    records = metrics_of(folder)
    path = max((folder / "checkpoints").glob("actor-0*.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    seen = Warnings()
    run(short, resume=folder, observer=seen)
    assert any(f"{path} was changed" in line for line in seen.told)
    assert len(metrics_of(folder)) == len(records)


def test_a_folder_in_the_place_of_a_description_is_noticed(short: Settings) -> None:
    folder = run(short).folder
    path = max((folder / "checkpoints").glob("actor-0*.json"))
    path.unlink()
    path.mkdir()
    seen = Warnings()
    run(short, resume=folder, observer=seen)
    assert any(f"{path} is no plain file" in line for line in seen.told)


def test_a_record_without_digests_lets_no_data_pass(short: Settings) -> None:
    folder = run(short).folder
    path = folder / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "data": {}}))
    with pytest.raises(DamagedFile, match="does not say what data"):
        run(short, resume=folder)


def test_lost_checkpoints_are_told(short: Settings, tmp_path: Path) -> None:
    whole = run(short).folder
    other = run(replace(short, output=str(tmp_path / "other"))).folder
    for path in (other / "checkpoints").iterdir():
        path.unlink()
    seen = Warnings()
    run(short, resume=other, observer=seen)
    assert any("holds no checkpoint of stage actor, which had begun" in line for line in seen.told)
    same_run(whole, other)


def test_a_changed_vocabulary_is_not_used(short: Settings) -> None:
    folder = run(short).folder
    load_run(folder)
    path = folder / "target.vocabulary.json"
    tokens = json.loads(path.read_text())
    held = tokens["tokens"] if isinstance(tokens, dict) else tokens
    held[-1], held[-2] = held[-2], held[-1]
    path.write_text(json.dumps(tokens))
    with pytest.raises(DamagedFile, match=r"target\.vocabulary\.json was changed"):
        load_run(folder)


def test_weights_of_another_run_are_not_used(short: Settings, tmp_path: Path) -> None:
    folder = run(short).folder
    other = run(replace(short, seed=2, output=str(tmp_path / "other"))).folder
    for name in (
        "actor-best.safetensors",
        max(p.name for p in (folder / "checkpoints").glob("actor-0*.safetensors")),
    ):
        path = folder / "checkpoints" / name
        held = path.read_bytes()
        path.write_bytes((other / "checkpoints" / name).read_bytes())
        with pytest.raises(DamagedFile, match=f"{name} is damaged or was replaced"):
            load_run(folder, "best" if "best" in name else "last")
        path.write_bytes(held)
        load_run(folder, "last")


class Meddler(Warnings):
    """Does something to the folder after the first validation."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self.act, self.done = act, False

    def validated(self, stage: str, epoch: float, metrics: Mapping[str, float], *, best: bool) -> None:
        if not self.done:
            self.done = True
            self.act()


def test_a_folder_that_is_renamed_ends_the_run_and_can_be_continued(short: Settings, tmp_path: Path) -> None:
    whole = run(short).folder
    old, new = tmp_path / "old", tmp_path / "new"
    with pytest.raises(FolderMovedError, match="was moved or deleted"):
        run(replace(short, output=str(old)), observer=Meddler(lambda: old.rename(new)))
    assert not old.exists()
    same_run(whole, run(replace(short, output=str(new)), resume=new).folder)


@pytest.mark.parametrize("what", ("folder", "lock"))
def test_a_folder_or_a_lock_that_is_deleted_ends_the_run(short: Settings, tmp_path: Path, what: str) -> None:
    place = tmp_path / "gone"
    act = partial(shutil.rmtree, place) if what == "folder" else (place / "lock").unlink
    with pytest.raises(FolderMovedError, match="was moved or deleted"):
        run(replace(short, output=str(place)), observer=Meddler(act))
    assert place.exists() == (what == "lock")


def test_a_cache_that_cannot_be_written_ends_no_run(short: Settings, tmp_path: Path) -> None:
    place = tmp_path / "a file"
    place.write_text("")
    seen = Warnings()
    found = run(replace(short, cache=str(place)), observer=seen)
    assert found.rows and any("is not kept in the cache" in line for line in seen.told)


def test_runs_that_saw_other_test_sets_are_no_table(short: Settings, tmp_path: Path) -> None:
    words = [f"w{k}" for k in range(12)]
    text = tmp_path / "text"
    text.mkdir()
    for name, count in (("train", 60), ("val", 10), ("test", 10)):
        lines = [" ".join(words[(k * j + k) % 12] for j in range(2, 7)) for k in range(count)]
        for language in ("de", "en"):
            (text / f"{name}.{language}").write_text("".join(f"{line}\n" for line in lines))
    data = DataSettings(kind="parallel", path=str(text), test="test", min_frequency=1)
    runs = []
    for name in ("first", "second"):
        runs.append(read_run(run(replace(short, data=data, output=str(tmp_path / name))).folder))
        for language in ("de", "en"):
            path = text / f"test.{language}"
            path.write_text("".join(path.read_text().splitlines(keepends=True)[:5]))
    with pytest.raises(OtherDataError, match="the test sets were not the same"):
        check_same_data(*runs)


@pytest.mark.parametrize("name", ("mps", "meta", "xla"))
def test_devices_without_kernels_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="device must be auto, cpu, cuda or cuda:NUMBER"):
        choose_device(name)


def test_threads_have_a_largest_number(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("threads: 100000\n")
    with pytest.raises(ValueError, match=r"threads.*from 0 to 1024"):
        config.load(Settings, path)


def test_a_key_of_a_section_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("data: {path: /nowhere}\n")
    with pytest.raises(ValueError, match=r"data\.path is given") as found:
        config.load(Settings, path)
    assert "data.data" not in str(found.value)
