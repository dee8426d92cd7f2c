"""How one reference is edited and how probable the outcome is, written as the process is described.

Choices are compared with exact fractions, densities are sums over all ways to reach a sequence: exponential
where the operators take a dynamic programme or a closed form.

Notation: A the alphabet of substitutes, n the tokens of a sequence x that belong to it, y an edit of x.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from itertools import accumulate
from typing import NamedTuple

ONE = 2**62  # a decision compares 62 random bits with a probability times this
# Where the random blocks of the decisions of "corrupt" begin: 16 of their upper bytes a block, their lower 54 bits.
DECISIONS, TIES = 2**30, 2**31


class Proposal(NamedTuple):
    """How one reference is edited."""

    name: str
    alphabet: tuple[int, ...]  # ascending
    max_order: int
    rate: float
    temperature: float
    limit: int  # of the distance or the number of operations
    weights: tuple[Fraction, Fraction, Fraction]  # substitution, insertion, deletion

    def touchable(self, x: Sequence[int]) -> list[int]:
        members = set(self.alphabet)
        return [i for i, token in enumerate(x) if token in members]

    def others(self, token: int) -> tuple[int, ...]:
        return tuple(other for other in self.alphabet if other != token)

    def windows(self, length: int) -> Iterator[tuple[range, Fraction]]:
        """Every window of "ngram" and its probability."""
        orders = min(self.max_order, length)
        for order in range(1, orders + 1):
            starts = length - order + 1
            for start in range(starts):
                yield range(start, start + order), Fraction(1, orders * starts)

    def distances(self, n: int) -> list[Fraction]:
        """The weights `Z_n P(d)`, d = 0, 1, ..., of "hamming" and "edit"."""
        cooled = [Fraction(math.exp(-d / self.temperature)) for d in range(self.limit + 1)]
        if self.name == "hamming":
            return [
                math.comb(n, d) * max(len(self.alphabet) - 1, 0) ** d * weight
                for d, weight in enumerate(cooled)
            ]
        return [weight * self.scripts(n, e) if n or not e else Fraction(0) for e, weight in enumerate(cooled)]

    def scripts(self, m: int, operations: int) -> Fraction:
        """W(m, e): total weight of the scripts of e operations over m touchable tokens."""
        return _scripts(self.weights, m, operations)


@cache
def _scripts(weights: tuple[Fraction, Fraction, Fraction], m: int, operations: int) -> Fraction:
    substitution, insertion, deletion = weights
    if operations < 0:
        return Fraction(0)
    if m == 0:
        return insertion**operations
    return (
        insertion * _scripts(weights, m, operations - 1)
        + _scripts(weights, m - 1, operations)
        + (substitution + deletion) * _scripts(weights, m - 1, operations - 1)
    )


def log_fraction(value: Fraction) -> float:
    """Rounded once where the value is a normal float."""
    if 1e-300 < value < 1e300:
        return math.log(value)
    return math.log(value.numerator) - math.log(value.denominator) if value else -math.inf


# ---- Densities: sums over every way to reach y -----------------------------------------------------------------


def log_density(proposal: Proposal, x: Sequence[int], y: Sequence[int]) -> float:
    """log q(y) under edits of x."""
    touchable = proposal.touchable(x)
    if proposal.name == "edit":
        return _edit_density(proposal, x, y)
    changed = [i for i, (token, other) in enumerate(zip(x, y, strict=False)) if token != other]
    if len(x) != len(y) or any(i not in touchable or y[i] not in proposal.alphabet for i in changed):
        return -math.inf
    n, size, d = len(touchable), len(proposal.alphabet), len(changed)
    if proposal.name == "ngram":
        if not x:
            return 0.0
        return log_fraction(
            sum(
                (
                    probability / size ** sum(i in touchable for i in window)
                    for window, probability in proposal.windows(len(x))
                    if all(i in window for i in changed)
                ),
                Fraction(0),
            )
        )
    if proposal.name == "corrupt":
        rate = Fraction(proposal.rate) if size > 1 else Fraction(0)
        each = rate / (size - 1) if size > 1 else Fraction(0)
        return log_fraction(each**d * (1 - rate) ** (n - d))
    if d > proposal.limit:
        return -math.inf
    return -d / proposal.temperature - log_fraction(sum(proposal.distances(n), Fraction(0)))


def _edit_density(proposal: Proposal, x: Sequence[int], y: Sequence[int]) -> float:
    touchable = proposal.touchable(x)
    if not touchable:
        return 0.0 if list(x) == list(y) else -math.inf
    substitution, insertion, deletion = proposal.weights
    size = len(proposal.alphabet)

    @cache
    def ways(i: int, j: int, left: int) -> Fraction:
        """Weight times probability of the rest of a script: x from i on, y from j on, `left` operations."""
        if i == len(x) and j == len(y):
            return Fraction(left == 0)
        total = Fraction(0)
        gap = i in touchable or i == touchable[-1] + 1
        if left and gap and j < len(y) and y[j] in proposal.alphabet:
            total += insertion / size * ways(i, j + 1, left - 1)
        if i < len(x):
            if j < len(y) and x[i] == y[j]:
                total += ways(i + 1, j + 1, left)
            if left and i in touchable:
                total += deletion * ways(i + 1, j, left - 1)
                if j < len(y) and y[j] in proposal.others(x[i]):
                    total += substitution / (size - 1) * ways(i + 1, j + 1, left - 1)
        return total

    mass = sum(
        (Fraction(math.exp(-e / proposal.temperature)) * ways(0, 0, e) for e in range(proposal.limit + 1)),
        Fraction(0),
    )
    return log_fraction(mass) - log_fraction(sum(proposal.distances(len(touchable)), Fraction(0)))


# ---- Draws: block 0 decides on window or distance, block 1 + i serves position, change or step i ---------------------

Blocks = Callable[[int], tuple[int, int]]  # the two 64-bit numbers of a random block


def draw(proposal: Proposal, x: Sequence[int], random: Blocks) -> list[int]:
    """One edit of x."""
    touchable = proposal.touchable(x)
    y = list(x)
    if proposal.name == "edit":
        return _draw_script(proposal, x, random)
    if proposal.name == "ngram" and x:
        order = 1 + _rank(random(0)[0], min(proposal.max_order, len(x)))
        start = _rank(random(0)[1], len(x) - order + 1)
        for i in set(range(start, start + order)) & set(touchable):
            y[i] = _choose(proposal.alphabet, random(1 + i)[1])
    if proposal.name == "corrupt" and len(proposal.alphabet) > 1:
        changes = [i for i in touchable if _decision(random, i) < math.floor(Fraction(proposal.rate) * ONE)]
        for j, i in enumerate(changes):  # two changes a block
            y[i] = _choose(proposal.others(x[i]), random(1 + j // 2)[j % 2])
    if proposal.name == "hamming":
        # Floyd's method: one of the first positions, or the newest of them where that one was taken before.
        distance, taken = _draw_distance(proposal, len(touchable), random), set()
        for j, newest in enumerate(range(len(touchable) - distance, len(touchable))):
            place, choice = random(1 + j)
            rank = _rank(place, newest + 1)
            i = touchable[newest if rank in taken else rank]
            taken.add(newest if rank in taken else rank)
            y[i] = _choose(proposal.others(x[i]), choice)
    return y


def _decision(random: Blocks, i: int) -> int:
    """62 bits: a byte of a block that 16 positions share, then 54 of a block of the position's own."""
    half = random(DECISIONS + i // 16)[i % 16 // 8]
    return (half >> 8 * (i % 8) & 0xFF) << 54 | random(TIES + i)[0] >> 10


def _draw_script(proposal: Proposal, x: Sequence[int], random: Blocks) -> list[int]:
    touchable = proposal.touchable(x)
    substitution, insertion, _ = proposal.weights
    left = _draw_distance(proposal, len(touchable), random) if touchable else 0
    y: list[int] = []
    i = step = 0
    while i < len(x):
        if not left or i not in touchable:
            y.append(x[i])
            i += 1
            continue
        step += 1
        decision, choice = random(step)
        m = len(touchable) - touchable.index(i)
        ways = [insertion * proposal.scripts(m, left - 1), proposal.scripts(m - 1, left)]
        ways.append(substitution * proposal.scripts(m - 1, left - 1))
        insert, keep, replace = (share / proposal.scripts(m, left) for share in accumulate(ways))
        if _below(decision, insert):
            y.append(_choose(proposal.alphabet, choice))
            left -= 1
            continue
        if _below(decision, keep):
            y.append(x[i])
        else:
            if _below(decision, replace):
                y.append(_choose(proposal.others(x[i]), choice))
            left -= 1
        i += 1
        while left and m == 1:  # behind the last touchable token
            step += 1
            y.append(_choose(proposal.alphabet, random(step)[1]))
            left -= 1
    return y


def _draw_distance(proposal: Proposal, n: int, random: Blocks) -> int:
    weights = proposal.distances(n)
    total = sum(weights, Fraction(0))
    return next(d for d, share in enumerate(accumulate(weights)) if _below(random(0)[0], share / total))


def _below(number: int, probability: Fraction) -> bool:
    return number >> 2 < math.floor(probability * ONE)


def _rank(number: int, count: int) -> int:
    return number * count >> 64


def _choose(candidates: Sequence[int], number: int) -> int:
    return candidates[_rank(number, len(candidates))]
