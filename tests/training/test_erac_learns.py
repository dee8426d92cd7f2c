"""A short ERAC run on the built-in corpus must raise BLEU above its maximum-likelihood start."""

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
    fast = OptimizerSettings(learning_rate=2e-3)
    settings = Settings(
        output=str(tmp_path / "run"),
        device="cpu",
        data=DataSettings(pairs=20000, dev_pairs=200, test_pairs=10, difficulty=3.0, max_length=30),
        model=ModelSettings(embedding=128, hidden=128, attention_size=128, init_range=0.3),
        credit=CreditSettings(target_speed=0.02),
        actor=ActorStageSettings(dropout=0.2, optimizer=fast, schedule=replace(schedule, epochs=2)),
        warmup=WarmUpSettings(optimizer=fast, schedule=replace(schedule, epochs=2, max_updates=600)),
        critic=CriticStageSettings(samples=1, schedule=schedule),
        joint=JointStageSettings(
            follow="target",
            mle_weight=0.0,  # the policy gradient alone must do it
            actor_optimizer=OptimizerSettings(learning_rate=2e-4),
            critic_optimizer=OptimizerSettings(learning_rate=3e-4),
            schedule=replace(schedule, max_updates=150, interval=75),
        ),
        evaluation=EvaluationSettings(beam=1, batch_size=200, max_length=30),
    )
    result = run(settings, quiet=True)
    mle, erac = result.rows
    assert erac.dev_bleu > mle.dev_bleu + 0.5
    records = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    payoffs = [r["dev_payoff"] for r in records if r["stage"] == "joint" and r["kind"] == "dev"]
    assert payoffs[-1] > payoffs[0]
