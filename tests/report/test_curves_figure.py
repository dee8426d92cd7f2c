"""Learning curves of several runs: groups, bands, axes, files, and what `softbellman plot` says."""

from __future__ import annotations

from pathlib import Path

import pytest

from softbellman import config
from softbellman.cli.main import main
from softbellman.experiments.curves import band_of, curve_of, read_curves
from softbellman.report.curves_figure import draw_curves, write_curves
from softbellman.training.algorithms import ALGORITHMS
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import Settings


def write(path: Path, algorithm: str, seed: int, values: list[float], **settings: str) -> Path:
    """An unfinished run: two validations of maximum likelihood, the others of the next stage; a step takes two seconds."""
    pairs = [("algorithm", algorithm), ("seed", str(seed)), ("output", str(path))]
    pairs += [(key.replace("__", "."), value) for key, value in settings.items()]
    loaded: Settings = ALGORITHMS[algorithm].settle(config.load(Settings, overrides=pairs))
    folder = RunFolder(path)
    folder.create(config.dump(loaded))
    for number, value in enumerate(values):
        stage, step = ("actor", 10 * (number + 1)) if number < 2 else ("joint", 10 * (number - 1))
        folder.log(kind="train", stage=stage, step=step, time=2.0 * step, entropy=value / 10, dev_bleu=-1.0)
        folder.log(kind="dev", stage=stage, step=step, time=2.0 * step, dev_bleu=value)
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    write(root / "erac-1", "erac", 1, [1.0, 2.0, 4.0, 8.0])
    write(root / "erac-2", "erac", 2, [3.0, 4.0, 6.0])
    write(root / "ac-1", "ac", 1, [1.0, 2.0, 3.0])
    return root


def test_stages_lie_end_to_end(runs: Path) -> None:
    records = RunFolder(runs / "erac-1").read_metrics()
    assert curve_of(records, "dev_bleu", "updates") == ((10, 1.0), (20, 2.0), (30, 4.0), (40, 8.0))
    assert curve_of(records, "dev_bleu", "time") == ((20, 1.0), (40, 2.0), (60, 4.0), (80, 8.0))
    assert curve_of(records, "entropy", "updates")[-1] == (40, 0.8)
    assert curve_of(records, "nothing", "updates") == ()


def test_seeds_are_a_band(runs: Path) -> None:
    curves = read_curves([runs])
    assert set(curves.bands) == {"ERAC", "AC"} and not curves.left_out
    band = curves.bands["ERAC"]
    assert band.position == (10, 20, 30, 40) and band.runs == (2, 2, 2, 1)
    assert (band.mean, band.low, band.high) == ((2, 3, 5, 8), (1, 2, 4, 8), (3, 4, 6, 8))
    RunFolder(write(runs / "erac-3", "erac", 3, [])).log(kind="train", stage="actor", step=1, time=1.0)
    assert read_curves([runs]).left_out == (f"{runs / 'erac-3'} has no dev_bleu yet",)


def test_a_run_counts_from_its_first_point_to_its_last() -> None:
    band = band_of([((0.0, 0.0), (10.0, 10.0)), ((5.0, 25.0), (20.0, 40.0))])
    assert band.position == (0, 5, 10, 20) and band.runs == (1, 2, 2, 1)
    assert band.mean == (0, 15, 20, 40)
    many = band_of([tuple((float(place), float(place)) for place in range(5000))])
    assert len(many.position) == 400 and many.mean == pytest.approx(many.position)


def test_settings_tell_systems_apart(runs: Path) -> None:
    write(runs / "other", "erac", 1, [1.0, 2.0], credit__tau="0.5")
    names = set(read_curves([runs]).bands)
    assert len(names) == 3 and "AC" in names and any("tau 0.5" in name for name in names)


def test_the_figure_has_a_line_and_a_band_for_each_system(runs: Path) -> None:
    figure = draw_curves(read_curves([runs], axis="time"), metric="dev_bleu", axis="time", title="mine")
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == ["ERAC (2 runs)", "AC"] or [
        line.get_label() for line in axes.lines
    ] == ["AC", "ERAC (2 runs)"]
    (long,) = (line for line in axes.lines if line.get_label().startswith("ERAC"))
    assert list(long.get_ydata()) == [2.0, 3.0, 5.0, 8.0] and list(long.get_xdata()) == [20, 40, 60, 80]
    assert len(axes.collections) == 1  # the band of two runs
    assert axes.get_xlabel() == "training time (seconds)" and axes.get_ylabel() == "validation BLEU"
    assert figure.get_suptitle() == "mine"


@pytest.mark.parametrize(("name", "magic"), [("a.png", b"\x89PNG"), ("b.pdf", b"%PDF")])
def test_files_are_the_same_for_the_same_runs(runs: Path, tmp_path: Path, name: str, magic: bytes) -> None:
    contents = []
    for folder in ("one", "two"):
        path = write_curves(read_curves([runs]), tmp_path / folder / name, metric="dev_bleu", axis="updates")
        contents.append(path.read_bytes())
    assert contents[0].startswith(magic) and contents[0] == contents[1]


def test_the_command(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "c.png"
    assert (
        main(
            ["plot", str(runs / "erac-1"), str(runs / "ac-1"), "--output", str(output), "--metric", "entropy"]
        )
        == 0
    )
    assert capsys.readouterr().out == f"{output}: ERAC (1), AC (1)\n"
    for words, sentence in (
        (["--output", "c.svg"], "c.svg must end in .png or .pdf"),
        (
            ["--output", str(output), "--metric", "dev_blue"],
            "logged 'dev_blue'; the numbers there are: entropy, dev_bleu",
        ),
    ):
        assert main(["plot", str(runs), *words]) == 2
        assert sentence in capsys.readouterr().err
    assert main(["plot", str(tmp_path / "nowhere"), "--output", str(output)]) == 2
    assert "is not a run folder" in capsys.readouterr().err
