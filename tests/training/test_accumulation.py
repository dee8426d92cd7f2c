"""An update in parts is that of the whole batch, within rounding, in every stage."""

from __future__ import annotations

import pytest
import torch
from small_updates import CPU, assert_same_update, settings_of
from torch import Tensor

from softbellman.training.assembly import Assembly
from softbellman.training.settings import Settings
from softbellman.training.stages import Stage, Sums, update_in_parts
from softbellman.training.stages.base import descend
from softbellman.training.task import Task, load_task

STILL = {"actor.dropout": "0", "critic.dropout": "0", "oracle.dropout": "0", "credit.tau": "0.3"}

STAGES = {
    "actor": ("actor", {}),
    "smoothed": ("actor", {"actor.label_smoothing": "0.1"}),
    "chunked": ("actor", {"logits": "chunked"}),
    "averaged": ("actor", {"actor.average": "0.9"}),
    "warmup": ("warmup", {}),
    "warmup of completions": ("warmup", {"warmup.target": "completion"}),
    "critic": ("critic", {"credit.target_speed": "0.5", "critic.samples": "2"}),
    "joint": ("joint", {"credit.target_speed": "0.5", "joint.average": "0.9", "credit.prior": "start"}),
    "trace": ("joint", {"credit.trace": "0.5", "joint.samples": "2", "credit.reference_weight": "0.3"}),
    "oracle": ("oracle", {"algorithm": "vaml"}),
    "vaml": ("augmented", {"algorithm": "vaml", "augmented.start": "actor"}),
    "raml": ("augmented", {"algorithm": "raml", "augmented.tau": "0.5"}),
    "ocd": ("completion", {"algorithm": "ocd"}),
    "scheduled": ("scheduled", {"algorithm": "scheduled", "scheduled.decay": "linear"}),
    "interpolation": (
        "interpolated",
        {"algorithm": "interpolation", "interpolated.increments": "0.3", "interpolated.own": "0.2"},
    ),
    "rloo": ("sequence", {"algorithm": "rloo", "sequence.baseline": "others"}),
    "scst": ("sequence", {"algorithm": "scst", "sequence.baseline": "greedy"}),
    "mixer": ("sequence", {"algorithm": "mixer", "sequence.baseline": "learnt", "sequence.mixer_chunk": "3"}),
    "mrt": ("sequence", {"algorithm": "mrt", "sequence.objective": "minimum_risk"}),
    "pcl": ("consistency", {"algorithm": "pcl", "consistency.mle_weight": "0.1"}),
    "bso": ("search", {"algorithm": "bso"}),
    "future success": ("future", {"algorithm": "future_success"}),
    "future success, beam": ("future", {"algorithm": "future_success", "future.sequences": "beam"}),
    "professor forcing": (
        "professor",
        {"algorithm": "professor_forcing", "professor.generator_above": "0.1", "professor.start": "actor"},
    ),
    "unified pcl": ("consistency", {"algorithm": "pcl", "consistency.value": "unified"}),
}


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(settings_of({}).data)


def updated(
    task: Task, name: str, overrides: dict[str, str], kind: str, parts: int
) -> tuple[Stage, Sums, dict[str, Tensor]]:
    model = {} if kind == "lstm" else TRANSFORMER
    asked = {**STILL, **overrides, **model, f"{name}.schedule.accumulate": str(parts)}
    assembly = Assembly(_settings(asked), task, CPU)
    stage = assembly.build(name)
    batch = next(assembly.train_batches(stage.schedule, name).epoch(0))
    assert len(batch) % 4 != 0 or parts != 4  # parts of different sizes
    torch.manual_seed(3)
    sums = update_in_parts(stage, batch, 0)
    gradients = {
        f"{network}.{key}": parameter.grad
        for network, module in stage.modules.items()
        for key, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    return stage, sums, gradients


TRANSFORMER = {
    "model.kind": "transformer",
    "model.embedding": "256",
    "model.attention_size": "256",
    "model.init_range": "0.1",
    "model.hidden": "12",
    "model.heads": "2",
    "model.feedforward": "16",
}


def _settings(overrides: dict[str, str]) -> Settings:
    return settings_of(overrides)


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
@pytest.mark.parametrize("case", STAGES)
def test_parts_add_up_to_the_batch(task: Task, case: str, kind: str) -> None:
    name, overrides = STAGES[case]
    if name == "professor" and kind != "lstm":
        pytest.skip("of recurrent decoders alone")
    whole = updated(task, name, overrides, kind, 1)
    parts = updated(task, name, overrides, kind, 4)
    assert_same_update(parts, whole)
    for network, module in whole[0].modules.items():  # weights, target networks and averages after the step
        for (key, wanted), found in zip(
            module.named_parameters(), parts[0].modules[network].parameters(), strict=True
        ):
            if key.endswith("key.bias"):
                continue  # a softmax does not see it: its gradient is 0 but for rounding, which Adam enlarges
            gap = (found - wanted).abs()
            # Adam's first step turns rounding of a gradient near 0 into a part of the learning rate.
            assert float(gap.detach().quantile(0.9)) < 2e-5, (network, key)


def test_more_parts_than_rows_are_as_many_as_there_are_rows(task: Task) -> None:
    whole = updated(task, "actor", {"actor.schedule.batch_size": "3"}, "lstm", 1)
    parts = updated(task, "actor", {"actor.schedule.batch_size": "3"}, "lstm", 9)
    assert_same_update(parts, whole)


def test_a_part_that_is_not_finite_skips_the_step() -> None:
    from softbellman.training.stages.base import _computing, _Part

    module = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    before = module.weight.detach().clone()
    losses: dict[int, Tensor] = {}
    for number, factor in enumerate((torch.inf, 1.0)):
        loss = module(torch.ones(1, 2)).sum() * 0 + module.bias.sum() * 0 + factor
        with _computing(_Part(0.5, number == 0, number == 1, losses)):
            norm = descend(loss, module, optimizer, 5.0)
    assert not norm.isfinite()
    assert torch.equal(module.weight, before)
