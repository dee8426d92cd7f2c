"""An update whose sequences a captured step draws is the update of plain sampling."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from decoding.recorded_graph import RecordedGraph
from small_updates import CPU, assert_same_update, one_update, settings_of

from softbellman.decoding import sample
from softbellman.decoding.experimental import GraphSampler
from softbellman.training.assembly import Assembly
from softbellman.training.cache import StageCache
from softbellman.training.runfolder import RunFolder
from softbellman.training.task import load_task

CASES = {
    "critic": ("critic", {}),
    "joint": ("joint", {}),
    "joint, chunked logits": ("joint", {"logits": "chunked"}),
    "joint, input feeding": ("joint", {"model.input_feeding": "true"}),
    "joint, actor waits": ("joint", {"joint.actor_delay": "5"}),
    "completion": ("completion", {"algorithm": "ocd"}),
}


def sample_by_graphs(parts: Assembly) -> None:
    parts.sampler = GraphSampler(parts.actor, capture=RecordedGraph)


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_those_of_plain_sampling(case: str) -> None:
    name, overrides = CASES[case]
    task = load_task(settings_of({}).data)
    samplers = []

    def prepare(parts: Assembly) -> None:
        sample_by_graphs(parts)
        samplers.append(parts.sampler)

    drawn = one_update(task, name, overrides, prepare)
    assert_same_update(drawn, one_update(task, name, overrides))
    assert [sampler.graphs for sampler in samplers] == [1]


def test_updates_on_changing_weights_use_few_graphs() -> None:
    """Several batches and updates: the same weights in the end, from graphs of the shapes alone."""
    task = load_task(settings_of({}).data)
    weights, sampler = [], None
    for graphs in (False, True):
        parts = Assembly(settings_of({}), task, CPU)
        if graphs:
            sample_by_graphs(parts)
            sampler = parts.sampler
        stage = parts.build("joint")
        torch.manual_seed(3)
        for step, batch in enumerate(parts.train_batches(stage.schedule, "joint").epoch(0)):
            stage.update(batch, step)
        weights.append(torch.cat([part.detach().flatten() for part in parts.actor.parameters()]))
    assert step >= 2
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=1e-4)
    assert isinstance(sampler, GraphSampler) and 1 <= sampler.graphs <= step + 1


def test_the_setting_decides_and_the_cache_tells(tmp_path) -> None:
    task = load_task(settings_of({}).data)
    keys = {}
    for asked in (False, True):
        settings = replace(settings_of({"cuda_graphs": str(asked).lower()}), cache=str(tmp_path / "cache"))
        parts = Assembly(settings, task, CPU)
        assert isinstance(parts.sampler, GraphSampler if asked else partial)
        assert asked or parts.sampler.func is sample
        keys[asked] = StageCache(settings, RunFolder(tmp_path / "run"), task, parts.payoff, device=CPU).key(
            "critic"
        )
    assert keys[False] != keys[True]
