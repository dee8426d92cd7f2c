"""The cache of finished stages: whole entries alone count, and their key holds what decides the numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training.harness import Warnings, flip_bit, metrics_of, same_run

from softbellman.core.files import digest
from softbellman.training import cache as cache_module
from softbellman.training import run
from softbellman.training.cache import deciding_facts
from softbellman.training.settings import PayoffSettings, Settings


@pytest.fixture
def cached(tiny_settings: Settings, tmp_path: Path) -> Settings:
    return replace(tiny_settings, algorithm="mle", cache=str(tmp_path / "cache"))


def entry(settings: Settings) -> Path:
    (found,) = Path(settings.cache).iterdir()
    return found


@pytest.mark.parametrize(
    "name", ("actor-best.safetensors", "actor-000002.state", "metrics.jsonl", "contents.json")
)
@pytest.mark.parametrize("fault", ("a bit", "half a file", "gone"))
def test_a_damaged_entry_is_a_miss_with_a_warning(
    cached: Settings, tmp_path: Path, name: str, fault: str
) -> None:
    first = run(cached).folder
    path = entry(cached) / name
    held = path.read_bytes()
    if fault == "gone":
        path.unlink()
    elif fault == "a bit":
        flip_bit(path, 0.5)
    else:
        path.write_bytes(held[: len(held) // 2])
    seen = Warnings()
    second = run(replace(cached, output=str(tmp_path / "second")), observer=seen).folder
    assert "is damaged; the stage is trained anew" in seen.told[0] and str(entry(cached)) in seen.told[0]
    same_run(first, second)
    third, quiet = replace(cached, output=str(tmp_path / "third")), Warnings()
    same_run(first, run(third, observer=quiet).folder)  # the entry is whole again
    assert quiet.told == []


@pytest.mark.parametrize("contents", ([1], {}, 7), ids=str)
def test_an_entry_without_names_is_a_miss(cached: Settings, tmp_path: Path, contents: object) -> None:
    run(cached)
    (entry(cached) / "contents.json").write_text(json.dumps(contents))
    seen = Warnings()
    run(replace(cached, output=str(tmp_path / "second")), observer=seen)
    assert "is damaged; the stage is trained anew" in seen.told[0]


def test_an_entry_that_names_another_place_is_a_miss(cached: Settings, tmp_path: Path) -> None:
    """What an entry names is written by that name: `../` would lead out of the run folder."""
    run(cached)
    (tmp_path / "outside").write_text("hostile")
    path = entry(cached) / "contents.json"
    contents = json.loads(path.read_text()) | {"../../outside": digest(b"hostile")}
    path.write_text(json.dumps(contents))
    seen = Warnings()
    run(replace(cached, output=str(tmp_path / "deeper" / "second")), observer=seen)
    assert "is damaged; the stage is trained anew" in seen.told[0]
    assert not (tmp_path / "deeper" / "outside").exists()


def test_half_a_line_of_metrics_before_a_cached_stage(cached: Settings, tmp_path: Path) -> None:
    """A run that was killed in its first validation takes the stage from the cache when it is continued."""
    first = run(cached).folder
    second = replace(cached, output=str(tmp_path / "second"))
    folder = run(second).folder
    for path in (folder / "checkpoints").iterdir():
        path.unlink()
    (folder / "metrics.jsonl").write_text('{"stage": "actor", "ki')
    run(second, resume=folder)
    run(second, resume=folder)
    same_run(first, folder)


def test_the_key_holds_device_versions_and_sources(cached: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    key = cache_module.StageCache.key

    def noting(self, stage):
        for name, value in (("", ""), ("__version__", "9.9.9")):
            with monkeypatch.context() as patch:
                if name:
                    patch.setattr(torch, name, value)
                keys.add(key(self, stage))
        with monkeypatch.context() as patch:
            patch.setattr(cache_module, "package_digest", lambda: "other")
            keys.add(key(self, stage))
        with monkeypatch.context() as patch:
            patch.setattr(self, "_device", torch.device("meta"))
            keys.add(key(self, stage))
        return key(self, stage)

    monkeypatch.setattr(cache_module.StageCache, "key", noting)
    run(cached)
    assert len(keys) == 4


@pytest.mark.parametrize("algorithm", ["erac", "vaml"])
def test_the_key_of_a_reader_says_whether_it_reads_all_references(
    tiny_settings: Settings, algorithm: str
) -> None:
    """The reader's input is another one, in its warm-up too."""
    warmup = replace(tiny_settings.warmup, schedule=replace(tiny_settings.warmup.schedule, epochs=1))
    settings = replace(
        tiny_settings, algorithm=algorithm, warmup=warmup, payoff=PayoffSettings(references="all")
    )
    every = replace(settings, payoff=replace(settings.payoff, reads="references"))
    for stage in ("warmup", "critic" if algorithm == "erac" else "oracle"):
        assert deciding_facts(settings, stage) != deciding_facts(every, stage), stage
    assert deciding_facts(settings, "actor") == deciding_facts(every, "actor")
    one = replace(settings, payoff=replace(settings.payoff, references="one"))
    assert deciding_facts(settings, "warmup") == deciding_facts(
        one, "warmup"
    )  # which reads the target in both


def test_an_entry_is_built_aside(cached: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(Exception):
        pass

    def dying(*_):
        raise Killed

    monkeypatch.setattr(cache_module, "write_json", dying)
    with pytest.raises(Killed):
        run(cached)
    assert all(path.name.startswith(".") for path in Path(cached.cache).iterdir())
    monkeypatch.undo()
    folder = run(cached, resume=Path(cached.output)).folder
    assert json.loads((folder / "record.json").read_text())["sessions"][-1]["status"] == "finished"
    assert [path.name.startswith("actor-") for path in Path(cached.cache).glob("actor-*")] == [True]
    assert metrics_of(folder)


def test_two_algorithms_of_one_file_share_nothing_of_their_own(
    tiny_settings: Settings, tmp_path: Path
) -> None:
    """The second was given the first one's weights."""
    path = tmp_path / "mine.py"
    path.write_text(
        "from softbellman.training import ActorObjective, Algorithm, StageSpec\n"
        "spec = StageSpec('own', ActorObjective, shared=True)\n"
        "one, two = Algorithm('one', ('actor', spec)), Algorithm('two', ('actor', spec))\n"
    )
    one, two = (
        deciding_facts(replace(tiny_settings, algorithm=f"{path}:{name}"), "own") for name in ("one", "two")
    )
    assert one is not None and two is not None and one != two
