"""Numbers that a trainer logs beside TRL's."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from torch import Tensor


class NotedMetrics:
    """Means over the batches since the last line of the log; put before the trainer's class.

    Needs `model`, `accelerator` and `log` of a trainer.
    """

    model: Any
    accelerator: Any

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.noted: dict[str, dict[str, list[float]]] = {
            mode: defaultdict(list) for mode in ("train", "eval")
        }
        super().__init__(*arguments, **options)

    def note(self, name: str, total: Tensor, count: Tensor) -> None:
        """Note `total / count` of a batch, both summed over all processes."""
        total, count = (self.accelerator.gather(part.detach().float()).sum() for part in (total, count))
        mode = "train" if self.model.training else "eval"
        self.noted[mode][name].append(float(total / count.clamp(min=1)))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The trainer's own numbers and those noted."""
        mode, start = ("train", "") if self.model.training else ("eval", "eval_")
        for name, values in self.noted[mode].items():
            logs[start + name] = sum(values) / len(values)
        self.noted[mode].clear()
        super().log(logs, start_time)  # type: ignore[misc]
