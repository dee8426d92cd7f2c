"""Models of the user's own by name: built, recorded, found again, refused where they changed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training.harness import Killed, die_before, refused, same_run

from softbellman import config
from softbellman.cli.settings import load_resumed
from softbellman.core.files import digest
from softbellman.core.objects import UserCodeError
from softbellman.training import load_critic, load_run, run
from softbellman.training.files import DamagedFile
from softbellman.training.settings import ModelSettings, Settings
from softbellman.training.stages import JointStage

PLAIN = '''
import torch
from torch import nn


class Plain(nn.Module):
    """Maps (source, prefix) to logits, and no more."""

    def __init__(self, request):
        super().__init__()
        width = request.options["width"]
        self.request = request
        self.source = nn.Embedding(request.source_size, width)
        self.target = nn.Embedding(request.target_size, width)
        self.decoder = nn.GRU(width, width, batch_first=True)
        self.out = nn.Linear(width, request.target_size)

    def forward(self, source, prefix):
        source = source.repeat_interleave(len(prefix) // len(source), dim=0)
        mean = self.source(source).mean(1)
        states, _ = self.decoder(self.target(prefix), mean[None])
        return self.out(states)


class Factored(Plain):
    """With features and a projection."""

    def features(self, source, prefix):
        source = source.repeat_interleave(len(prefix) // len(source), dim=0)
        states, _ = self.decoder(self.target(prefix), self.source(source).mean(1)[None])
        return states

    def project(self, features):
        return self.out(features)

    def projection(self):
        return self.out.weight, self.out.bias


def nothing(request):
    return None


def failing(request):
    raise KeyError("width")


number = 3
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(PLAIN)
    return path


def with_model(settings: Settings, name: str, **options) -> Settings:
    return replace(settings, model=ModelSettings(kind=name, options={"width": 12, **options}, hidden=7))


@pytest.mark.parametrize("name", ["Plain", "Factored"])
@pytest.mark.parametrize("algorithm", ["erac", "vaml", "ocd"])
def test_every_part_of_a_run_takes_it(tiny_settings, file, name, algorithm):
    settings = replace(with_model(tiny_settings, f"{file}:{name}"), algorithm=algorithm)
    folder = run(settings).folder
    model = load_run(folder).model
    assert type(model).__name__ == name
    request = model.request
    assert (request.role, request.options, request.sizes["hidden"]) == ("actor", {"width": 12}, 7)
    assert (request.pad, request.bos, request.eos) == (0, 2, 3)
    if algorithm == "erac":
        critic = load_critic(folder).model
        assert critic.request.role == "critic"
        assert critic.request.source_size == critic.request.target_size == model.request.target_size


def test_a_relative_name_is_found_from_another_folder(tiny_settings, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = replace(with_model(tiny_settings, "./mine.py:Factored"), algorithm="mle")
    folder = run(settings).folder
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_run(folder).settings.model.kind == f"{file}:Factored"
    record = json.loads((folder / "record.json").read_text())
    wanted = {
        "name": f"{file}:Factored",
        "path": str(file),
        "digest": digest(file.read_bytes()),
        "version": "",
    }
    assert record["objects"] == [wanted]
    from softbellman.cli.show import describe
    from softbellman.training.record import RunRecord
    from softbellman.training.runfolder import RunFolder

    lines = list(describe(RunFolder.open(folder), RunRecord.read(folder)))
    assert f"brought     {file}:Factored ({wanted['digest'][:16]}, {file})" in lines


def test_a_project_that_was_moved_goes_on(tiny_settings, tmp_path, monkeypatch):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "mine.py").write_text(PLAIN)
    monkeypatch.chdir(tmp_path / "old")
    settings = replace(with_model(tiny_settings, "./mine.py:Plain"), algorithm="mle", output="run")
    run(settings)
    (tmp_path / "old").rename(tmp_path / "new")
    monkeypatch.chdir(tmp_path / "new")
    assert load_run("run").model is not None
    longer = load_resumed(Path("run"), [("actor.schedule.epochs", "9"), ("model.kind", "./mine.py:Plain")])
    run(longer, resume=Path("run"))
    assert load_run("run").settings.actor.schedule.epochs == 9
    Path("mine.py").write_text(PLAIN + "\n# changed\n")
    with pytest.raises(DamagedFile, match=r"the model .*mine\.py:Plain was changed in .*new/mine\.py"):
        load_run("run")


def test_a_changed_or_lost_file_is_one_sentence(tiny_settings, file):
    settings = replace(with_model(tiny_settings, f"{file}:Plain"), algorithm="mle")
    folder = run(settings).folder
    file.write_text(PLAIN + "\n# changed\n")
    words = r"the model .*mine\.py:Plain was changed in .*mine\.py: the run .* was trained with another one"
    refused(folder, settings, DamagedFile, words)
    file.unlink()
    refused(folder, settings, ValueError, r"model\.kind is .*mine\.py:Plain, but there is no file .*mine\.py")
    file.write_text(PLAIN)
    assert load_run(folder).model is not None


def test_a_module_is_named_with_its_version(tiny_settings, tmp_path, monkeypatch):
    (tmp_path / "my_networks").mkdir()
    (tmp_path / "my_networks" / "__init__.py").write_text(f"__version__ = '1.2'\n{PLAIN}")
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = replace(with_model(tiny_settings, "my_networks:Factored"), algorithm="mle")
    folder = run(settings).folder
    (record,) = json.loads((folder / "record.json").read_text())["objects"]
    assert (record["name"], record["version"]) == ("my_networks:Factored", "1.2")
    assert load_run(folder).settings.model.kind == "my_networks:Factored"
    import my_networks

    monkeypatch.setattr(my_networks, "__version__", "1.3")
    with pytest.raises(
        DamagedFile, match=r"my_networks:Factored is of version 1\.3, the recorded one was of 1\.2"
    ):
        load_run(folder)


def test_a_killed_run_is_repeated_bit_for_bit(tiny_settings, file, tmp_path, monkeypatch):
    settings = with_model(tiny_settings, f"{file}:Factored")
    settings = replace(settings, checkpoint=replace(settings.checkpoint, updates=1))
    whole = run(settings).folder
    die_before(monkeypatch, JointStage, 3)
    with pytest.raises(Killed):
        run(replace(settings, output=str(tmp_path / "again")))
    run(replace(settings, output=str(tmp_path / "again")), resume=tmp_path / "again")
    same_run(whole, tmp_path / "again")


def test_another_source_or_option_is_another_entry_of_the_cache(tiny_settings, file, tmp_path):
    cache = tmp_path / "cache"

    def entries(number: int, **options) -> int:
        settings = with_model(tiny_settings, f"{file}:Plain", **options)
        run(replace(settings, algorithm="mle", cache=str(cache), output=str(tmp_path / f"run{number}")))
        return len(list(cache.iterdir()))

    assert entries(0) == entries(1) == 1
    assert entries(2, width=13) == 2
    file.write_text(PLAIN + "\n# changed\n")
    assert entries(3) == 3


def test_options_are_settings_that_cannot_change(tiny_settings, file):
    from softbellman.training.record import RunRecord
    from softbellman.training.resumption import ResumeError, changed_settings

    before = with_model(tiny_settings, f"{file}:Plain")
    record = RunRecord.create(Path("run"), config.flatten(before), {})
    with pytest.raises(ResumeError, match=r"model\.options is"):
        changed_settings(record, with_model(tiny_settings, f"{file}:Plain", more=1))
    assert changed_settings(record, before) == {}


def test_a_warmup_wants_a_projection(tiny_settings, file):
    warmup = replace(tiny_settings.warmup, schedule=tiny_settings.actor.schedule)
    settings = replace(with_model(tiny_settings, f"{file}:Plain"), warmup=warmup)
    with pytest.raises(ValueError, match=r"the model has no projection\(\).*say warmup\.schedule\.epochs: 0"):
        run(settings)
    assert not Path(settings.output).exists()
    held = run(with_model(replace(settings, warmup=warmup), f"{file}:Factored")).folder
    assert (held / "checkpoints" / "warmup-best.safetensors").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mine.py:nothing", "must return a torch.nn.Module, got NoneType for the actor"),
        ("mine.py:number", "must name a function that returns a module"),
        ("mine.py:Plan", "has no Plan; nearest: Plain"),
        ("other.py:Plain", "there is no file .*other.py"),
        ("no_such_module_here:Plain", "there is no module no_such_module_here"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_no_folder(tiny_settings, file, monkeypatch, name, words):
    monkeypatch.chdir(file.parent)
    settings = replace(with_model(tiny_settings, name), algorithm="mle")
    with pytest.raises(ValueError, match=words):
        run(settings)
    assert not Path(settings.output).exists()


def test_a_function_that_raises_keeps_its_trace(tiny_settings, file, monkeypatch):
    monkeypatch.chdir(file.parent)
    settings = replace(with_model(tiny_settings, "mine.py:failing"), algorithm="mle")
    with pytest.raises(UserCodeError, match="failed to build the actor: KeyError: 'width'") as caught:
        run(settings)
    assert isinstance(caught.value.__cause__, KeyError) and not Path(settings.output).exists()


def test_a_run_folder_that_moved_still_loads(tiny_settings, file, tmp_path):
    folder = run(replace(with_model(tiny_settings, f"{file}:Plain"), algorithm="mle")).folder
    moved = tmp_path / "moved"
    shutil.move(folder, moved)
    prefix = torch.tensor([[2, 5]])
    assert load_run(moved).model(torch.tensor([[5, 4]]), prefix).isfinite().all()
