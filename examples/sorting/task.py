"""Two tasks: sort the numbers of a prompt upwards; sort them in either direction, where two strings are right.

The payoff of an answer is `L - d` tokens, d its edit distance to the nearest right string of length L.

Notation: B prompts, K samples of a prompt, T steps, L numbers of a prompt, P right strings, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from softbellman import edit_distance_rewards, optimal_completion_values

PAD, SEPARATOR, END, FIRST = 0, 1, 2, 3
"""Reserved ids, and the first number's."""

TASKS = {"upwards": (False,), "either direction": (False, True)}
"""By title: the directions that are right, True for downwards."""

LABELLED = {"upwards": 100, "either direction": 500}
"""Pairs to learn from. With 500 the first is solved by maximum likelihood, with 100 the second is not begun."""


class Pairs(NamedTuple):
    """Prompts with their right strings.

    Attributes:
        prompts: `[B, L]`.
        answers: all right strings, each with its end, `[B, P, L + 1]`.
        labels: the one that a labeller wrote, `[B, L + 1]`.
    """

    prompts: Tensor
    answers: Tensor
    labels: Tensor

    def of(self, rows: Tensor | slice) -> Pairs:
        """The pairs of some prompts."""
        return Pairs(*(part[rows] for part in self))

    def repeated(self, times: int) -> Pairs:
        """Each pair so many times, behind each other."""
        return Pairs(*(part.repeat_interleave(times, 0) for part in self))


def make_pairs(task: str, count: int, *, length: int, numbers: int, seed: int) -> Pairs:
    """Prompts that are different sets of different numbers; a labeller writes one of the right strings, each as often."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(2 * count, numbers, generator=generator).argsort(-1)[:, :length]
    sets = (FIRST + drawn.sort(-1).values).unique(dim=0)
    sets = sets[torch.randperm(len(sets), generator=generator)[:count]]
    if len(sets) < count:
        raise ValueError(
            f"count must be lower: {2 * count} draws gave {len(sets)} different sets, not {count}"
        )
    prompts = sets.gather(1, torch.rand(sets.shape, generator=generator).argsort(-1))
    directions = [sets.flip(-1) if down else sets for down in TASKS[task]]
    answers = pad(torch.stack(directions, 1), (0, 1), value=END)  # (B, P, L) -> (B, P, L + 1)
    chosen = torch.randint(answers.shape[1], (count,), generator=generator)
    return Pairs(prompts, answers, answers[torch.arange(count), chosen])


def prefix_payoffs(tokens: Tensor, answers: Tensor) -> Tensor:
    """`L - d` of the first t tokens to each string, t = 0 .. T. `[B, K, T]`, `[B, P, L + 1]` -> `[P, B, K, T + 1]`."""
    rewards = [edit_distance_rewards(tokens, answer, eos_id=END) for answer in answers.unbind(1)]
    return pad(torch.stack(rewards).cumsum(-1), (1, 0))


def token_rewards(tokens: Tensor, answers: Tensor) -> Tensor:
    """What each token adds to the payoff, Eq. (13); their sum is the payoff. `[B, K, T]`."""
    return prefix_payoffs(tokens, answers).amax(0).diff(dim=-1)


def completion_values(tokens: Tensor, answers: Tensor, vocabulary: int) -> Tensor:
    """What the best completion behind each next token still brings: exact action values, `[B, K, T, V]`.

    Towards one string `optimal_completion_values` has them. With several strings the best completion goes to the one for which
    the payoff so far and that value add up to the most.
    """
    so_far = prefix_payoffs(tokens, answers)[..., :-1, None]  # R(y_<t), [P, B, K, T, 1]
    values = [
        optimal_completion_values(tokens, answer, vocabulary=vocabulary, eos_id=END)
        for answer in answers.unbind(1)
    ]
    return (torch.stack(values) + so_far).amax(0) - so_far.amax(0)


def is_right(tokens: Tensor, answers: Tensor) -> Tensor:
    """Whether an answer is one of the right strings, end included. `[B, T]`, `[B, P, L + 1]` -> `[B]`."""
    wanted = pad(answers, (0, tokens.shape[-1] - answers.shape[-1]), value=PAD)
    return (tokens[:, None] == wanted).all(-1).any(-1)
