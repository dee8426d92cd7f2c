"""Reward functions of TRL that give every token its own reward.

Such a function takes what TRL gives (`prompts`, `completions`, `completion_ids`, the columns of the data set) and returns, for
each completion, a list with one number a token of `completion_ids`, in place of one number.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from softbellman.payoffs import bleu_rewards, edit_distance_rewards

PAYOFFS: dict[str, Callable[..., Tensor]] = {"bleu": bleu_rewards, "edit_distance": edit_distance_rewards}


def token_ids(text: str | Sequence[int], tokenizer: Any) -> list[int]:
    """The tokens of a text without special ones; token ids as they are."""
    if isinstance(text, str):
        tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # that of a processor
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return [int(token) for token in text]


def reference_ids(rows: Sequence[dict[str, Any]], column: str, tokenizer: Any) -> list[list[int]]:
    """The token ids of a column, texts or lists of ids, of rows of a data set.

    Raises:
        ValueError: there is no such column.
    """
    if column not in rows[0]:
        raise ValueError(f"reference_column must name a column of the data set, got {column!r}")
    return [token_ids(row[column], tokenizer) for row in rows]


def end_ids(tokenizer: Any, model: Any = None) -> list[int]:
    """The ids that end a completion: those of the model's generation, else the tokenizer's.

    Raises:
        ValueError: there are none.
    """
    found = None if model is None else model.generation_config.eos_token_id
    if found is None:
        found = getattr(getattr(tokenizer, "tokenizer", tokenizer), "eos_token_id", None)
    if found is None:
        raise ValueError("an end must be known: give the tokenizer an eos_token")
    return [found] if isinstance(found, int) else list(found)


def with_one_end(tokens: Sequence[int], ends: Sequence[int]) -> list[int]:
    """Tokens with the first of several end ids in place of the others."""
    return [ends[0] if token in ends else token for token in tokens]


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids `[N, T]`, 0 behind the lengths `[N]`."""
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    tokens = torch.zeros(len(rows), max(lengths.tolist(), default=0) or 1, dtype=torch.int64)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids, dtype=torch.int64)
    return tokens, lengths


class PrefixReward:
    """The payoff of every prefix against a reference column: `r_t = R(y_1..t) - R(y_1..t-1)`, Eq. (13), a list a completion.

    "bleu" is `softbellman.bleu_rewards`: BLEU of the prefix times the reference's length, in tokens. "edit_distance" is
    `softbellman.edit_distance_rewards`: 1, 0 or -1. Both read token ids, and the end token earns 0.

    Args:
        payoff: "bleu" or "edit_distance".
        tokenizer: of the model; it also says which token ends.
        column: of the data set, texts or lists of token ids.
        ends: ids that end a completion; None: the tokenizer's end.
        options: of the payoff, such as `smoothing`.

    Example:
        >>> PrefixReward("edit_distance", ends=[0])(completion_ids=[[5, 6, 0]], reference=[[5, 7]])
        [[1.0, 0.0, 0.0]]
    """

    def __init__(
        self,
        payoff: str = "bleu",
        *,
        tokenizer: Any = None,
        column: str = "reference",
        ends: Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        if payoff not in PAYOFFS:
            raise ValueError(f"payoff must be 'bleu' or 'edit_distance', got {payoff!r}")
        self.payoff, self.tokenizer, self.column, self.options = payoff, tokenizer, column, options
        self.ends = end_ids(tokenizer) if ends is None else list(ends)
        self.__name__ = f"{payoff}_reward"

    def __call__(self, *, completion_ids: Sequence[Sequence[int]], **columns: Any) -> list[list[float]]:
        """Rewards of each token of each completion; the references are in `columns`."""
        if self.column not in columns:
            raise ValueError(f"column must name one of the data set, got {self.column!r}, which it has not")
        tokens, lengths = padded([with_one_end(row, self.ends) for row in completion_ids])
        references, reference_lengths = padded(
            [token_ids(text, self.tokenizer) for text in columns[self.column]]
        )
        rewards = PAYOFFS[self.payoff](
            tokens,
            references,
            eos_id=self.ends[0],
            hypothesis_lengths=lengths,
            reference_lengths=reference_lengths,
            **self.options,
        )
        return [row[:length].tolist() for row, length in zip(rewards, lengths.tolist(), strict=True)]


class RewardRecord:
    """Keeps what reward functions gave each token, and hands TRL their sums.

    A number in place of a list is the reward of the last token; None and NaN are no reward at all. An empty completion has no
    token: its number reaches TRL alone.
    """

    def __init__(self) -> None:
        self.completions: list[list[int]] = []
        self._rewards: dict[int, list[list[float] | None]] = {}

    def wrap(self, functions: Sequence[Any]) -> list[Callable[..., list[float | None]]]:
        """The functions that TRL is to call.

        Raises:
            TypeError: one is a model or a coroutine.
        """
        return [self._wrap(index, function) for index, function in enumerate(functions)]

    def _wrap(self, index: int, function: Any) -> Callable[..., list[float | None]]:
        name = getattr(function, "__name__", type(function).__name__)
        if isinstance(function, nn.Module):
            raise TypeError(f"a reward model needs credit='sequence': call {name} from a reward function")
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
            raise TypeError(f"a reward function of tokens must not be asynchronous, as {name} is")

        @functools.wraps(function, updated=())
        def recorded(*, completion_ids: Any, **given: Any) -> list[float | None]:
            self.completions = [list(row) for row in completion_ids]
            found = [
                _row(reward, len(tokens), name)
                for reward, tokens in zip(
                    function(completion_ids=completion_ids, **given), completion_ids, strict=True
                )
            ]
            self._rewards[index] = [
                None if row is None else row[: len(tokens)]
                for row, tokens in zip(found, completion_ids, strict=True)
            ]
            return [None if row is None else sum(row) for row in found]

        return recorded

    def take(self, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The weighted sums of the last call of all functions, which are forgotten.

        Args:
            weights: of the functions, `[F]`.

        Returns:
            Rewards `[N, T]`, float32, T at least 1; lengths `[N]`; whether some function gave a reward, bool `[N]`.
        """
        lengths = [len(row) for row in self.completions]
        rewards = torch.zeros(len(lengths), max(lengths, default=0) or 1)
        counted = torch.zeros(len(lengths), dtype=torch.bool)
        for index, weight in enumerate(weights.tolist()):
            for number, row in enumerate(self._rewards[index]):
                if row is not None:
                    rewards[number, : len(row)] += weight * torch.tensor(row)
                    counted[number] = True
        self._rewards.clear()
        return rewards, torch.tensor(lengths), counted


def _row(reward: Any, length: int, name: str) -> list[float] | None:
    if reward is None:
        return None
    if isinstance(reward, Tensor) or hasattr(reward, "tolist"):
        reward = reward.tolist()
    if not isinstance(reward, (list, tuple)):
        return None if math.isnan(reward) else [0.0] * (length - 1) + [float(reward)]
    if len(reward) != length:
        raise ValueError(
            f"{name} must give each of the {length} tokens in completion_ids a reward, got {len(reward)}"
        )
    for place, number in enumerate(reward):
        if number is None or math.isnan(number):
            raise ValueError(
                f"{name} must give each token a number, got {number} for token {place}; None in place of the list is no reward"
            )
    return [float(number) for number in reward]
