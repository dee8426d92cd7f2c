"""`softbellman-train`: words to settings, the help of every key, what is handed to the training."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from softbellman.cli.common import UserError
from softbellman.cli.main import COMMANDS
from softbellman.cli.settings import config_folders, find_config, load_settings, split_overrides
from softbellman.cli.train import FIRST_SETTINGS, build_parser
from softbellman.config import ConfigError, describe, describe_sections, flatten, load
from softbellman.report import Console
from softbellman.training.record import RunRecord
from softbellman.training.settings import Settings
from softbellman.training.stopping import Stopped

RunCommand = Callable[..., Any]

TOP_SECTIONS = ("run", *(name for name in describe_sections(Settings) if "." not in name))


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
        (["--algorithm", "erak"], "algorithm must be mle, scheduled"),
        (["--seed", "one"], "--seed: 'seed' expects int, given 'one'"),
        (["--algorithm", "ac", "--credit.tau", "0.3"], "the algorithm 'ac' is defined by credit.tau = 0.0"),
        (["--credit.tau", "-1"], "--credit.tau: 'credit.tau' must be 0 or from 1e-30 to 1e+30, given -1.0"),
        (["--credit.tau", ".nan"], "'credit.tau' must be 0 or from 1e-30 to 1e+30, given nan"),
        (["--joint.samples", "0"], "'joint.samples' must be at least 1, given 0"),
        (["--evaluation.beam", "0"], "'evaluation.beam' must be at least 1, given 0"),
        (["--actor.schedule.decay", "-3"], "'actor.schedule.decay' must be above 0 and at most 1, given -3"),
        (["--actor.optimizer.clip", "0"], "'actor.optimizer.clip' must be above 0 or infinite, given 0"),
        (["--model.hidden", "-4"], "'model.hidden' must be at least 1, given -4"),
        (["--seed", "-5"], "'seed' must be from 0 to 2**63 - 1, given -5"),
        (["--algorithm", "mle", "--credit.tau", "0.1"], "--credit.tau: the algorithm 'mle' does not use it"),
        (["--algorithm", "raml", "--oracle.tau", "1"], "--oracle.tau: the algorithm 'raml' does not use it"),
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
    RunRecord.create(tmp_path, flatten(load(Settings, tmp_path / "config.yaml")), {}).write()
    assert softbellman("train", "--resume", str(tmp_path), "--threads", "2").code == 0
    settings, resume, quiet = calls[0]
    assert resume == tmp_path and not quiet
    assert (settings.seed, settings.algorithm, settings.threads) == (77, "mle", 2)
    for words in (["--payoff.references", "all"], ["--seed", "3"], ["--actor.schedule.epochs", "2"]):
        found = softbellman("train", "--resume", str(tmp_path), "--print-config", *words)
        assert found.code == 2 and not found.out
    (tmp_path / "config.yaml").write_text("")
    code, out, err = softbellman("train", "--resume", str(tmp_path), "--print-config")
    assert code == 2 and not out and "algorithm is 'mle', given 'erac'" in err and len(calls) == 1


@pytest.mark.parametrize(
    ("error", "code"), ((Stopped(15), 143), (Stopped(2), 130), (KeyboardInterrupt(), 130))
)
def test_interrupted_training_has_the_codes_of_its_signals(
    softbellman: RunCommand, config: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr("softbellman.training.run", interrupted)
    assert softbellman("train", "--config", str(config), "--output", "my run").code == code


def test_printed_settings_can_be_loaded_again(softbellman: RunCommand, config: Path, tmp_path: Path) -> None:
    code, out, _ = softbellman("train", "--config", str(config), "--print-config", "--seed", "8")
    again = tmp_path / "again.yaml"
    again.write_text(out)
    assert code == 0 and load(Settings, again) == load(Settings, config, overrides=[("seed", "8")])


def test_help_is_a_page(softbellman: RunCommand) -> None:
    code, out, _ = softbellman("train", "--help")
    assert code == 0 and out == softbellman("train", "-h", "--seed", "3").out
    assert len(out.splitlines()) <= 60 and max(map(len, out.splitlines())) <= 100
    for name in FIRST_SETTINGS:
        assert f"  --{name} " in out
    for section in TOP_SECTIONS:
        assert f"\n  {section} " in out
    assert "--help SECTION explains one, --help all explains all" in out


def test_help_of_everything_explains_every_key(softbellman: RunCommand) -> None:
    _, out, _ = softbellman("train", "--help", "all")
    flat = " ".join(out.split())
    for key in describe(Settings):
        assert f"--{key.name} " in flat
        assert key.help and key.help in flat, key.name
    assert "--actor.optimizer.learning_rate X, above 0 (default: 0.6)" in flat
    assert "--payoff.smoothing none|floor|add-k|exp|add-one-all|add-k-length (default: add-k)" in flat


@pytest.mark.parametrize("section", [*TOP_SECTIONS, "joint.actor_optimizer", "credit.tau"])
def test_help_of_a_section_explains_its_keys_alone(softbellman: RunCommand, section: str) -> None:
    code, out, err = softbellman("train", "--help", section)
    assert code == 0 and not err and softbellman("train", f"--help={section}").out == out
    shown = {line.split()[0].removeprefix("--") for line in out.splitlines() if line.startswith("  --")}
    inside = {key.name for key in describe(Settings) if f"{key.name}.".startswith(f"{section}.")}
    assert shown == (inside or {key.name for key in describe(Settings) if "." not in key.name})
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [("actr", "actor"), ("joint.actor_optimiser", "joint.actor_optimizer"), ("al", "all")],
)
def test_help_of_an_unknown_section_names_the_nearest(
    softbellman: RunCommand, asked: str, nearest: str
) -> None:
    code, out, err = softbellman("train", "--help", asked)
    assert code == 2 and not out
    assert err == (
        f"softbellman: error: --help: no section or setting is called {asked!r}; nearest: {nearest!r}\n"
    )


def test_no_command_needs_more_than_a_page_of_help(softbellman: RunCommand) -> None:
    actions = [["captions", action] for action in ("extract", "scenes", "sheet")]
    for words in [*([name] for name in COMMANDS), *actions]:
        assert len(softbellman(*words, "--help").out.splitlines()) <= 60, words


def test_help_is_in_short_sentences() -> None:
    """At most 25 words; keys and values count as words."""
    texts = {key.name: key.help for key in describe(Settings)} | describe_sections(Settings)
    long = {
        name: sentence
        for name, text in texts.items()
        for sentence in re.split(r"(?<!Eq\.)(?<=[.!?]) ", text)
        if len(sentence.split()) > 25
    }
    assert not long


def test_config_files_are_found_by_path_and_by_name(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_config(str(config)) == config
    monkeypatch.setattr("softbellman.cli.settings.config_folders", lambda: [config.parent])
    assert find_config("run") == config == find_config("configs/run.yaml")
    with pytest.raises(UserError, match="shipped with the package: run; nearest: 'run'"):
        find_config("rum.yaml")


def test_every_shipped_config_loads() -> None:
    files = [file for folder in config_folders() for file in folder.glob("*.yaml")]
    assert "builtin_erac" in {file.stem for file in files}
    for file in files:
        try:
            load_settings([file], [])
        except ConfigError as error:
            pytest.fail(str(error))


def choices_in_comments(file: Path) -> dict[str, list[str]]:
    """The values that comments of a settings file list between bars, `a | b` or `a: why | b: why`, by dotted key."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in file.read_text(encoding="utf-8").splitlines():
        match = re.match(r"(\s*)([a-z_]+):(?:\s+\S+)?\s+#\s*(.*\|.*)", line) or re.match(
            r"(\s*)([a-z_]+):()", line
        )
        if match is None:
            continue
        indent, key, comment = match.groups()
        section = section if indent else key
        if comment:
            values = [re.split(r"[:,;]", part.strip())[0].strip() for part in comment.split("|")]
            found[f"{section}.{key}" if indent else key] = values
    return found


def test_comments_of_shipped_configs_list_every_value() -> None:
    types = {key.name: key.type for key in describe(Settings)}
    lists = 0
    for folder in config_folders():
        for file in folder.glob("*.yaml"):
            for key, values in choices_in_comments(file).items():
                lists += 1
                known = types[key].removesuffix(" or text")  # a choice, or a name of the user's own
                assert f"one of {', '.join(values)}" == known, (file.name, key)
    assert lists >= 3


def test_lists_in_comments_are_found(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "algorithm: erac   # mle | ac\npreset: paper  # paper: a, b | published: c\n"
        "payoff:  # the payoff\n  metric: bleu # bleu | cider, see x; more\n  scale: none  # as is\n"
    )
    assert choices_in_comments(file) == {
        "algorithm": ["mle", "ac"],
        "preset": ["paper", "published"],
        "payoff.metric": ["bleu", "cider"],
    }
