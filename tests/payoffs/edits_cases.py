"""Every way in which each proposal edits a small sequence, listed from its description alone.

An outcome's probability is the sum over the ways that lead to it. Nothing here is shared with the operators or
with the reference.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import combinations, product
from typing import Any, NamedTuple

import torch
from torch import Tensor

VOCABULARY, SPECIAL = 4, 2
ALPHABET = (0, 1, 3)
SEQUENCES: tuple[tuple[int, ...], ...] = (
    (0, 1, 3, 1),
    (2, 0, 0, 1, 2),
    (0, 2, 1),
    (1, 2, 2, 1, 0),
    (1, 1, 1),
    (3,),
    (2, 2),
    (),
)
SETTINGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ngram", {}),
    ("ngram", {"max_order": 2}),
    ("ngram", {"max_order": 16}),
    ("corrupt", {}),
    ("corrupt", {"rate": 0.0}),
    ("corrupt", {"rate": 1.0}),
    ("hamming", {}),
    ("hamming", {"temperature": 0.4, "max_distance": 2}),
    ("hamming", {"max_distance": 0}),
    ("edit", {"max_distance": 3}),
    ("edit", {"max_distance": 2, "temperature": 5.0, "operation_weights": (2.0, 3.0, 1.0)}),
    ("edit", {"max_distance": 3, "operation_weights": (0.0, 1.5, 0.5), "temperature": 3.0}),
    ("edit", {"max_distance": 3, "operation_weights": (1.0, 0.0, 2.0), "temperature": 3.0}),
    ("edit", {"max_distance": 0}),
)

Law = dict[tuple[int, ...], float]


def settings_id(setting: tuple[str, dict[str, Any]]) -> str:
    return " ".join([setting[0], *(f"{name}={value}" for name, value in setting[1].items())])


@cache
def _law(x: tuple[int, ...], proposal: str, options: tuple[tuple[str, Any], ...]) -> Law:
    ways = {"ngram": _ngram, "corrupt": _corrupt, "hamming": _hamming, "edit": _edit}[proposal]
    masses: defaultdict[tuple[int, ...], list[float]] = defaultdict(list)
    for y, probability in ways(x, **dict(options)):
        if probability > 0:
            masses[y].append(probability)
    return {y: math.fsum(parts) for y, parts in masses.items()}


def law(x: tuple[int, ...], proposal: str, **options: Any) -> Law:
    """P(y) for every y that the proposal can make of x."""
    return _law(x, proposal, tuple(options.items()))


def _touchable(x: tuple[int, ...]) -> list[int]:
    return [i for i, token in enumerate(x) if token != SPECIAL]


def _others(token: int) -> list[int]:
    return [other for other in ALPHABET if other != token]


def _replaced(x: tuple[int, ...], positions: tuple[int, ...], tokens: tuple[int, ...]) -> tuple[int, ...]:
    y = list(x)
    for i, token in zip(positions, tokens, strict=True):
        y[i] = token
    return tuple(y)


def _ngram(x: tuple[int, ...], max_order: int = 4) -> Iterator[tuple[tuple[int, ...], float]]:
    if not x:
        yield x, 1.0
    for order in range(1, min(max_order, len(x)) + 1):
        starts = len(x) - order + 1
        for start in range(starts):
            inside = tuple(i for i in _touchable(x) if start <= i < start + order)
            choices = list(product(ALPHABET, repeat=len(inside)))
            for tokens in choices:
                yield _replaced(x, inside, tokens), 1 / min(max_order, len(x)) / starts / len(choices)


def _corrupt(x: tuple[int, ...], rate: float = 0.2) -> Iterator[tuple[tuple[int, ...], float]]:
    for y in product(*([token] if token == SPECIAL else ALPHABET for token in x)):
        probability = 1.0
        for i in _touchable(x):
            probability *= 1 - rate if x[i] == y[i] else rate / (len(ALPHABET) - 1)
        yield y, probability


def _hamming(
    x: tuple[int, ...], temperature: float = 1.0, max_distance: int | None = None
) -> Iterator[tuple[tuple[int, ...], float]]:
    positions = _touchable(x)
    limit = len(positions) if max_distance is None else min(max_distance, len(positions))
    outcomes = [
        (_replaced(x, chosen, tokens), math.exp(-d / temperature))
        for d in range(limit + 1)
        for chosen in combinations(positions, d)
        for tokens in product(*(_others(x[i]) for i in chosen))
    ]
    total = math.fsum(weight for _, weight in outcomes)
    for y, weight in outcomes:
        yield y, weight / total


def _edit(
    x: tuple[int, ...],
    max_distance: int,
    temperature: float = 1.0,
    operation_weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Iterator[tuple[tuple[int, ...], float]]:
    """Each script: what is inserted in each gap, then kept, replaced or deleted behind it."""
    if not _touchable(x):
        yield x, 1.0
        return
    substitution, insertion, deletion = operation_weights
    last = _touchable(x)[-1]
    partial: list[tuple[tuple[int, ...], int, float, float]] = [((), 0, 1.0, 1.0)]  # y, e, weight, tokens

    def insertions(states: list[tuple[tuple[int, ...], int, float, float]]) -> list[Any]:
        grown = []
        for y, e, weight, tokens in states:
            for count in range(max_distance - e + 1):
                for inserted in product(ALPHABET, repeat=count):
                    share = (1 / len(ALPHABET)) ** count
                    grown.append((y + inserted, e + count, weight * insertion**count, tokens * share))
        return grown

    for i, token in enumerate(x):
        if token == SPECIAL:
            partial = [((*y, token), e, w, p) for y, e, w, p in partial]
            continue
        following = []
        for y, e, weight, tokens in insertions(partial):
            following.append(((*y, token), e, weight, tokens))
            if e < max_distance:
                following.append((y, e + 1, weight * deletion, tokens))
                for other in _others(token):
                    share = tokens / len(_others(token))
                    following.append(((*y, other), e + 1, weight * substitution, share))
        partial = insertions(following) if i == last else following
    mass = [w * p * math.exp(-e / temperature) for _, e, w, p in partial]
    total = math.fsum(mass)
    for (y, *_), share in zip(partial, mass, strict=True):
        yield y, share / total


@cache
def every_sequence(longest: int) -> tuple[Tensor, Tensor]:
    """All sequences over the vocabulary up to a length: tokens [1, N, longest] and lengths [1, N]."""
    rows = [y for length in range(longest + 1) for y in product(range(VOCABULARY), repeat=length)]
    padded = [[*y, *[-1] * (max(longest, 1) - len(y))] for y in rows]
    return torch.tensor([padded]), torch.tensor([[len(y) for y in rows]])


def row(x: tuple[int, ...]) -> Tensor:
    """[1, L]"""
    return torch.tensor([x], dtype=torch.int64).view(1, len(x))


def sequences(tokens: Tensor, lengths: Tensor) -> list[tuple[int, ...]]:
    """[K, W] and [K] -> the sequences without padding."""
    return [tuple(y[:length]) for y, length in zip(tokens.tolist(), lengths.tolist(), strict=True)]


class WeightedBatch(NamedTuple):
    """A training batch of RAML: `tokens` and `rewards` `[B, K, W]`, the others `[B, K]`, the last two `[B]`."""

    tokens: Tensor
    lengths: Tensor
    log_density: Tensor
    rewards: Tensor
    weights: Tensor
    effective_sample_size: Tensor
    log_normalizer: Tensor


def weighted_batch(
    module: Any,
    tokens: Tensor,
    lengths: Tensor | None,
    *,
    edits: dict[str, Any],
    payoff: dict[str, Any],
    tau: float,
    compared: tuple[Tensor, Tensor | None] | None = None,
    corrected: bool = True,
) -> WeightedBatch:
    """The functions of `softbellman` or of `softbellman.reference` one after the other.

    Args:
        module: whose functions.
        tokens, lengths: the references that are edited.
        edits: arguments of `sample_edits`.
        payoff: arguments of `bleu_rewards`.
        tau, corrected: of `importance_weights`.
        compared: references of the payoff and their lengths; None: those that are edited.
    """
    edited = module.sample_edits(tokens, lengths, **edits)
    references, reference_lengths = (tokens, lengths) if compared is None else compared
    rewards = module.bleu_rewards(
        edited.tokens,
        references,
        hypothesis_lengths=edited.lengths,
        reference_lengths=reference_lengths,
        **payoff,
    )
    weights = module.importance_weights(rewards.sum(-1), edited.log_density, tau=tau, corrected=corrected)
    return WeightedBatch(*edited, rewards, *weights)
