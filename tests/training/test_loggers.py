"""Loggers: what they are told, that none can hurt a run, the packages they call."""

from __future__ import annotations

import json
import re
import sys
import types
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training.harness import Killed, Warnings, die_before, metrics_of, same_run, weights_of

from softbellman.training import Observer, run
from softbellman.training.loggers import LoggedRun, Loggers, MlflowLogger, WandbLogger
from softbellman.training.record import RunRecord
from softbellman.training.settings import LoggingSettings, Settings
from softbellman.training.stages import AugmentedStage

OWN = """
import json


class Lines:
    def __init__(self, run):
        run.folder.mkdir(parents=True, exist_ok=True)
        self.file = open(run.folder / "lines.jsonl", "a")
        self.write("open", [run.name, run.project, run.settings["algorithm"]], 0)

    def write(self, kind, values, step):
        print(json.dumps([kind, values, step]), file=self.file, flush=True)

    def log(self, values, step):
        self.write("log", dict(values), step)

    def close(self):
        self.write("close", {}, 0)
        self.file.close()
"""


@pytest.fixture
def settings(tiny_settings, tmp_path, monkeypatch) -> Settings:
    """A run of RAML; `own_log.py` is in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_log.py").write_text(OWN)
    return replace(tiny_settings, algorithm="raml")


def logging_to(settings: Settings, *names: str) -> Settings:
    return replace(settings, logging=LoggingSettings(to=names, project="trials"))


def lines_of(folder: Path) -> list[list[object]]:
    return [
        json.loads(line) for line in (folder / "logging" / "Lines" / "lines.jsonl").read_text().splitlines()
    ]


def test_a_logger_of_the_users_own_is_told_every_record(settings):
    folder = run(logging_to(settings, "./own_log.py:Lines")).folder
    first, *told, last = lines_of(folder)
    assert first == ["open", ["run", "trials", "raml"], 0] and last == ["close", {}, 0]
    records = [record for record in metrics_of(folder) if record["kind"] != "health"]
    assert len(told) == len(records)
    for (kind, values, step), record in zip(told, records, strict=True):
        assert kind == "log" and step == record.get("run_step", 30)  # 20 updates, then 10
        names = ("test_bleu",) if record["kind"] == "test" else ("dev_bleu", "perplexity", "payoff")
        for name in names:
            assert values.get(f"{record['stage']}/{name}") == record.get(name)
        assert (f"{record['stage']}/dev_bleu" in values) == (record["kind"] == "dev")
        assert not any("step" in name or "epoch" in name for name in values)
    assert [one["name"] for one in RunRecord.read(folder).objects] == ["./own_log.py:Lines"]


def test_logging_changes_nothing_of_the_run(settings, tmp_path):
    plain = run(settings).folder
    assert not (plain / "logging").exists()
    same_run(
        plain,
        run(logging_to(replace(settings, output=str(tmp_path / "logged")), "./own_log.py:Lines")).folder,
    )


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def Bad(run):\n    raise OSError('no network')\n", "OSError: no network"),
        ("class Bad:\n    def __init__(self, run): pass\n    def log(self, values, step): 1 / 0\n    def close(self): pass\n",
         "ZeroDivisionError: division by zero"),
        ("import sys\nclass Bad:\n    def __init__(self, run): pass\n    def log(self, values, step): sys.exit('bye')\n",
         "SystemExit: bye"),
        ("class Bad:\n    def __init__(self, run): pass\n    def log(self, values, step): pass\n",
         "AttributeError: 'Bad' object has no attribute 'close'"),
    ],
)  # fmt: skip
def test_a_logger_that_fails_loses_no_run(settings, tmp_path, source, reason):
    plain = run(settings).folder
    Path("bad.py").write_text(source)
    told = Warnings()
    chosen = logging_to(replace(settings, output=str(tmp_path / "bad")), "bad.py:Bad", "./own_log.py:Lines")
    folder = run(chosen, observer=told).folder
    same_run(plain, folder)
    (warning,) = [text for text in told.told if "logger" in text]
    assert warning == f"the logger bad.py:Bad failed and is left out from now on: {reason}"
    assert len(lines_of(folder)) > 5 and lines_of(folder)[-1][0] == "close"  # the other one goes on


def test_a_run_that_is_continued_logs_on(settings, tmp_path, monkeypatch):
    whole = run(settings).folder
    again = replace(logging_to(settings, "./own_log.py:Lines"), output=str(tmp_path / "again"))
    die_before(monkeypatch, AugmentedStage, 1)
    with pytest.raises(Killed):
        run(again)
    assert [line[0] for line in lines_of(tmp_path / "again")][-1] == "close"
    Path("own_log.py").write_text(OWN + "\n# a logger may change\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    metrics = tmp_path / "again" / "metrics.jsonl"
    metrics.write_text('{"run_step": "no number"}\n' + metrics.read_text())
    run(again, resume=tmp_path / "again")
    metrics.write_text(metrics.read_text().partition("\n")[2])
    assert [line[0] for line in lines_of(tmp_path / "again")].count("open") == 2
    same_run(whole, tmp_path / "again")
    run(replace(again, logging=LoggingSettings()), resume=tmp_path / "again")  # and be left out
    assert [line[0] for line in lines_of(tmp_path / "again")].count("open") == 2


def test_stages_from_the_cache_are_told_too(settings, tmp_path):
    cached = replace(logging_to(settings, "./own_log.py:Lines"), cache=str(tmp_path / "cache"))
    first = run(cached).folder
    second = run(replace(cached, output=str(tmp_path / "second"))).folder
    told = [[line for line in lines_of(folder) if line[0] == "log"] for folder in (first, second)]
    assert [list(values) for _, values, _ in told[0]] == [list(values) for _, values, _ in told[1]]
    assert weights_of(first).keys() == weights_of(second).keys()


@pytest.mark.parametrize(
    ("name", "error", "sentence"),
    [
        (
            "tensorbord",
            ValueError,
            r"logging\.to must be of tensorboard, wandb, mlflow, MODULE:OBJECT or FILE\.py:OBJECT",
        ),
        ("nowhere:L", ValueError, r"logging\.to is nowhere:L, but there is no module nowhere"),
        (
            "own_log.py:json.__name__",
            ValueError,
            r"logging\.to has own_log\.py:json\.__name__, which cannot be called",
        ),
    ],
)
def test_names_that_lead_nowhere_are_refused_before_anything_is_written(settings, name, error, sentence):
    with pytest.raises(error, match=sentence):
        run(logging_to(settings, name))
    assert not Path(settings.output).exists()


def test_two_of_one_name_would_share_a_folder(settings):
    Path("other.py").write_text(OWN)
    with pytest.raises(
        ValueError, match=r"of different names, .*, got \./own_log\.py:Lines and other\.py:Lines$"
    ):
        run(logging_to(settings, "./own_log.py:Lines", "other.py:Lines"))
    assert not Path(settings.output).exists()
    assert Loggers(["own_log.py:Lines", "own_log.py:Lines"], print).objects


def careless(*arguments: object, **options: object) -> None:
    torch.rand(3)
    torch.set_grad_enabled(False)


class Careless(Observer):
    """Draws whenever it is told something."""

    started = validated = diagnosed = warned = stage_ended = finished = update = staticmethod(careless)

    def updates(self, stage, epoch, epochs, count):
        careless()
        return nullcontext(self)


def test_what_is_told_changes_no_random_number(settings, tmp_path):
    settings = replace(settings, checkpoint=replace(settings.checkpoint, updates=1))
    plain = run(settings).folder
    Path("careless.py").write_text(
        "import torch\nclass Draws:\n    def __init__(self, run): self.log(0, 0)\n"
        "    def log(self, values, step):\n        torch.rand(3)\n        torch.set_grad_enabled(False)\n"
        "    def close(self): pass\n"
    )
    settings = logging_to(replace(settings, output=str(tmp_path / "told")), "careless.py:Draws")
    same_run(plain, run(settings, observer=Careless()).folder)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_package_that_is_missing_is_a_sentence(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        ImportError, match=rf"needs the extra \[{name}\]: pip install 'softbellman\[{name}\]'"
    ):
        Loggers([name], print)


def test_tensorboard_has_the_curves(settings):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = run(logging_to(settings, "tensorboard")).folder
    events = EventAccumulator(str(folder / "logging" / "tensorboard"))
    events.Reload()
    wanted = [r for r in metrics_of(folder) if r["kind"] == "dev" and r["stage"] == "actor"]
    found = events.Scalars("actor/dev_bleu")
    assert [event.step for event in found] == [record["run_step"] for record in wanted]
    assert [event.value for event in found] == pytest.approx([record["dev_bleu"] for record in wanted])
    assert (
        "augmented/payoff" in events.Tags()["scalars"] and "augmented/test_bleu" in events.Tags()["scalars"]
    )


class FakeWandb(types.ModuleType):
    """`wandb` as far as it is called: keyword arguments of `init`, one run."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.calls: list[tuple[str, object]] = []

    def init(self, *, project, name, id, resume, dir, config):
        self.calls.append(("init", (project, name, id, resume, config["seed"])))
        assert Path(dir).is_dir()
        self.id = id or "abc123"
        return self

    def define_metric(self, name, *, step_metric):
        self.calls.append(("define", (name, step_metric)))

    def log(self, values):
        self.calls.append(("log", values))

    def finish(self):
        self.calls.append(("finish", None))


def test_wandb_is_given_one_run(tmp_path, monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    logged = LoggedRun("erac-1", tmp_path / "run" / "logging" / "wandb", "trials", {"seed": 3})
    for own, resume in ((None, None), ("abc123", "allow")):
        logger = WandbLogger(logged)
        logger.log({"joint/dev_bleu": 20.0}, 7)
        logger.close()
        assert fake.calls == [
            ("init", ("trials", "erac-1", own, resume, 3)),
            ("define", ("*", "update")),
            ("log", {"joint/dev_bleu": 20.0, "update": 7}),
            ("finish", None),
        ]
        fake.calls.clear()


class FakeClient:
    """`mlflow.tracking.MlflowClient` as far as it is called."""

    calls: list[tuple[object, ...]] = []  # noqa: RUF012 - shared, as the server is
    experiment = None

    def get_experiment_by_name(self, name):
        return self.experiment

    def create_experiment(self, name):
        self.calls.append(("experiment", name))
        FakeClient.experiment = types.SimpleNamespace(experiment_id="5")
        return "5"

    def create_run(self, experiment, *, run_name):
        self.calls.append(("run", experiment, run_name))
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="r1"))

    def update_run(self, run, *, status):
        self.calls.append(("update", run, status))

    def log_batch(self, run, *, params):
        assert len(params) <= 100 and all(len(value) <= 500 for _, value in params)
        self.calls.append(("params", run, len(params)))

    def log_metric(self, run, name, value, *, step):
        self.calls.append(("metric", run, name, value, step))

    def set_terminated(self, run):
        self.calls.append(("end", run))


def test_mlflow_is_given_one_run(tmp_path, monkeypatch):
    tracking, entities = types.ModuleType("mlflow.tracking"), types.ModuleType("mlflow.entities")
    tracking.MlflowClient, entities.Param = FakeClient, lambda key, value: (key, value)  # type: ignore[attr-defined]
    for name, module in (
        ("mlflow", types.ModuleType("mlflow")),
        ("mlflow.tracking", tracking),
        ("mlflow.entities", entities),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(FakeClient, "experiment", None)
    many = {f"key{number}": "x" * 600 for number in range(130)}
    first = LoggedRun("erac-1", tmp_path / "one", "trials", many)
    for begun in ([("experiment", "trials"), ("run", "5", "erac-1"), ("params", "r1", 100), ("params", "r1", 30)],
                  [("update", "r1", "RUNNING")]):  # fmt: skip
        logger = MlflowLogger(first)
        logger.log({"joint/dev_bleu": 20.0}, 7)
        logger.close()
        assert FakeClient.calls == [*begun, ("metric", "r1", "joint/dev_bleu", 20.0, 7), ("end", "r1")]
        FakeClient.calls.clear()
    MlflowLogger(LoggedRun("erac-2", tmp_path / "two", "trials", {}))
    assert FakeClient.calls == [("run", "5", "erac-2")]  # the experiment is there
    FakeClient.calls.clear()


def test_the_extras_are_those_that_the_sentences_name():
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert all(re.search(rf"^{name} = \[\"{name}", text, re.M) for name in ("tensorboard", "wandb", "mlflow"))
