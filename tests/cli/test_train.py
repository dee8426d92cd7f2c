"""`softbellman-train`: words to settings, the help of every key, what is handed to the training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from softbellman.cli.common import UserError
from softbellman.cli.settings import find_config, load_settings, split_overrides
from softbellman.cli.train import build_parser
from softbellman.config import ConfigError, describe, load
from softbellman.report import Console
from softbellman.training.settings import Settings

RunCommand = Callable[..., Any]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("seed: 5\nactor: {optimizer: {learning_rate: 1e-2}}\ncredit: {tau: 0.1}\n")
    return path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Settings, Path | None, bool]]:
    """What the training would have been asked to do."""
    made: list[tuple[Settings, Path | None, bool]] = []

    def record(settings: Settings, resume: Path | None = None, *, observer: Console) -> None:
        made.append((settings, resume, observer.progress.quiet))

    monkeypatch.setattr("softbellman.training.run", record)
    return made


def split(*words: str) -> tuple[list[str], list[tuple[str, str]]]:
    return split_overrides(build_parser(), words, Settings)


def test_overrides_are_parted_from_options() -> None:
    rest, overrides = split(
        "--data.path", "-1", "--config", "--odd.yaml", "--seed=3", "--model.input_feeding",
        "--quiet", "--data.path=a=b", "--model.input_feeding", "false", "--output", "out", "--config=c.yaml",
    )  # fmt: skip
    assert rest == ["--config", "--odd.yaml", "--quiet", "--config=c.yaml"]
    assert overrides == [
        ("data.path", "-1"), ("seed", "3"), ("model.input_feeding", "true"), ("data.path", "a=b"),
        ("model.input_feeding", "false"), ("output", "out"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sede", "3"], "unknown option '--sede'; nearest: '--seed'"),
        (["--confg", "x"], "unknown option '--confg'; nearest: '--config'"),
        (["--seed"], "--seed expects a value: int"),
        (["--data.path", "--quiet"], "--data.path expects a value: text"),
    ],
)
def test_wrong_words(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        split(*words)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data.pth", "x"], "--data.pth: unknown key 'data.pth'; nearest: 'data.path'"),
        (["--data.pth"], "--data.pth: unknown key 'data.pth'; nearest: 'data.path'"),
        (["--credit.smothness=1"], "nearest: 'credit.smoothness'"),
        (["--algorithm", "erak"], "'algorithm' expects one of"),
        (["--seed", "one"], "--seed: 'seed' expects int, given 'one'"),
        (["--algorithm", "ac", "--credit.tau", "0.3"], "the algorithm 'ac' is defined by credit.tau = 0.0"),
        (["--config", "missing.yaml"], "missing.yaml: there is no such settings file"),
    ],
)
def test_wrong_keys(softbellman: RunCommand, config: Path, words: list[str], message: str) -> None:
    code, out, err = softbellman("train", "--config", str(config), *words)
    assert code == 2 and not out and err.count("\n") == 1 and message in err


def test_settings_reach_the_training(
    softbellman: RunCommand, config: Path, calls: list[tuple[Settings, Path | None, bool]]
) -> None:
    words = [
        "--config",
        str(config),
        "--seed",
        "9",
        "--output=here",
        "--model.input_feeding",
        "true",
        "--quiet",
    ]
    assert softbellman("train", *words).code == 0
    (settings, resume, quiet), *others = calls
    assert not others and resume is None and quiet
    assert settings == load(
        Settings, config, overrides=[("seed", "9"), ("output", "here"), ("model.input_feeding", "true")]
    )
    assert settings.actor.optimizer.learning_rate == 0.01 and settings.actor.optimizer.name == "sgd"


def test_a_run_without_a_name_gets_one(
    softbellman: RunCommand, config: Path, calls: list[tuple[Settings, Path | None, bool]]
) -> None:
    assert softbellman("train", "--config", str(config)).code == 0
    assert calls[0][0].output.startswith("runs/erac-")


def test_the_algorithm_settles_what_a_file_left_open(config: Path) -> None:
    assert load_settings([config], []).credit.tau == 0.1
    assert load_settings([config], [("algorithm", "ac")]).credit.tau == 0.0
    assert load_settings([config], [("algorithm", "ac"), ("credit.tau", "0")]).credit.tau == 0.0


def test_presets_yield_to_single_keys(config: Path) -> None:
    settings = load_settings([config], [("preset", "published"), ("payoff.smoothing", "exp")])
    assert settings.credit.penalty == "published" and settings.payoff.smoothing == "exp"


def test_resume_reads_the_settings_of_the_run(
    softbellman: RunCommand, tmp_path: Path, calls: list[tuple[Settings, Path | None, bool]]
) -> None:
    (tmp_path / "config.yaml").write_text("seed: 77\nalgorithm: mle\n")
    assert softbellman("train", "--resume", str(tmp_path), "--threads", "2").code == 0
    settings, resume, quiet = calls[0]
    assert resume == tmp_path and not quiet
    assert (settings.seed, settings.algorithm, settings.threads) == (77, "mle", 2)


def test_interrupted_training_says_how_to_continue(
    softbellman: RunCommand, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("softbellman.training.run", interrupted)
    code, _, err = softbellman("train", "--config", str(config), "--output", "my run")
    assert code == 130 and "softbellman-train --resume 'my run' continues" in err


def test_printed_settings_can_be_loaded_again(softbellman: RunCommand, config: Path, tmp_path: Path) -> None:
    code, out, _ = softbellman("train", "--config", str(config), "--print-config", "--seed", "8")
    again = tmp_path / "again.yaml"
    again.write_text(out)
    assert code == 0 and load(Settings, again) == load(Settings, config, overrides=[("seed", "8")])


def test_help_explains_every_key(softbellman: RunCommand) -> None:
    _, out, _ = softbellman("train", "--help")
    flat = " ".join(out.split())
    for key in describe(Settings):
        assert f"--{key.name} " in flat
        assert key.help and key.help in flat, key.name
    assert "--actor.optimizer.learning_rate X (default: 0.6)" in flat
    assert "--payoff.smoothing none|floor|add-k|exp|add-one-all (default: add-k)" in flat


def test_config_files_are_found_by_path_and_by_name(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_config(str(config)) == config
    monkeypatch.setattr("softbellman.cli.settings.config_folders", lambda: [config.parent])
    assert find_config("run") == config == find_config("configs/run.yaml")
    with pytest.raises(UserError, match="shipped with the package: run; nearest: 'run'"):
        find_config("rum.yaml")


def test_every_shipped_config_loads() -> None:
    from softbellman.cli.settings import config_folders

    files = [file for folder in config_folders() for file in folder.glob("*.yaml")]
    assert "builtin_erac" in {file.stem for file in files}
    for file in files:
        try:
            load_settings([file], [])
        except ConfigError as error:
            pytest.fail(str(error))
