"""The edits as one would write them in Python: a sequence at a time, token by token; contenders of benchmarks.edits."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

MAX_ORDER, RATE, OPERATIONS = 4, 0.2, 16

Draw = Callable[[Sequence[int]], list[int]]
Density = Callable[[Sequence[int], Sequence[int]], float]


class Loop(NamedTuple):
    """One proposal: `draw(x)` gives an edit, `log_density(x, y)` its log probability."""

    draw: Draw
    log_density: Density


def loops(alphabet: Sequence[int], length: int, temperature: dict[str, float]) -> dict[str, Loop]:
    """Every proposal for references of one length without special tokens. Tables are made here, untimed."""
    size, members = len(alphabet), set(alphabet)
    choose = random.Random(0)

    def other(token: int) -> int:
        while (substitute := choose.choice(alphabet)) == token:
            pass
        return substitute

    def draw_ngram(x: Sequence[int]) -> list[int]:
        y = list(x)
        order = choose.randint(1, min(MAX_ORDER, len(x)))
        start = choose.randint(0, len(x) - order)
        for i in range(start, start + order):
            if x[i] in members:
                y[i] = choose.choice(alphabet)
        return y

    def ngram_density(x: Sequence[int], y: Sequence[int]) -> float:
        changed = {i for i, (token, edited) in enumerate(zip(x, y, strict=True)) if token != edited}
        orders, total = min(MAX_ORDER, len(x)), 0.0
        for order in range(1, orders + 1):
            starts = len(x) - order + 1
            for start in range(starts):
                if changed.issubset(range(start, start + order)):
                    touchable = sum(token in members for token in x[start : start + order])
                    total += 1 / orders / starts / size**touchable
        return math.log(total)

    def draw_corrupt(x: Sequence[int]) -> list[int]:
        return [other(token) if choose.random() < RATE else token for token in x]

    def corrupt_density(x: Sequence[int], y: Sequence[int]) -> float:
        d = sum(token != edited for token, edited in zip(x, y, strict=True))
        return d * math.log(RATE / (size - 1)) + (len(x) - d) * math.log(1 - RATE)

    weights = [
        math.comb(length, d) * (size - 1.0) ** d * math.exp(-d / temperature["hamming"])
        for d in range(length + 1)
    ]
    distances, hamming_log_z = list(accumulate(weights)), math.log(sum(weights))

    def draw_hamming(x: Sequence[int]) -> list[int]:
        y = list(x)
        for i in choose.sample(range(len(x)), _pick(distances, choose)):
            y[i] = other(x[i])
        return y

    def hamming_density(x: Sequence[int], y: Sequence[int]) -> float:
        d = sum(token != edited for token, edited in zip(x, y, strict=True))
        return -d / temperature["hamming"] - hamming_log_z

    cold = [math.exp(-e / temperature["edit"]) for e in range(OPERATIONS + 1)]
    scripts = [[0.0] * (OPERATIONS + 1) for _ in range(length + 1)]  # W(m, e)
    for m, row in enumerate(scripts):
        for e in range(OPERATIONS + 1):
            before = scripts[m - 1][e] + (2 * scripts[m - 1][e - 1] if e else 0.0) if m else float(e == 0)
            row[e] = before + (row[e - 1] if e else 0.0)
    operations = list(accumulate(w * c for w, c in zip(scripts[length], cold, strict=True)))

    def draw_script(x: Sequence[int]) -> list[int]:
        left, y, i = _pick(operations, choose), [], 0
        while i < len(x) or left:
            m = len(x) - i
            u = choose.random() * scripts[m][left]
            if left and u < scripts[m][left - 1]:
                y.append(choose.choice(alphabet))
                left -= 1
                continue
            u -= scripts[m][left - 1] if left else 0.0
            if not left or u < scripts[m - 1][left]:
                y.append(x[i])
            else:
                if u - scripts[m - 1][left] < scripts[m - 1][left - 1]:
                    y.append(other(x[i]))
                left -= 1
            i += 1
        return y

    def script_density(x: Sequence[int], y: Sequence[int]) -> float:
        replace, insert = 1 / (size - 1), 1 / size
        rows = [[[0.0] * (OPERATIONS + 2) for _ in range(len(y) + 1)] for _ in range(len(x) + 1)]
        rows[0][0][0] = 1.0
        for i in range(len(x) + 1):
            for j in range(max(0, i - OPERATIONS), min(len(y), i + OPERATIONS) + 1):
                cell = rows[i][j]
                for e in range(OPERATIONS + 1):
                    value = cell[e]
                    if i and j:
                        match = x[i - 1] == y[j - 1]
                        diagonal = rows[i - 1][j - 1]
                        value += diagonal[e] if match else replace * diagonal[e - 1] if e else 0.0
                    if i and e:
                        value += rows[i - 1][j][e - 1]
                    if j and e:
                        value += insert * rows[i][j - 1][e - 1]
                    cell[e] = value
        mass = sum(weight * share for weight, share in zip(cold, rows[-1][-1], strict=False))
        return math.log(mass / operations[-1])

    return {
        "ngram": Loop(draw_ngram, ngram_density),
        "corrupt": Loop(draw_corrupt, corrupt_density),
        "hamming": Loop(draw_hamming, hamming_density),
        "edit": Loop(draw_script, script_density),
    }


def _pick(cumulated: list[float], choose: random.Random) -> int:
    return bisect_right(cumulated, choose.random() * cumulated[-1], hi=len(cumulated) - 1)
