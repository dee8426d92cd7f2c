"""What to type next with a finished run: lines that a shell takes as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from softbellman import config
from softbellman.config import ConfigError
from softbellman.data import DataError, find_text
from softbellman.data.captions import find_features
from softbellman.training.result import RunResult
from softbellman.training.runfolder import RunFolder, RunFolderError
from softbellman.training.settings import DataSettings, Settings

_GENERATED = ("seed", "pairs", "dev_pairs", "test_pairs", "difficulty")
"""Keys of the data that decide a generated corpus; options of the commands that write it have their names."""


def next_steps(result: RunResult) -> list[str]:
    """The commands, one a line. Where the run's settings or data cannot be read any more, file names are for the reader."""
    try:
        settings: Settings = config.load(Settings, RunFolder.open(result.folder).config_path)
        return [*_use(result, settings.data), _words("softbellman", "table", result.folder)]
    except (ConfigError, RunFolderError, DataError):
        return _general(result)


def _use(result: RunResult, data: DataSettings) -> list[str]:
    """Use of the model on the data of the run."""
    run = result.folder
    if data.kind == "captions":
        path = Path(data.path)
        features = find_features(path if path.is_dir() else path.parent, data.features or None)
        names = ("--names", data.names) if data.names else ()
        caption = _words("softbellman", "caption", run, "--features", features, *names)
        return [f"{caption} > {_quoted(run / 'captions.txt')}"]
    if data.kind == "scenes":
        options = _options(data, ("seed", "difficulty"))
        scenes = _words("softbellman", "captions", "scenes", "--output", run / "scenes", *options)
        return [scenes, f"{_words('softbellman', 'caption', run)} {_quoted(run / 'scenes')}/*.png"]
    if data.kind == "builtin":
        folder = run / "data"
        export = _words("softbellman", "data", "export", "builtin", folder, *_options(data, _GENERATED))
        references = f"{_quoted(folder / 'test.en')}*"
        return [export, *_translate(result, folder / "test.de", references)]
    if data.kind != "parallel":  # of the user's own: no file is known
        return _general(result)
    (source,) = find_text(data.path, data.test, data.source, other=data.target)
    references = " ".join(map(_quoted, find_text(data.path, data.test, data.target, other=data.source)))
    return _translate(result, source, references)


def _translate(result: RunResult, source: Path, references: str) -> list[str]:
    """Translation of a source file, and its score."""
    hypotheses = _quoted(result.folder / "hypotheses" / "translated.txt")
    translate = _words("softbellman", "translate", result.folder)
    if source.suffix == ".gz":
        line = f"{_words('gzip', '-dc', source)} | {translate} > {hypotheses}"
    else:
        line = f"{translate} < {_quoted(source)} > {hypotheses}"
    return [line, f"softbellman score --references {references}{_tokenize(result)} < {hypotheses}"]


def _general(result: RunResult) -> list[str]:
    run = _quoted(result.folder)
    if result.reads == "text":
        return [
            f"softbellman translate {run} < source.txt > hypotheses.txt",
            f"softbellman score --references references.txt{_tokenize(result)} < hypotheses.txt",
        ]
    read = "--features FILE.npy" if result.reads == "features" else "IMAGE.png"
    return [f"softbellman caption {run} {read}"]


def _tokenize(result: RunResult) -> str:
    """The option that scores as the run did."""
    found = re.findall(r"tok:([\w-]+)", " ".join(row.test.signature for row in result.rows))
    return f" --tokenize {found[0]}" if found else ""


def _options(data: DataSettings, keys: tuple[str, ...]) -> list[str]:
    """Options for the keys that have another value than their default."""
    given = {key: getattr(data, key) for key in keys if getattr(data, key) != getattr(DataSettings, key)}
    return [word for key, value in given.items() for word in (f"--{key}", str(value))]


def _words(*words: str | Path) -> str:
    return " ".join(map(_quoted, words))


def _quoted(word: str | Path) -> str:
    return shlex.quote(str(word))
