"""The reconstruction of the published steps computes what our stages compute under the preset `published`."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import pytest
import torch

from softbellman.config import load
from softbellman.data import BOS
from softbellman.training.assembly import Assembly
from softbellman.training.settings import PRESETS, Settings
from softbellman.training.task import load_task

ROOT = Path(__file__).resolve().parents[2]
OVERRIDES = {
    "preset": "published",
    "device": "cpu",
    "data.pairs": "120",
    "data.dev_pairs": "10",
    "data.test_pairs": "10",
    "data.difficulty": "1",
    "data.min_frequency": "1",
    "data.max_length": "20",
    "model.embedding": "12",
    "model.hidden": "12",
    "model.attention_size": "10",
    "model.init_range": "0.6",
    "payoff.unknown_matches": "true",
    "credit.target_speed": "0.3",
    "credit.smoothness": "0.5",
    "credit.tau": "0.3",
    "augmented.oracle_share": "1.0",
    **{f"{section}.dropout": "0" for section in ("actor", "oracle")},
    **{f"{section}.optimizer.name": "sgd" for section in ("critic", "oracle")},
    **{f"joint.{network}_optimizer.name": "sgd" for network in ("actor", "critic")},
    **{f"joint.{network}_optimizer.learning_rate": "0.3" for network in ("actor", "critic")},
    "critic.optimizer.learning_rate": "0.3",
    "oracle.optimizer.learning_rate": "0.3",
}


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import _published_steps

    return _published_steps


def build(algorithm: str) -> tuple[Settings, Assembly, torch.Tensor]:
    overrides = {**OVERRIDES, "algorithm": algorithm}
    settings = load(Settings, overrides=overrides.items(), presets={"preset": PRESETS})
    parts = Assembly(settings, load_task(settings.data), torch.device("cpu"))
    batch = next(parts.train_batches(settings.actor.schedule, "test").epoch(0))
    return settings, parts, batch


def same_weights(published, ours, start) -> None:
    """Both have moved, to the same place."""
    expected = type(published)(ours).state_dict()
    before = type(published)(start).state_dict()
    for name, found in published.state_dict().items():
        torch.testing.assert_close(found, expected[name], rtol=1e-4, atol=2e-6, msg=name)
    # the score of MLP attention has a bias on the keys' side alone; every weight is trained
    assert all((found - before[name]).abs().max() > 1e-6 for name, found in published.state_dict().items())


def test_maximum_likelihood(benchmark):
    settings, parts, batch = build("mle")
    start = copy.deepcopy(parts.actor)
    step = benchmark.LikelihoodStep(settings, parts.actor)
    losses = step.update(batch)
    sums = parts.build("actor").update(batch, 0)
    torch.testing.assert_close(losses["actor"], sums["nll"] / len(batch))
    same_weights(step.network, parts.actor, start)


def test_critic_and_joint(benchmark):
    for name, kind in (("critic", benchmark.CriticStep), ("joint", benchmark.JointStep)):
        settings, parts, batch = build("erac")
        start = copy.deepcopy(parts.actor), copy.deepcopy(parts.reader)
        step = kind(settings, parts.actor, parts.reader)
        stage = parts.build(name)
        drawn = stage.evaluation.draw(batch, 0)
        losses = step.update(batch, forced=drawn.actions.t())
        sums = stage.update(batch, 0)
        same_weights(step.critic, parts.reader, start[1])
        for found, expected in zip(
            step.target.parameters(), type(step.target)(stage.modules["target"]).parameters(), strict=True
        ):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-6)
        if name == "joint":
            same_weights(step.actor, parts.actor, start[0])
            torch.testing.assert_close(
                losses["actor"], -sums["value"] / len(drawn.mask), rtol=1e-4, atol=1e-5
            )
            torch.testing.assert_close(losses["mle"], sums["nll"] / len(batch))
        payoff = step.rewards(batch, drawn.actions.t())
        torch.testing.assert_close(payoff.t() * drawn.mask, drawn.rewards * drawn.mask, rtol=0, atol=2e-6)
        assert drawn.rewards.abs().max() > 0.1


def edited_target(stage, batch) -> torch.Tensor:
    labels = stage.source.draw(batch, 0).labels
    return torch.cat([torch.full_like(labels[:, :1], BOS), labels], dim=1).t()


def test_oracle(benchmark):
    settings, parts, batch = build("vaml")
    start = copy.deepcopy(parts.reader)
    stage = parts.build("oracle")
    step = benchmark.OracleStep(settings, parts.reader)
    losses = step.update(batch, forced=edited_target(stage, batch))
    sums = stage.update(batch, 0)
    torch.testing.assert_close(losses["oracle"], sums["td_squared"] / sums["sequences"], rtol=1e-4, atol=0)
    same_weights(step.network, parts.reader, start)


@pytest.mark.parametrize("algorithm", ["raml", "vaml"])
def test_augmented(benchmark, algorithm):
    settings, parts, batch = build(algorithm)
    start = copy.deepcopy(parts.actor)
    stage = parts.build("augmented")
    step = benchmark.AugmentedStep(settings, parts.actor, parts.reader if algorithm == "vaml" else None)
    losses = step.update(batch, forced=edited_target(stage, batch))
    sums = stage.update(batch, 0)
    torch.testing.assert_close(losses["actor"], sums["cross_entropy"] / sums["sources"], rtol=1e-4, atol=0)
    same_weights(step.network, parts.actor, start)


def test_samples_end_as_published(benchmark):
    """Drawn rows hold words up to EOS and padding behind it; the last step forces the end."""
    _, parts, batch = build("erac")
    network = benchmark.PublishedNetwork(parts.actor)
    tokens, log_probs = network.sample(batch.source.t(), samples=2, longest=4)
    assert tokens.shape == (4, 2 * len(batch)) and log_probs.shape[:2] == tokens.shape
    ended = (tokens == 3).cumsum(0) > 0
    assert ended[-1].all()
    assert (tokens[1:][ended[:-1]] == 0).all()


def test_a_quick_run_records_a_stage(benchmark, monkeypatch, tmp_path, capsys):
    from benchmarks import training

    target = tmp_path / "training.json"
    words = ["--quick", "--profile", "--threads", "1", "--stages", "joint", "--json", str(target)]
    monkeypatch.setattr(sys, "argv", ["training", *words])
    threads = torch.get_num_threads()
    try:
        training.main()
    finally:
        torch.set_num_threads(threads)
    (row,) = json.loads(target.read_text())["rows"]
    assert {"sampling", "payoff", "actor forward", "critic backward", "target forward"} <= row["parts"].keys()
    assert row["published_over_ours"]["median"] > 0 and row["peak_bytes_longest_batch"]["ours"] > 0
    assert "| joint" in capsys.readouterr().out


def test_a_stage_that_the_paper_s_code_lacks_is_timed_alone(benchmark, monkeypatch, tmp_path, capsys):
    from benchmarks import training

    target = tmp_path / "training.json"
    alone = [name for name, timed in training.STAGES.items() if not timed.published]
    words = ["--quick", "--threads", "1", "--stages", ",".join(["raml", *alone]), "--json", str(target)]
    monkeypatch.setattr(sys, "argv", ["training", *words])
    threads = torch.get_num_threads()
    try:
        training.main()
    finally:
        torch.set_num_threads(threads)
    raml, *ours_alone = json.loads(target.read_text())["rows"]
    assert "published" in raml
    assert all(row["ours"]["median"] > 0 and "published" not in row for row in ours_alone)
    assert [row["stage"] for row in ours_alone] == alone and len(alone) == 12
    drawn = {row["stage"]: row["sequences_per_source"] for row in ours_alone}
    assert drawn["scst"] == 5 and drawn["mrt"] == 6 and drawn["scheduled"] == 1
    assert "pcl: " in capsys.readouterr().out
    training.main(["--table", str(target)])
    told = capsys.readouterr().out
    (line,) = (line for line in told.splitlines() if line.startswith("| `raml`"))
    assert line.split("|")[4].strip() == "1.00" and told.count("\n| `") == 13


def test_the_page_sets_the_recorded_stages_side_by_side(benchmark, tmp_path, capsys):
    from benchmarks import training

    page, record = (
        ROOT / "docs" / "performance.md",
        ROOT / "benchmarks" / "results" / "training-side-by-side-cpu.json",
    )
    copied = tmp_path / "page.md"
    copied.write_text(page.read_text())
    training.main(["--table", str(record), "--page", str(copied)])
    assert copied.read_text() == page.read_text(), "benchmarks/README.md says how to renew it"
    content = json.loads(record.read_text())
    assert {row["stage"] for row in content["rows"]} == set(training.STAGES) - {"oracle", "critic"}
    content["rows"] = [row for row in content["rows"] if row["stage"] != "raml"]
    (tmp_path / "without.json").write_text(json.dumps(content))
    with pytest.raises(SystemExit):
        training.main(["--table", str(tmp_path / "without.json")])
    assert "the record has no raml" in capsys.readouterr().err
