"""Where an update waits for its device: only where sizes depend on what was drawn."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from decoding.recorded_graph import RecordedGraph, reads_data
from small_updates import CPU, settings_of
from torch.utils._python_dispatch import TorchDispatchMode

from softbellman.decoding.experimental import GraphSampler
from softbellman.training.assembly import Assembly
from softbellman.training.stages import base
from softbellman.training.task import load_task

# With input feeding a network does on the CPU what it does on a GPU; without, the CPU leaves out steps by their number.
ALIKE = {"model.input_feeding": "true", "warmup.schedule.epochs": "0"}
CASES = {
    "maximum likelihood": ("actor", {"algorithm": "mle"}, {}),
    "warm-up": ("warmup", {"warmup.schedule.epochs": "1"}, {}),
    # Positions of the drawn tokens; once more from their lengths, which are on the host then. The looks at the open rows and
    # the transfers of these lengths and of the largest limit are not seen here.
    "critic": ("critic", {}, {"aten::nonzero": 2}),
    "joint": ("joint", {}, {"aten::nonzero": 2}),
    "joint, longer returns and a prior": (
        "joint",
        {"credit.trace": "0.6", "credit.prior": "start"},
        {"aten::nonzero": 2},
    ),
    # Sequences with a weight and their tokens, prefixes that several have.
    "RAML": ("augmented", {"algorithm": "raml"}, {"aten::nonzero": 3, "aten::index": 1}),
    "VAML": ("augmented", {"algorithm": "vaml"}, {"aten::nonzero": 3, "aten::index": 1}),
    "soft Q": ("oracle", {"algorithm": "vaml"}, {"aten::nonzero": 1, "aten::index": 1}),
}


class Waits(TorchDispatchMode):
    """Counts the operators that read the numbers of a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        if reads_data(function, arguments, options or {}):
            self.counts[function._schema.name] += 1
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("case", CASES)
def test_an_update_waits_only_for_sizes(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, overrides, expected = CASES[case]
    monkeypatch.setattr(base, "asking_waits", lambda tensor: True)  # as on a GPU
    task = load_task(settings_of({}).data)
    parts = Assembly(settings_of({**ALIKE, **overrides}), task, CPU)
    parts.sampler = GraphSampler(parts.actor, capture=RecordedGraph, check_every=1000)
    stage = parts.build(name)
    first, second, *_ = parts.train_batches(stage.schedule, name).epoch(0)
    stage.update(first, 0)
    stage.update(second, 1)  # its graph is there
    with Waits() as waits:
        stage.update(second, 1)
    assert waits.counts == expected
