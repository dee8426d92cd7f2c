"""The credit of examples/sorting is exact where one string and where several are right."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1] / "examples"))
from sorting.task import (
    END,
    FIRST,
    TASKS,
    completion_values,
    is_right,
    make_pairs,
    token_rewards,
)

LENGTH, NUMBERS = 3, 3
VOCABULARY = FIRST + NUMBERS
ORDINARY = [token for token in range(VOCABULARY) if token != END]


def payoffs(strings: list[tuple[int, ...]], answers: Tensor) -> list[float]:
    """Of whole answers without their end, by the rewards of the example."""
    longest = max(map(len, strings)) + 1
    tokens = torch.tensor([[*string, *[END] * (longest - len(string))] for string in strings])
    found: list[float] = token_rewards(tokens[None], answers).sum(-1)[0].tolist()
    return found


def distance(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    """Levenshtein's, by its definition."""
    if not first or not second:
        return len(first) + len(second)
    replaced = distance(first[1:], second[1:]) + (first[0] != second[0])
    return min(replaced, distance(first[1:], second) + 1, distance(first, second[1:]) + 1)


@pytest.mark.parametrize("task", TASKS)
def test_rewards_add_up_to_the_payoff_of_the_nearest_right_string(task: str) -> None:
    answers = make_pairs(task, 1, length=LENGTH, numbers=NUMBERS, seed=1).answers
    strings = [tuple(answer[:-1]) for answer in answers[0].tolist()]
    drawn = list(itertools.product(ORDINARY, repeat=4))
    nearest = [min(distance(tokens, string) for string in strings) for tokens in drawn]
    assert payoffs(drawn, answers) == [LENGTH - edits for edits in nearest]


@pytest.mark.parametrize("task", TASKS)
def test_values_are_those_of_the_best_completion(task: str) -> None:
    answers = make_pairs(task, 1, length=LENGTH, numbers=NUMBERS, seed=1).answers
    completions = [
        tail for size in range(LENGTH + 1) for tail in itertools.product(ORDINARY[-NUMBERS:], repeat=size)
    ]
    generator = torch.Generator().manual_seed(2)
    for _ in range(4):
        drawn = torch.randint(len(ORDINARY), (4,), generator=generator)
        tokens = tuple(ORDINARY[place] for place in drawn)
        values = completion_values(torch.tensor([[[*tokens, END]]]), answers, VOCABULARY)[0, 0]
        for step in (0, 1, 2):
            before = tokens[:step]
            for token in ORDINARY:
                completed = [(*before, token, *tail) for tail in completions]
                best = max(payoffs(completed, answers))
                assert values[step, token] == best - payoffs([before], answers)[0]
            assert values[step, END] == 0


def test_either_direction_is_right_and_no_mixture() -> None:
    pairs = make_pairs("either direction", 1, length=LENGTH, numbers=NUMBERS, seed=1)
    up, down = pairs.answers[0]
    mixed = torch.tensor([up[0], down[0], up[1], END])
    unfinished = torch.cat([up[:-1], up[:1]])
    right = is_right(torch.stack([up, down, mixed, unfinished]), pairs.answers.expand(4, -1, -1))
    assert right.tolist() == [True, True, False, False]
    assert {*pairs.prompts[0].tolist()} == {*up[:-1].tolist()}


def test_prompts_are_different_sets_and_labels_are_mixed() -> None:
    pairs = make_pairs("either direction", 200, length=5, numbers=12, seed=3)
    assert len(pairs.prompts.sort(-1).values.unique(dim=0)) == 200
    downwards = (pairs.labels == pairs.answers[:, 1]).all(-1).double().mean()
    assert 0.35 < float(downwards) < 0.65
    with pytest.raises(ValueError, match="count must be lower: 40 draws gave 10 different sets"):
        make_pairs("upwards", 20, length=2, numbers=5, seed=0)
