"""Runs with a payoff that is not a kernel's: every algorithm, what is recorded, resumption, the cache, the sample."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training.harness import Killed, Warnings, die_before, metrics_of, same_run, weights_of
from training.jobs import TrainingJob

from softbellman import config
from softbellman.cli.train import main
from softbellman.core.objects import UserCodeError, given_object
from softbellman.data import EOS, BatchIterator
from softbellman.experiments.credited import open_run
from softbellman.payoffs.payoff import PayoffSettings
from softbellman.training import load_run, run
from softbellman.training.algorithms import ALGORITHMS
from softbellman.training.cache import StageCache
from softbellman.training.edited import edit_references
from softbellman.training.payoffs import build_payoff, try_payoff
from softbellman.training.record import RunRecord
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import EditSettings, LoggingSettings, Settings
from softbellman.training.stages import AugmentedStage, CriticStage
from softbellman.training.task import load_task

CPU = torch.device("cpu")
SHARE = """
def share(hypotheses, references):
    return [
        len(set(text.split()) & set(group[0].split())) / len(set(group[0].split()))
        for text, group in zip(hypotheses, references)
    ]
"""


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """A file of the user's in the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "own_rewards.py"
    path.write_text(SHARE)
    return path


def chosen(settings: Settings, algorithm: str, **payoff) -> Settings:
    return replace(settings, algorithm=algorithm, payoff=PayoffSettings(**payoff))


@pytest.mark.parametrize("rewards", ["prefixes", "end"])
@pytest.mark.parametrize("algorithm", ["erac", "vaml", "raml", "ocd"])
def test_every_algorithm_trains_on_it(tiny_settings, own, algorithm, rewards):
    settings = chosen(tiny_settings, algorithm, metric="./own_rewards.py:share", rewards=rewards)
    result = run(settings)
    records = [
        record
        for record in metrics_of(result.folder)
        if record["kind"] == "train" and record["stage"] != "actor"
    ]
    assert records and all(record["payoff"] > 0 for record in records)
    record = RunRecord.read(result.folder)
    (facts,) = record.objects
    assert (
        facts["name"] == "./own_rewards.py:share" and facts["path"] == str(own) and len(facts["digest"]) == 64
    )
    assert config.load(Settings, result.folder / "config.yaml").payoff == settings.payoff
    assert load_run(result.folder).settings.payoff == settings.payoff  # translation needs no payoff


@pytest.mark.parametrize("metric", ["chrf", "ter"])
def test_metrics_of_sacrebleu_train(tiny_settings, metric):
    settings = replace(
        chosen(tiny_settings, "raml", metric=metric, rewards="end"),
        evaluation=replace(tiny_settings.evaluation, metrics=("chrf", "ter")),
    )
    result = run(settings)
    last = metrics_of(result.folder)[-1]
    assert result.rows[-1].others == {name: last[f"test_{name}"] for name in ("chrf", "ter")}
    assert last["test_ter"] > 0 and RunRecord.read(result.folder).objects == []


def test_the_command_takes_files_modules_and_sums(tiny_settings, own, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(own.parent))
    for number, words in enumerate(
        [
            ["--payoff.metric", "own_rewards:share"],
            ["--payoff.metric", "sum", "--payoff.terms", "[bleu=0.5, ./own_rewards.py:share=0.5]"],
        ]
    ):
        settings = chosen(replace(tiny_settings, output=f"run{number}"), "raml")
        Path("settings.yaml").write_text(config.dump(settings))
        assert main(["--config", "settings.yaml", *words]) == 0
        shown = capsys.readouterr()
        assert "share" in shown.out and str(own) in shown.out and "error" not in shown.err
    from softbellman.cli.show import command

    assert command(["run1"]) == 0
    assert (
        f"brought     ./own_rewards.py:share ({RunRecord.read(Path('run1')).objects[0]['digest'][:16]}, {own})"
        in (capsys.readouterr().out)
    )


def test_a_run_is_continued_from_another_directory(tiny_settings, own, monkeypatch, tmp_path):
    settings = chosen(tiny_settings, "raml", metric="./own_rewards.py:share")
    whole = run(settings).folder
    again = replace(settings, output=str(tmp_path / "again"))
    die_before(monkeypatch, AugmentedStage, 1)
    with pytest.raises(Killed):
        run(again)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    run(again, resume=tmp_path / "again")
    same_run(whole, tmp_path / "again")


def test_a_changed_or_lost_file_is_refused_by_name(tiny_settings, own):
    settings = chosen(tiny_settings, "erac", metric="./own_rewards.py:share")
    folder = run(settings).folder
    before = (folder / "record.json").read_bytes()
    assert open_run(folder).payoff.objects[0].path == str(own)
    own.write_text(SHARE + "\n# another\n")
    for refused in (lambda: run(settings, resume=folder), lambda: open_run(folder)):
        with pytest.raises(
            ValueError, match=rf"the payoff \./own_rewards\.py:share was changed in {own}: .* restore it"
        ):
            refused()
    own.unlink()
    for refused in (lambda: run(settings, resume=folder), lambda: open_run(folder)):
        with pytest.raises(
            ValueError, match=rf"payoff\.metric is \./own_rewards\.py:share, but there is no file {own}"
        ):
            refused()
    assert (folder / "record.json").read_bytes() == before
    load_run(folder)


def test_a_payoff_is_handed_over(tiny_settings, tmp_path):
    names: dict[str, object] = {}
    exec(SHARE, names)
    share = names["share"]
    settings = chosen(tiny_settings, "raml", rewards="end")
    folder = run(settings, payoff=share).folder
    stored = config.load(Settings, folder / "config.yaml")
    assert (
        stored.payoff.metric == "python:share" and RunRecord.read(folder).objects[0]["name"] == "python:share"
    )
    with pytest.raises(
        ValueError,
        match=r"payoff\.metric is python:share, an object that was handed over .* hand it over again",
    ):
        run(stored, resume=folder)
    longer = replace(stored.augmented, schedule=replace(stored.augmented.schedule, epochs=2))
    run(replace(stored, augmented=longer), resume=folder, payoff=share)
    assert [r["epoch"] for r in metrics_of(folder) if r["kind"] == "train" and r["stage"] == "augmented"] == [
        1.0,
        2.0,
    ]
    with pytest.raises(ValueError, match=r"payoff\.metric is 'python:share', given .*given_by_name"):
        run(stored, resume=folder, payoff=given_by_name)


def given_by_name(hypotheses, references):
    return [
        0.5 * len(text.split()) / len(group[0].split())
        for text, group in zip(hypotheses, references, strict=True)
    ]


def test_one_that_a_name_leads_to_is_found_again(tiny_settings):
    folder = run(chosen(tiny_settings, "raml", rewards="end"), payoff=given_by_name).folder
    stored = config.load(Settings, folder / "config.yaml")
    assert stored.payoff.metric == f"{__name__}:given_by_name"
    longer = replace(stored.augmented, schedule=replace(stored.augmented.schedule, epochs=2))
    run(replace(stored, augmented=longer), resume=folder)


def test_the_cache_knows_files_and_versions(tiny_settings, own, tmp_path):
    def key(stage="critic", given=None, **payoff):
        settings = replace(chosen(tiny_settings, "erac", **payoff), cache=str(tmp_path / "cache"))
        if given is not None:
            given = given_object(given)
            settings = replace(settings, payoff=replace(settings.payoff, metric=given.name))
        task = load_task(settings.data)
        made = build_payoff(settings, task, device=CPU, given=given)
        return StageCache(settings, RunFolder(tmp_path / "run"), task, made, device=CPU).key(stage)

    name = "./own_rewards.py:share"
    first = key(metric=name)
    assert first == key(metric=name, workers=2, pool="threads", batch_size=7, cache=0)
    assert first != key(metric=name, rewards="end") != key(rewards="end")
    assert key("actor", metric=name) == key("actor")
    own.write_text(SHARE + "\n# another\n")
    assert key(metric=name) != first
    hidden = lambda hypotheses, references: [0.0] * len(hypotheses)  # noqa: E731
    assert key(given=hidden) is None and key("actor", given=hidden) == key("actor")

    class Versioned:
        def __init__(self, version):
            self.version = version

        def __call__(self, hypotheses, references):
            return [0.0] * len(hypotheses)

    assert key(given=Versioned("1")) == key(given=Versioned("1")) != key(given=Versioned("2"))


def test_the_critic_stage_is_shared_by_runs_with_one_payoff(tiny_settings, own, tmp_path, monkeypatch):
    settings = replace(
        chosen(tiny_settings, "erac", metric="./own_rewards.py:share"), cache=str(tmp_path / "cache")
    )
    first = run(settings).folder
    monkeypatch.setattr(CriticStage, "update", lambda *arguments: pytest.fail("the stage is in the cache"))
    second = run(replace(settings, output=str(tmp_path / "second"))).folder
    assert weights_of(first).keys() == weights_of(second).keys()


def test_errors_come_before_anything_is_written(tiny_settings, own):
    own.write_text(
        "def broken(hypotheses, references):\n    return [hypotheses[0].nothing] * len(hypotheses)\n"
    )
    with pytest.raises(UserCodeError, match="raised AttributeError"):
        run(chosen(tiny_settings, "raml", metric="./own_rewards.py:broken"))
    own.write_text("def short(hypotheses, references):\n    return [0.0]\n")
    with pytest.raises(ValueError, match=r"payoff \./own_rewards\.py:short gave 1 scores for \d+ hypotheses"):
        run(chosen(tiny_settings, "raml", metric="./own_rewards.py:short"))
    assert not Path(tiny_settings.output).exists()


def test_the_command_shows_the_trace_of_the_users_code(tiny_settings, own, capsys):
    own.write_text(
        "def broken(hypotheses, references):\n    return [hypotheses[0].nothing] * len(hypotheses)\n"
    )
    Path("settings.yaml").write_text(
        config.dump(chosen(tiny_settings, "raml", metric="./own_rewards.py:broken"))
    )
    with pytest.raises(RuntimeError) as caught:  # what the interpreter prints with its trace, as of any bug
        main(["--config", "settings.yaml"])
    assert caught.value.__cause__.__class__ is AttributeError


@pytest.mark.parametrize(
    ("algorithm", "expression", "sentence"),
    [
        ("erac", "0.25", r"right and wrong sentences of a source alike, in each of 16 samples: nothing can"),
        (
            "erac",
            "len(text.split()) * 100",
            r"by 72\.2 a token, where BLEU's tokens earn about 1: divide it, or raise credit\.tau",
        ),
        (
            "erac",
            "len(text.split()) / 1e4",
            r"less than credit\.tau log V = 0\.\d+, .*lower credit\.tau from 0\.045",
        ),
        ("raml", "len(text.split()) / 1e4", r"lower augmented\.tau from 0\.1"),
        ("vaml", "len(text.split()) / 1e4", r"lower oracle\.tau from 0\.1"),
        ("erac", "len(set(text.split()) & set(group[0].split())) / len(group[0].split())", None),
        ("ac", "len(text.split()) * 100", r"earn about 1: divide it$"),
        ("ac", "len(text.split()) / 1e4", None),
        ("ocd", "len(text.split()) * 100", None),
        ("mle", "0.0", r"^payoff \./own_rewards\.py:f is read by no stage of MLE$"),
    ],
)
def test_a_sample_is_scored_at_the_start(tiny_settings, own, algorithm, expression, sentence):
    own.write_text(
        f"def f(hypotheses, references):\n    return [{expression} for text, group in zip(hypotheses, references)]\n"
    )
    settings = ALGORITHMS[algorithm].settle(
        chosen(tiny_settings, algorithm, metric="./own_rewards.py:f", scale="none")
    )
    if expression.startswith("len(set"):
        settings = replace(settings, payoff=replace(settings.payoff, scale="reference_length"))
    task = load_task(settings.data)
    found = try_payoff(build_payoff(settings, task, device=CPU), settings, task, device=CPU)
    if sentence is None:
        assert found == []
    else:
        (told,) = found
        assert re.search(sentence, told), told


def test_maximum_likelihood_may_be_judged_by_it(tiny_settings):
    judged = replace(tiny_settings.evaluation, metrics=("mean_payoff",))
    for evaluation, count in ((tiny_settings.evaluation, 1), (judged, 0)):
        settings = replace(tiny_settings, algorithm="mle", evaluation=evaluation)
        settings = replace(settings, output=f"{tiny_settings.output}{count}")
        told = Warnings()
        run(settings, payoff=given_by_name, observer=told)
        assert len([text for text in told.told if "is read by no stage of MLE" in text]) == count


def test_what_it_does_to_random_numbers_is_undone(tiny_settings, own, tmp_path):
    own.write_text(
        SHARE
        + """
import torch


def careless(hypotheses, references):
    torch.manual_seed(0)
    torch.rand(3)
    torch.set_grad_enabled(False)
    return share(hypotheses, references)
"""
    )
    folders = []
    for name in ("share", "careless"):
        settings = chosen(tiny_settings, "erac", metric=f"./own_rewards.py:{name}", rewards="end")
        folders.append(run(replace(settings, output=str(tmp_path / name))).folder)
    same_run(*folders)


def test_doubts_are_told_and_noted(tiny_settings, own):
    own.write_text("def f(hypotheses, references):\n    return [0.0 for text in hypotheses]\n")
    told = Warnings()
    folder = run(chosen(tiny_settings, "raml", metric="./own_rewards.py:f"), observer=told).folder
    (warning,) = [text for text in told.told if "nothing can be learnt" in text]
    assert f"warning: {warning}" in (folder / "log.txt").read_text()


def test_edited_references_are_paid_at_their_end(tiny_settings, own):
    settings = chosen(tiny_settings, "vaml", metric="./own_rewards.py:share")
    task = load_task(settings.data)
    batch = next(BatchIterator(task.train, batch_size=8).epoch(0))
    given = {"vocabulary": len(task.target_codec), "tau": 0.3, "corrected": True, "seed": 5, "offset": 2}
    found = {}
    for rewards in ("prefixes", "end"):
        own_settings = replace(settings, payoff=replace(settings.payoff, rewards=rewards))
        payoff = build_payoff(own_settings, task, device=CPU)
        found[rewards] = edit_references(
            batch, EditSettings(samples=3, proposal="edit", temperature=0.5), payoff, **given
        )
    spread, ended = found["prefixes"], found["end"]
    assert torch.equal(spread.labels, ended.labels)
    torch.testing.assert_close(ended.weights, spread.weights)
    torch.testing.assert_close(ended.rewards.sum(1), ended.payoff.flatten())
    assert (ended.rewards[ended.labels != EOS] == 0).all() and (
        spread.rewards[spread.labels == EOS] == 0
    ).all()
    assert (ended.rewards[ended.labels == EOS] > 0).any()


def test_workers_change_no_number(tiny_settings, own, tmp_path):
    settings = chosen(tiny_settings, "raml", metric="./own_rewards.py:share")
    alone = run(settings).folder
    for number, more in enumerate(
        ({"workers": 2, "batch_size": 16}, {"workers": 2, "pool": "threads", "cache": 0})
    ):
        payoff = replace(settings.payoff, **more)
        other = replace(settings, output=str(tmp_path / f"workers{number}"), payoff=payoff)
        same_run(alone, run(other).folder)
    assert RunRecord.read(tmp_path / "workers0").settings["payoff.workers"] == 2


def test_two_processes_train_on_it(tiny_settings, own, tmp_path):
    own.write_text(
        SHARE
        + """
class Marks:
    def __init__(self, run):
        open(run.folder.parents[1] / "opened", "a").write("x")
    def log(self, values, step): pass
    def close(self): pass
"""
    )
    settings = replace(
        chosen(tiny_settings, "raml", metric="./own_rewards.py:share", rewards="end"),
        logging=LoggingSettings(to=("./own_rewards.py:Marks",)),
    )
    alone = run(settings).folder
    both = replace(settings, output=str(tmp_path / "both"))
    assert TrainingJob(both, tmp_path).codes() == [0, 0]
    assert (tmp_path / "both" / "opened").read_text() == "x"
    for mine, theirs in zip(metrics_of(alone), metrics_of(tmp_path / "both"), strict=True):
        if "payoff" in mine:
            assert theirs["payoff"] == pytest.approx(mine["payoff"], rel=1e-5)
    own.write_text(SHARE + "\n# another\n")
    assert TrainingJob(both, tmp_path, resume=tmp_path / "both").codes() == [2, 2]
