"""Which rows an LSTM still has to read: time cut into segments, rows longest first, finished rows left out.

Rows of a batch differ in length: of 50 sampled sentences the longest often has twice the mean's tokens, and a recurrent
layer that runs over the padded batch spends half of its work on padding. Packed sequences would avoid all of it, but PyTorch
runs them by a slower layer on the CPU. Here the fast layer is called a few times, each time for a span of steps on the rows
that reach it.

Notation: N rows, T steps.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

CALL_COST = (
    60.0  # what one more call costs, in steps of one row: weights laid out anew, their gradient added up
)


class Segment(NamedTuple):
    """Steps `start` to `stop` of the first `rows` rows."""

    start: int
    stop: int
    rows: int


class Segments(NamedTuple):
    """A plan for rows of given lengths.

    Attributes:
        order: the rows, longest first, [N].
        parts: the segments, in the order of time.
        place: where the row of rank i has step t among the stacked [rows * steps] outputs of the segments is
            `place[0, t] + i * place[1, t]`; [2, T].
        rank: the inverse of `order`, [N].
    """

    order: Tensor
    parts: list[Segment]
    place: Tensor
    rank: Tensor

    def positions(self, rows: Tensor, steps: int) -> Tensor:
        """Places of the flat indices `rows` [M] into [N, T] among the outputs."""
        time = rows % steps
        return (
            self.place[0, time]
            + self.rank[torch.div(rows, steps, rounding_mode="floor")] * self.place[1, time]
        )


def needed_lengths(rows: Tensor, count: int, steps: int) -> Tensor:
    """Steps of each of `count` rows up to the last one asked for by the flat indices `rows` into [N, T]. Shape: [N]."""
    lengths = torch.zeros(count, dtype=torch.int64, device=rows.device)
    owner = torch.div(rows, steps, rounding_mode="floor")
    return lengths.scatter_reduce(0, owner, rows % steps + 1, "amax")


def plan_segments(lengths: Tensor, *, call_cost: float = CALL_COST) -> Segments:
    """The cheapest cut, where a segment costs its steps times its rows and `call_cost`.

    Args:
        lengths: steps of each row, on the CPU, int64 [N]; at least one of them above 0.
        call_cost: see above.
    """
    ordered, order = lengths.sort(descending=True, stable=True)
    steps = int(ordered[0])
    alive = (ordered[:, None] > torch.arange(steps)).sum(0).tolist()  # rows that have a step t
    best, previous = [0.0] + [float("inf")] * steps, [0] * (steps + 1)
    for stop in range(1, steps + 1):
        if stop < steps and alive[stop] == alive[stop - 1]:
            continue  # nothing ends here
        for start in range(stop):
            cost = best[start] + alive[start] * (stop - start) + call_cost
            if cost < best[stop]:
                best[stop], previous[stop] = cost, start
    parts: list[Segment] = []
    stop = steps
    while stop:
        parts.insert(0, Segment(previous[stop], stop, alive[previous[stop]]))
        stop = previous[stop]
    offsets, widths, done = [], [], 0
    for start, stop, rows in parts:
        offsets += [done + step for step in range(stop - start)]
        widths += [stop - start] * (stop - start)
        done += rows * (stop - start)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    return Segments(order, parts, torch.tensor([offsets, widths]), rank)
