"""The benchmark of growth: its fits, its smallest run, its tables, the figures drawn of it, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def benchmarks() -> Iterator[SimpleNamespace]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        from benchmarks import _harness, _scaling_record, _scaling_sweeps, plots, scaling

        threads = torch.get_num_threads()
        yield SimpleNamespace(
            harness=_harness, record=_scaling_record, sweeps=_scaling_sweeps, plots=plots, scaling=scaling
        )
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def results(benchmarks: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the smallest run's file."""
    folder = tmp_path_factory.mktemp("results")
    benchmarks.scaling.main(["--quick", "--threads", "1", "--json", str(folder / "scaling-cpu.json")])
    assert torch.get_num_threads() == 1  # as asked for, also behind the sweeps over threads
    return folder


@pytest.fixture
def content(results: Path) -> Any:
    return json.loads((results / "scaling-cpu.json").read_text())


def test_exponent_of_a_power_law(benchmarks: SimpleNamespace) -> None:
    exponent, exponents = benchmarks.record.exponent, benchmarks.record.exponents
    sizes = [3, 10, 70, 1000]
    assert exponent(sizes, [0.2 * size**1.7 for size in sizes]) == pytest.approx(1.7)
    assert exponent(sizes, [5.0] * 4) == pytest.approx(0.0)
    # a slow round bends no exponent, only its own would
    by_round = [(1.0, 1.0), (7.0, 1.0), (1.0, 2.0)]
    found = exponents(sizes, [[factor * size**power for factor, power in by_round] for size in sizes])
    assert (found.median, found.upper_quartile) == pytest.approx((1.0, 1.5))
    for bad_sizes, values in (([4, 4], [1.0, 2.0]), ([4], [1.0]), ([4, 8], [0.0, 1.0])):
        with pytest.raises(ValueError, match="power law"):
            exponent(bad_sizes, values)


def test_record_divides_by_the_units_of_a_call(benchmarks: SimpleNamespace) -> None:
    sizes, units = [1, 2, 4, 8], [8, 4, 2, 1]
    sweep = benchmarks.sweeps.Sweep(
        "operator", "V", "N x V = 8", sizes, {"ours": [id] * 4, "eager": [id] * 4},
        unit="row", units=units, peaks={"ours": [80, 80, 80, 80]},
    )  # fmt: skip
    seconds = {"ours": [2.0, 2.0, 4.0, 8.0], "eager": [6.0, 6.0, 12.0, 24.0]}
    rounds = {
        benchmarks.record.key(name, size): [second, 2 * second]  # every second round is twice as slow
        for name, each in seconds.items()
        for size, second in zip(sizes, each, strict=True)
    }
    timings = {name: benchmarks.harness.summarize(times) for name, times in rounds.items()}
    found = benchmarks.record.record(sweep, benchmarks.harness.Comparison(timings, rounds))
    ours = found["contenders"]["ours"]
    assert [timing["median"] for timing in ours["times"]] == pytest.approx([0.375, 0.75, 3.0, 12.0])
    assert ours["exponent_of_largest"]["median"] == pytest.approx(2.0)
    assert ours["exponent"]["median"] == pytest.approx(1.7)
    assert ours["peak_bytes"] == [10, 20, 40, 80] and ours["peak_exponent"] == pytest.approx(1.0)
    assert [ratio["median"] for ratio in found["ratios_to_the_first"]["eager"]] == [3.0] * 4


def test_every_timed_call_follows_one_of_its_own(benchmarks: SimpleNamespace) -> None:
    seen: list[tuple[int, int]] = []
    calls = [lambda turn, size=size: seen.append((size, turn)) for size in (1, 2)]
    sweep = benchmarks.sweeps.Sweep("operator", "T", "", [1, 2], {"ours": calls}, warmup=0)
    benchmarks.scaling.measure(sweep, repetitions=2, cpu_time=False)
    assert seen == [(1, 1), (1, 0), (2, 2), (2, 1), (1, 3), (1, 2), (2, 4), (2, 3)]


def test_quick_run_records_every_sweep(benchmarks: SimpleNamespace, content: Any) -> None:
    rows = content["rows"]
    assert [row["axis"] for row in rows] == [
        axis for axis, builders in benchmarks.sweeps.SWEEPS.items() for _ in builders
    ]
    for row in rows:
        for found in row["contenders"].values():
            assert len(found["times"]) == len(row["sizes"])
            assert found["exponent"]["repetitions"] == found["times"][0]["repetitions"]
    values = next(row for row in rows if row["operator"].startswith("policy_value"))
    assert set(values["streams"]) == {"read", "copy", "copy_to_new"}
    # two gradients written, and statistics; eager keeps more
    peaks = {name: found["peak_bytes"] for name, found in values["contenders"].items()}
    for size, ours, eager in zip(values["sizes"], peaks["ours"], peaks["eager"], strict=True):
        assert 2 * 4 * size <= ours < eager
    draws = next(row for row in rows if row["operator"].startswith("sample_tokens"))
    # no matrix: a row's token, two numbers and a flag, and one byte for the whole call
    assert max(draws["contenders"]["ours"]["peak_bytes"]) < 8 + 2 * 4 + 1 + 1
    assert draws["contenders"]["ours"]["peak_exponent"] == pytest.approx(0.0, abs=0.01)
    linear = next(row for row in rows if row["operator"].startswith("head: "))
    assert linear["contenders"].keys() == {"sum", "rows", "whole", "eager"}
    for i, logits in enumerate(linear["logits_bytes"]):
        rows_peak = linear["contenders"]["rows"]["peak_bytes"][i]
        assert rows_peak < logits < linear["contenders"]["eager"]["peak_bytes"][i]
    for row in rows:
        if row["axis"] == "threads":
            assert row["sizes"] == [1, 2] and row["same_bits"] and row["clock"] == "wall"


def test_other_bits_of_another_number_of_threads_are_refused(benchmarks: SimpleNamespace) -> None:
    check, before = benchmarks.sweeps.check_bits, torch.get_num_threads()
    check("operator", [1, 2], lambda _: [torch.arange(3.0)])
    with pytest.raises(RuntimeError, match="operator: 2 threads give other bits than 1"):
        check("operator", [1, 2], lambda _: [torch.tensor(torch.get_num_threads() * 1e-9)])
    assert torch.get_num_threads() == before


def test_tables_are_printed_and_put_into_a_page(
    benchmarks: SimpleNamespace, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(results / "scaling-cpu.json")
    benchmarks.scaling.main(["--table", source])
    text = capsys.readouterr().out.strip()
    for start in ("### Vocabulary V", "| soft_value, with gradient", "| prefix_bleu", "### Threads"):
        assert f"\n{start}" in text
    page, record = tmp_path / "page.md", benchmarks.record
    page.write_text(f"before\n{record.START}\nold\n{record.END}\nafter\n")
    for _ in range(2):  # what is there is replaced
        benchmarks.scaling.main(["--table", source, "--page", str(page)])
        assert page.read_text() == f"before\n{record.START}\n\n{text}\n\n{record.END}\nafter\n"
    benchmarks.scaling.main(["--table", source, source, "--page", str(page)])
    assert page.read_text().count(text) == 2
    page.write_text("no marks")
    with pytest.raises(ValueError, match="between which the tables go"):
        benchmarks.scaling.main(["--table", source, "--page", str(page)])


def test_the_page_shows_the_recorded_runs(benchmarks: SimpleNamespace) -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    for name in ("scaling-cpu", "scaling-keep-memory-cpu"):
        recorded = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
        assert benchmarks.record.tables(recorded) in page, "the last section of the page says how to renew it"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--page", "docs/performance.md"], "--table FILE"),
        (["--thread-counts", "2", "2"], "two different"),
        (["--cpu-time", "--threads", "2"], "--threads 1"),
        (["--axes", "H"], "invalid choice"),
    ],
)
def test_usage_errors(
    benchmarks: SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit):
        benchmarks.scaling.main(arguments)
    assert message in capsys.readouterr().err


TRAINING_ROW = {
    "stage": "joint",
    "sources": 50,
    "sequences_per_source": 1,
    "clock": "wall",
    "parts": {"the rest": 0.02, "actor backward": 0.18},
}


def test_figures_of_a_small_run(
    benchmarks: SimpleNamespace, results: Path, content: Any, tmp_path: Path
) -> None:
    training = content | {"benchmark": "training", "rows": [TRAINING_ROW]}
    (results / "training-cpu.json").write_text(json.dumps(training))
    benchmarks.plots.main(["--results", str(results), "--images", str(tmp_path)])
    names = {"scaling_bandwidth.png", "scaling_memory.png", "training_parts.png", "scaling.png"}
    assert {path.name for path in tmp_path.iterdir()} == names
    for name in names:
        assert (tmp_path / name).read_bytes().startswith(PNG)


def test_figures_show_the_figures(benchmarks: SimpleNamespace, content: Any) -> None:
    plots = benchmarks.plots
    # soft_value with gradient reads q twice and writes its gradient: 12 bytes an element
    row = content["rows"][0]
    panel = plots.bandwidth(content).axes[0]
    (ours,) = (line for line in panel.lines if line.get_color() == plots.STYLES["ours"]["color"])
    expected = [
        12 * size / timing["median"] / 1e9
        for size, timing in zip(row["sizes"], row["contenders"]["ours"]["times"], strict=True)
    ]
    assert list(ours.get_ydata()) == pytest.approx(expected)
    assert panel.get_ylim()[0] == 0

    legends = [panel.get_legend().get_texts() for panel in plots.scaling(content).axes]
    found = row["contenders"]["ours"]["exponent_of_largest"]["median"]
    assert f"soft_value, ours: $V^{{{found:.2f}}}$" in {text.get_text() for text in legends[0]}

    (panel,) = plots.training(content | {"rows": [TRAINING_ROW]}).axes
    assert [bar.get_width() for bar in panel.patches] == pytest.approx([20.0, 180.0])
    assert "200 ms an update" in panel.get_title(loc="left")
    assert "180.0 ms, 90 %" in {text.get_text() for text in panel.texts}


def test_figures_without_their_data_say_what_to_run(
    benchmarks: SimpleNamespace, content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        benchmarks.plots.main(["--figures", "memory", "--results", str(tmp_path), "--images", str(tmp_path)])
    assert stopped.value.code == 1
    assert "python -m benchmarks.scaling --json" in capsys.readouterr().err
    empty = content | {"rows": []}
    for draw in (benchmarks.plots.bandwidth, benchmarks.plots.memory, benchmarks.plots.scaling):
        with pytest.raises(ValueError, match=r"run benchmarks\.scaling"):
            draw(empty)
    with pytest.raises(ValueError, match="--profile"):
        benchmarks.plots.training(empty)
