"""Random draws that are the same for a key on every machine and Python version."""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar

Item = TypeVar("Item")


class Draws:
    """Draws for a key. Uses `random.Random.random` alone, whose sequence Python promises to keep."""

    def __init__(self, key: str) -> None:
        self._random = random.Random(key).random

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self._random() < probability

    def below(self, limit: int) -> int:
        """A number 0..limit-1, all equally likely."""
        return int(self._random() * limit)

    def pick(self, items: Sequence[Item]) -> Item:
        """One item, all equally likely."""
        return items[int(self._random() * len(items))]

    def weighted(self, items: Sequence[Item], cumulative: Sequence[float]) -> Item:
        """One item; `cumulative` holds the running sums of the weights."""
        return items[min(bisect(cumulative, self._random() * cumulative[-1]), len(items) - 1)]


def zipf(count: int, offset: int = 2) -> list[float]:
    """Running sums of Zipf's weights 1 / (rank + offset), rank = 0..count-1."""
    return list(accumulate(1.0 / (rank + offset) for rank in range(count)))
