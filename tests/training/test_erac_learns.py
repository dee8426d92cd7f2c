"""A short ERAC run on the built-in corpus must raise BLEU above its start, and the payoff of drawn sequences with it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from softbellman.training import run
from softbellman.training.settings import (
    ActorStageSettings,
    CreditSettings,
    CriticStageSettings,
    DataSettings,
    EvaluationSettings,
    JointStageSettings,
    ModelSettings,
    OptimizerSettings,
    ScheduleSettings,
    Settings,
    WarmUpSettings,
)


@pytest.fixture
def one_thread():
    """The bits do not matter here, the time does."""


def test_a_short_erac_run_raises_bleu(tmp_path):
    schedule = ScheduleSettings(batch_size=50, epochs=1, decay=1.0, max_decays=99)
    fast = OptimizerSettings(learning_rate=4e-3)
    settings = Settings(
        output=str(tmp_path / "run"),
        device="cpu",
        data=DataSettings(pairs=6000, dev_pairs=200, test_pairs=10, difficulty=1.0, max_length=20),
        model=ModelSettings(embedding=96, hidden=96, attention_size=96, init_range=0.3),
        credit=CreditSettings(tau=0.005, target_speed=0.02),
        actor=ActorStageSettings(dropout=0.2, optimizer=fast, schedule=replace(schedule, epochs=4)),
        warmup=WarmUpSettings(optimizer=fast, schedule=replace(schedule, epochs=3)),
        critic=CriticStageSettings(samples=1, schedule=replace(schedule, epochs=2)),
        joint=JointStageSettings(
            follow="target",
            mle_weight=0.3,
            actor_optimizer=OptimizerSettings(learning_rate=1e-4),
            critic_optimizer=OptimizerSettings(learning_rate=5e-4),
            schedule=replace(schedule, interval=60),
        ),
        evaluation=EvaluationSettings(beam=1, batch_size=200, max_length=20),
    )
    result = run(settings)
    mle, erac = result.rows
    assert erac.dev_bleu > mle.dev_bleu + 0.5
    records = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    payoffs = [r["dev_payoff"] for r in records if r["stage"] == "joint" and r["kind"] == "dev"]
    assert payoffs[-1] > payoffs[0] + 0.2  # of drawn sequences
    health = {record["stage"]: record["sentence"] for record in records if record["kind"] == "health"}
    assert list(health) == ["actor", "warmup", "critic", "joint"]
    assert all(sentence.startswith("normal: ") for sentence in health.values()), health
