"""A short ERAC run on the built-in corpus must raise BLEU above its maximum-likelihood start."""

from __future__ import annotations

from dataclasses import replace

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
)


def test_a_short_erac_run_raises_bleu(tmp_path):
    schedule = ScheduleSettings(batch_size=50, max_decays=50)
    settings = Settings(
        output=str(tmp_path / "run"),
        device="cpu",
        data=DataSettings(
            pairs=3000, dev_pairs=200, test_pairs=200, difficulty=1.0, min_frequency=1, max_length=20
        ),
        model=ModelSettings(embedding=48, hidden=48, attention_size=48),
        credit=CreditSettings(target_speed=0.05),
        actor=ActorStageSettings(
            optimizer=OptimizerSettings(learning_rate=5e-3), schedule=replace(schedule, epochs=4)
        ),
        critic=CriticStageSettings(
            optimizer=OptimizerSettings(learning_rate=5e-3), schedule=replace(schedule, epochs=4)
        ),
        joint=JointStageSettings(
            actor_optimizer=OptimizerSettings(learning_rate=5e-4, beta1=0.0),
            critic_optimizer=OptimizerSettings(learning_rate=5e-4, beta1=0.0),
            schedule=replace(schedule, epochs=3),
        ),
        evaluation=EvaluationSettings(beam=1, batch_size=200, max_length=20),
    )
    mle, erac = run(settings, quiet=True).rows
    assert erac.dev_bleu > mle.dev_bleu + 0.3
