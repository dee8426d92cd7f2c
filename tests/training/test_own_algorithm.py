"""Algorithms and stages of the user's own: trained, recorded, found again, refused where they changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training.harness import Killed, refused, same_run

from softbellman import config
from softbellman.cli.settings import load_resumed, load_settings
from softbellman.cli.show import describe
from softbellman.config import ConfigError
from softbellman.core.files import digest
from softbellman.core.objects import UserCodeError
from softbellman.experiments.collect import read_run
from softbellman.report.curve import _lay_out, _specs_of
from softbellman.training import (
    ActorObjective,
    Metric,
    load_critic,
    load_run,
    run,
)
from softbellman.training.cache import deciding_facts
from softbellman.training.files import DamagedFile
from softbellman.training.own_algorithm import algorithm_of
from softbellman.training.record import RunRecord
from softbellman.training.resumption import ResumeError, changed_settings
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import Settings
from softbellman.training.stages import SPECS
from softbellman.training.sums import means

SOURCE = """
from dataclasses import dataclass

from softbellman.objectives import Objective
from softbellman.training import ActorObjective, Algorithm, Metric, StageSettings, StageSpec


@dataclass(frozen=True)
class FocalSettings(StageSettings):
    gamma: float = 2.0
    "Power of what is missing from a token's probability."


def focal(logits, labels, *, sequences, gamma):
    said = logits.log_softmax(-1).gather(1, labels[:, None])[:, 0]
    missing = (1 - said.exp()).detach()
    return Objective(
        -(missing**gamma * said).sum() / sequences,
        {"missing": missing.sum(), "tokens": missing.new_tensor(len(labels))},
    )


class Focal(ActorObjective):
    name = "focal"

    def objective(self, batch, step):
        logits, labels = self.logits(batch)
        return focal(logits, labels, sequences=len(batch), gamma=self.settings.gamma)


FOCAL = StageSpec(
    "focal", Focal, label="focal loss", settings=FocalSettings, metrics={"missing": Metric("tokens", "share")},
    shared=True,
)
algorithm = Algorithm("Focal", ("actor", FOCAL))
then_critic = Algorithm("Focal, then ERAC", ("actor", FOCAL, "warmup", "critic", "joint"))
raml_erac = Algorithm("RAML, then ERAC", ("actor", "augmented", "warmup", "critic", "joint"))


class Misnamed(Focal):
    name = "vocal"


misnamed = Algorithm("Misnamed", ("actor", StageSpec("focal", Misnamed)))
number = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


def with_algorithm(settings: Settings, name: str, **stages) -> Settings:
    focal = {"schedule": {"epochs": 1, "batch_size": 20}, **stages}
    return replace(settings, algorithm=name, stages={"focal": focal})


def test_a_run_has_it_and_records_it(tiny_settings, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(with_algorithm(tiny_settings, "./mine.py:algorithm", gamma=1.5))
    assert [(row.system, row.stage) for row in result.rows] == [("MLE", "actor"), ("Focal", "focal")]
    record = RunRecord.read(result.folder)
    name = f"{file}:algorithm"
    wanted = {"name": name, "path": str(file), "digest": digest(file.read_bytes()), "version": ""}
    assert record.objects == [wanted] and record.settings["algorithm"] == name
    focal = record.settings["stages"]["focal"]
    assert focal["gamma"] == 1.5 and focal["schedule"]["epochs"] == 1
    assert focal["optimizer"]["learning_rate"] == 1e-3  # a default, written out
    trained = [entry for entry in RunFolder(result.folder).read_metrics() if entry.get("stage") == "focal"]
    assert all(0 < entry["missing"] < 1 for entry in trained if entry["kind"] == "train")
    assert "perplexity" not in trained[-1] and any("actor_gradient" in entry for entry in trained)

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_run(result.folder, "focal-best").settings.algorithm == name
    lines = list(describe(RunFolder.open(result.folder), record))
    assert f"brought     {name} ({wanted['digest'][:16]}, {file})" in lines
    assert any(line.startswith("focal ") for line in "\n".join(lines).splitlines())
    assert [system.system for system in read_run(result.folder).systems] == ["MLE", "Focal"]
    spec = _specs_of(result.folder)["focal"]
    assert (spec.label, spec.has("actor")) == ("focal loss", True)
    _, spans, _ = _lay_out(trained, "updates")
    assert [span.stage for span in spans] == ["focal"]


def test_the_weights_of_a_stage_of_ones_own_may_be_averaged(tiny_settings, file):
    folder = run(with_algorithm(tiny_settings, f"{file}:algorithm", average=0.9)).folder
    held = load_file(max((folder / "checkpoints").glob("focal-0*.safetensors")))
    names = [name.removeprefix("trained_actor.") for name in held if name.startswith("trained_actor.")]
    assert names and any(not torch.equal(held[f"trained_actor.{n}"], held[f"actor.{n}"]) for n in names)
    assert torch.equal(load_run(folder, "focal-last").model.state_dict()[names[0]], held[f"actor.{names[0]}"])


def test_stages_of_the_package_follow_one_of_the_users(tiny_settings, file):
    folder = run(with_algorithm(tiny_settings, f"{file}:then_critic")).folder
    stages = {entry.get("stage") for entry in RunFolder(folder).read_metrics()}
    assert {"actor", "focal", "critic", "joint"} <= stages
    assert load_critic(folder).tau == tiny_settings.credit.tau


def test_the_objective_is_the_one_that_is_descended(tiny_settings, file):
    """With gamma 0 the focal loss is maximum likelihood: the same weights as one epoch more of it."""
    longer = replace(
        tiny_settings,
        algorithm="mle",
        actor=replace(tiny_settings.actor, dropout=0.0),
        output="",
    )
    from softbellman.training.assembly import Assembly
    from softbellman.training.task import load_task

    settings = with_algorithm(longer, f"{file}:algorithm", gamma=0.0, optimizer={"learning_rate": 0.005})
    task = load_task(settings.data)
    ours, theirs = (Assembly(one, task, torch.device("cpu")) for one in (settings, longer))
    stages = ours.build("focal"), theirs.build("actor")
    batch = next(iter(theirs.train_batches(longer.actor.schedule, "actor").epoch(0)))
    for stage in stages:
        torch.manual_seed(1)
        stage.update(batch, 0)
    for mine, wanted in zip(ours.actor.parameters(), theirs.actor.parameters(), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-5)


def test_a_killed_run_is_repeated_bit_for_bit(tiny_settings, file, tmp_path, monkeypatch):
    settings = with_algorithm(tiny_settings, f"{file}:algorithm")
    settings = replace(settings, checkpoint=replace(settings.checkpoint, updates=1))
    whole = run(settings).folder
    again, step, updated = tmp_path / "again", 3, ActorObjective.update

    def update(self, batch, number):
        if number == step:
            raise Killed
        return updated(self, batch, number)

    monkeypatch.setattr(ActorObjective, "update", update)
    with pytest.raises(Killed):
        run(replace(settings, output=str(again)))
    monkeypatch.setattr(ActorObjective, "update", updated)
    run(replace(settings, output=str(again)), resume=again)
    same_run(whole, again)


def test_a_changed_or_lost_file_is_one_sentence(tiny_settings, file):
    settings = with_algorithm(tiny_settings, f"{file}:algorithm")
    folder = run(settings).folder
    file.write_text(SOURCE.replace("gamma: float", "power: float"))
    words = r"the algorithm .*mine\.py:algorithm was changed in .*mine\.py: the run .* another"
    refused(folder, settings, DamagedFile, words)
    file.unlink()
    words = r"algorithm is .*mine\.py:algorithm, but there is no file .*mine\.py"
    refused(folder, settings, ValueError, words)
    file.write_text(SOURCE)
    assert load_run(folder).model is not None


def test_more_epochs_of_the_last_stage_may_follow(tiny_settings, file):
    settings = with_algorithm(tiny_settings, f"{file}:algorithm")
    folder = run(settings).folder
    longer = load_resumed(folder, [("stages.focal.schedule.epochs", "2")])
    run(longer, resume=folder)
    assert RunRecord.read(folder).changes[0]["key"] == "stages.focal.schedule.epochs"
    assert load_resumed(folder, []).stages["focal"]["schedule"]["epochs"] == 2
    with pytest.raises(ResumeError, match=r"stages\.focal\.gamma is 2\.0, given 3"):
        load_resumed(folder, [("stages.focal.gamma", "3")])
    with pytest.raises(ResumeError, match="algorithm is"):
        changed_settings(RunRecord.read(folder), replace(tiny_settings, algorithm="mle"))


def test_settings_come_from_options_and_files(file, tmp_path):
    name = f"{file}:algorithm"
    (tmp_path / "run.yaml").write_text(
        f"algorithm: {name}\nstages:\n  focal:\n    gamma: 1\n    schedule: {{epochs: 3}}\n"
    )
    over = [("stages.focal.schedule.epochs", "4"), ("stages.focal.optimizer.clip", ".inf")]
    settings = load_settings([tmp_path / "run.yaml"], over)
    own = algorithm_of(settings).section(settings, "focal")
    assert (own.gamma, own.schedule.epochs, own.optimizer.clip) == (1.0, 4, float("inf"))
    settled = algorithm_of(settings).settle(settings)
    (tmp_path / "again.yaml").write_text(config.dump(settled))
    again = load_settings([tmp_path / "again.yaml"], [])
    assert again.stages == settled.stages and algorithm_of(again).section(again, "focal") == own


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ({"focal": {"gama": 1}}, r"--stages\.focal: unknown key 'gama'; nearest: 'gamma'"),
        ({"focal": {"gamma": "high"}}, r"'gamma' expects float, given 'high'"),
        ({"focal": {"schedule": {"epochs": -1}}}, r"--stages\.focal: 'schedule\.epochs' must be at least 0, given -1"),
        ({"focal": {"schedule": {"kind": "constant", "decay": 0.1}}}, r"stages\.focal\.schedule\.decay is of kind plateau"),
        ({"fokal": {}}, "stages has 'fokal', but the algorithm .* has the stages of its own focal; nearest: 'focal'"),
    ],
)  # fmt: skip
def test_unknown_keys_are_refused_with_the_nearest(tiny_settings, file, stages, words):
    settings = replace(tiny_settings, algorithm=f"{file}:algorithm", stages=stages)
    with pytest.raises(ValueError, match=words):
        run(settings)
    assert not Path(settings.output).exists()


def test_keys_that_nothing_reads_are_refused(tiny_settings, file):
    with pytest.raises(
        ConfigError, match="stages has 'focal', but the algorithm mle has no stage of its own"
    ):
        run(replace(tiny_settings, algorithm="mle", stages={"focal": {}}))
    for name, key in (("mle", "stages.focal.gamma"), (f"{file}:algorithm", "joint.samples")):
        with pytest.raises(ConfigError, match=f"--{key}: the algorithm .* does not use it"):
            load_settings([], [("algorithm", name), (key, "3")])
    with pytest.raises(ConfigError, match=r"stages\.focal must be a mapping"):
        config.load(Settings, overrides=[("stages.focal", "3")])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mine.py:number", "algorithm must name a softbellman.training.Algorithm, got .*mine.py:number, of type int"),
        ("mine.py:algoritm", "has no algoritm; nearest: algorithm"),
        ("other.py:algorithm", "there is no file .*other.py"),
        ("no_such_module_here:algorithm", "there is no module no_such_module_here"),
        ("mine.py:misnamed", "the stage focal must have its name, got one that is called 'vocal'"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(tiny_settings, file, monkeypatch, name, words):
    monkeypatch.chdir(file.parent)
    with pytest.raises(ValueError, match=words):
        run(replace(with_algorithm(tiny_settings, name), actor=tiny_settings.actor))


def test_a_file_that_raises_keeps_its_trace(tiny_settings, tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(UserCodeError, match="ZeroDivisionError") as caught:
        run(replace(tiny_settings, algorithm=f"{tmp_path / 'broken.py'}:algorithm"))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unbuilt", "stage focal: building it raised ZeroDivisionError"),
        ("undefined", "stage focal, update 0: its objective raised KeyError: 'loss'"),
    ],
)
def test_a_stage_that_raises_keeps_its_trace(tiny_settings, file, name, words):
    file.write_text(
        SOURCE
        + """

class Undefined(Focal):
    def objective(self, batch, step):
        return {}["loss"]


unbuilt = Algorithm("Unbuilt", ("actor", StageSpec("focal", lambda parts, settings: 1 / 0)))
undefined = Algorithm("Undefined", ("actor", StageSpec("focal", Undefined)))
"""
    )
    with pytest.raises(UserCodeError, match=words) as caught:
        run(with_algorithm(tiny_settings, f"{file}:{name}"))
    assert isinstance(caught.value.__cause__, (ZeroDivisionError, KeyError))


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ("loss", r"Objective\(loss, sums\), got a tensor of shape \[\]"),
        ("(loss, {}, 3)", r"Objective\(loss, sums\), got a tuple of Tensor, dict, int"),
        ("Objective(loss.repeat(2), {})", r"a loss that is one number, a tensor, got a tensor of shape \[2\]"),
        ("Objective(loss.item(), {})", "a loss that is one number, a tensor, got a float"),
        ("Objective(loss.detach(), {})", "a loss that follows from the actor, got one without a gradient"),
        ("Objective(loss, {'actor_gradient': 7})", "by words other than actor_gradient, updates, got 'actor_gradient'"),
        ("Objective(loss, {'tokens': loss.repeat(3)})", r"the sum tokens as one number, got a tensor of shape \[3\]"),
        ("Objective(loss, {'tokens': '5'})", "the sum tokens as one number, got a str"),
    ],
)  # fmt: skip
def test_what_an_objective_returns_is_checked(tiny_settings, file, returned, words):
    file.write_text(SOURCE + returning(returned))
    short = replace(tiny_settings.actor.schedule, max_updates=1)
    settings = replace(tiny_settings, actor=replace(tiny_settings.actor, schedule=short))
    with pytest.raises(ValueError, match=f"^stage focal, update 0: its objective must .*{words}$"):
        run(with_algorithm(settings, f"{file}:returning"))


def returning(returned: str) -> str:
    """Source of an algorithm whose objective returns that."""
    return f"""

class Returning(Focal):
    def objective(self, batch, step):
        loss, sums = super().objective(batch, step)
        return {returned}


returning = Algorithm("Returning", ("actor", StageSpec("focal", Returning, settings=FocalSettings)))
"""


def test_sums_may_be_numbers(tiny_settings, file, tmp_path):
    folders = []
    for number, sums in enumerate(("sums", "{name: float(value) for name, value in sums.items()}")):
        file.write_text(SOURCE + returning(f"Objective(loss, {sums})"))
        settings = with_algorithm(tiny_settings, f"{file}:returning")
        folders.append(run(replace(settings, output=str(tmp_path / f"run{number}"))).folder)
    same_run(*folders)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(
        ConfigError, match=r"algorithm must be mle, .* FILE\.py:NAME, got 'erca'; nearest: 'erac'"
    ):
        config.load(Settings, overrides=[("algorithm", "erca")])


def test_a_stage_of_the_users_is_shared_by_its_source(tiny_settings, file, tmp_path):
    cache = tmp_path / "cache"

    def entries(number: int, **stages) -> list[str]:
        settings = with_algorithm(tiny_settings, f"{file}:algorithm", **stages)
        run(replace(settings, cache=str(cache), output=str(tmp_path / f"run{number}")))
        return sorted(path.name.partition("-")[0] for path in cache.iterdir())

    assert entries(0) == entries(1) == ["actor", "focal"]
    assert entries(2, gamma=1.0) == ["actor", "focal", "focal"]
    file.write_text(SOURCE + "\n# changed\n")
    assert entries(3) == ["actor", "focal", "focal", "focal"]


def test_the_key_of_a_stage_has_the_stages_before_it(tiny_settings, file):
    """A critic on an actor that another stage has moved is another critic."""

    def facts(name: str, stage: str = "critic", **changes):
        return deciding_facts(replace(tiny_settings, algorithm=name, **changes), stage)

    plain, raml = facts("erac"), facts(f"{file}:raml_erac")
    assert "augmented" not in plain and raml["augmented"] and raml["payoff"] == plain["payoff"]
    own = facts(f"{file}:then_critic")
    assert (
        own["stages are of"] == ["then_critic", digest(file.read_bytes()), ""]
        and own["stages.focal"]["gamma"] == 2.0
    )
    assert facts(f"{file}:then_critic", "actor") == facts("erac", "actor")
    assert facts(f"{file}:then_critic", "warmup") == facts("erac", "warmup")
    assert facts("erac", "joint") is None
    moved = replace(tiny_settings.credit, start_is_candidate=False)
    assert facts("erac", credit=moved) == plain != facts("erac", credit=replace(moved, tau=0.3))


def test_every_stage_of_the_package_has_a_section():
    for name, spec in SPECS.items():
        assert spec.name == name and hasattr(getattr(Settings(), name), "schedule") and spec.label


def test_a_sum_without_its_divisor_is_named():
    metrics = {"missing": Metric("sources", "share")}
    assert means({"updates": 2.0, "missing": 3.0, "sources": 6.0}, metrics) == {"missing": 0.5}
    for own, given in ((metrics, {"missing": 3.0}), ({}, {"payoff": 3.0})):
        per, name = ("source", "missing") if own else ("sequence", "payoff")
        with pytest.raises(
            ValueError, match=rf"the sum {name} of a stage is logged per {per}, .* it gives {name}, tokens"
        ):
            means({"updates": 2.0, **given, "tokens": 4.0}, own)
