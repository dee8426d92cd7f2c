"""Settings of a run that takes seconds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from softbellman.training.settings import (
    ActorStageSettings,
    AugmentedStageSettings,
    CompletionStageSettings,
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


@pytest.fixture(autouse=True)
def one_thread():
    """The same numbers bit for bit need the same thread count."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny_settings(tmp_path) -> Settings:
    adam = OptimizerSettings(name="adam", learning_rate=5e-3)
    schedule = ScheduleSettings(batch_size=20, epochs=2, max_decays=5)
    return Settings(
        output=str(tmp_path / "run"),
        device="cpu",
        data=DataSettings(
            pairs=200, dev_pairs=24, test_pairs=20, difficulty=1.0, min_frequency=1, max_length=20
        ),
        model=ModelSettings(embedding=16, hidden=16, attention_size=16),
        actor=ActorStageSettings(optimizer=adam, schedule=schedule),
        critic=CriticStageSettings(schedule=replace(schedule, epochs=1)),
        joint=JointStageSettings(schedule=replace(schedule, epochs=1, interval=5)),
        oracle=OracleStageSettings(schedule=replace(schedule, epochs=1)),
        augmented=AugmentedStageSettings(optimizer=adam, schedule=replace(schedule, epochs=1)),
        completion=CompletionStageSettings(schedule=replace(schedule, epochs=1)),
        evaluation=EvaluationSettings(beam=2, batch_size=24, max_length=24),
    )
