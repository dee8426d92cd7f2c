"""Settings of runs of some updates, for tests that look at what a finished run holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from softbellman.training.settings import (
    ActorStageSettings,
    AugmentedStageSettings,
    CheckpointSettings,
    CreditSettings,
    CriticStageSettings,
    DataSettings,
    EvaluationSettings,
    JointStageSettings,
    ModelSettings,
    OptimizerSettings,
    OracleStageSettings,
    ScheduleSettings,
    Settings,
)


def small_erac(folder: Path, evaluation: EvaluationSettings) -> Settings:
    """ERAC on a small corpus, an epoch of each stage; its run lies in `folder`."""
    one = ScheduleSettings(batch_size=20, epochs=1)
    fast = OptimizerSettings(learning_rate=1e-2)
    return Settings(
        device="cpu", threads=1, output=str(folder / "erac"),
        data=DataSettings(pairs=200, dev_pairs=12, test_pairs=12, difficulty=1.0, min_frequency=2, max_length=20),
        model=ModelSettings(embedding=12, hidden=12, attention_size=12, init_range=0.5),
        credit=CreditSettings(tau=0.2), actor=ActorStageSettings(schedule=one, optimizer=fast),
        critic=CriticStageSettings(schedule=one, optimizer=fast), joint=JointStageSettings(schedule=one),
        oracle=OracleStageSettings(schedule=one, optimizer=fast, tau=0.3),
        augmented=AugmentedStageSettings(schedule=one, start="actor"),
        checkpoint=CheckpointSettings(keep=3), evaluation=evaluation,
    )  # fmt: skip


def on_scenes(settings: Settings, folder: Path) -> Settings:
    """AC on a few generated images."""
    data = replace(
        settings.data, kind="scenes", pairs=12, dev_pairs=4, test_pairs=4, min_frequency=1, max_length=25
    )
    model = replace(settings.model, image_width=16)
    return replace(settings, algorithm="ac", output=str(folder / "scenes"), data=data, model=model)
