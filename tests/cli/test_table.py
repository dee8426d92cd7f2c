"""`softbellman table`: what goes where, and errors in one line. The tables themselves: tests/experiments."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from softbellman import config
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import DataSettings, Settings

RunCommand = Callable[..., Any]


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Path]:
    """A finished run of maximum likelihood, one that is not finished, and one on other data."""

    def write(name: str, data: DataSettings, *, finished: bool = True) -> Path:
        folder = RunFolder(tmp_path / name)
        folder.create(config.dump(Settings(algorithm="mle", data=data)))
        if finished:
            folder.log(kind="test", stage="actor", system="MLE", dev_bleu=20.5, test_bleu=21.25)
        return folder.path

    return {
        "whole": write("whole", DataSettings()),
        "part": write("part", DataSettings(), finished=False),
        "other": write("other", DataSettings(difficulty=1.0)),
    }


def test_the_table_goes_to_standard_output_and_warnings_to_standard_error(
    softbellman: RunCommand, runs: dict[str, Path]
) -> None:
    code, out, err = softbellman("table", str(runs["whole"]), str(runs["part"]), "--format", "markdown")
    assert code == 0 and "| MLE    |    1 |           20.50 |     21.25 |" in out.splitlines()
    assert err.startswith(f"softbellman: {runs['part']} is not finished") and err.count("\n") == 1
    code, out, err = softbellman("table", str(runs["whole"]), "--format", "json", "--metrics", "bleu")
    assert code == 0 and err == ""
    assert json.loads(out)["groups"][0]["runs"][0]["metrics"] == {"test_bleu": 21.25}
    assert "21.25" in softbellman("table", str(runs["whole"]), "--per-seed").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["part"], "part is not finished: stage actor has no test record"),
        (["whole", "other"], "data.difficulty is 1.0, not 3.0; give each data set a table of its own"),
        (["whole", "--baseline", "ac"], "--baseline 'ac' is none of the groups: 'MLE'"),
        (["whole", "--metrics", "ter"], "no run logged the metric 'ter'"),
        (["whole", "--compute", "bleurt"], "metric 'bleurt' cannot be computed; these can: bleu_orders"),
        (["nowhere"], "nowhere is not a run folder: it does not exist"),
        ([], "the following arguments are required: RUN"),
    ],
)
def test_errors_are_one_line(
    softbellman: RunCommand, runs: dict[str, Path], words: list[str], message: str
) -> None:
    code, out, err = softbellman("table", *(str(runs.get(word, word)) for word in words))
    assert code == 2 and out == "" and err.count("\n") == 1 and message in err
