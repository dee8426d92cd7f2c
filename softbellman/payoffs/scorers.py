"""A payoff of your own: any callable that scores a batch of hypotheses.

Without a word more it reads texts and scores whole sequences:

    def length(hypotheses: list[str], references: list[list[str]]) -> list[float]:
        return [min(len(h), len(r[0])) / max(len(h), len(r[0]), 1) for h, r in zip(hypotheses, references)]

`scorer` says where it does otherwise; a class may say the same by attributes of these names. A score should be about 1 for a
sequence that is right, see docs/payoffs.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

from softbellman.core.objects import UserCodeError

Reads = Literal["text", "tokens"]
Per = Literal["sequence", "prefix"]
Rewards = Literal["prefixes", "end"]

Function = TypeVar("Function", bound=Callable[..., Any])

Hypothesis = str | tuple[int, ...]
Group = tuple[Hypothesis, ...]
Score = float | tuple[float, ...]
"""Of a whole sequence, or one of each prefix."""


def scorer(
    *, reads: Reads = "text", per: Per = "sequence", rewards: Rewards | None = None
) -> Callable[[Function], Function]:
    """Say what a payoff of your own reads, and what it scores.

    Args:
        reads: "text": `list[str]` and `list[list[str]]`, decoded, an unknown word is `<unk>`. "tokens": token ids without start
            and end, `list[list[int]]` and `list[list[list[int]]]`.
        per: "sequence": `list[float]`. "prefix": `list[list[float]]`, for each hypothesis the scores of its prefixes of 1, 2,
            ... tokens; reads tokens.
        rewards: "prefixes": differences of prefix scores, Eq. (13), whatever `payoff.rewards` says. "end": nothing before the
            end of the sequence. None: as the setting says.

    Raises:
        ValueError: another value, or prefixes of texts.

    Example:
        >>> @scorer(reads="tokens", rewards="end")
        ... def same_length(hypotheses, references):
        ...     return [float(len(h) == len(r[0])) for h, r in zip(hypotheses, references)]
        >>> same_length([[4, 5]], [[[6, 7]]])
        [1.0]
    """
    _check(reads, per, rewards, "scorer")

    def mark(function: Function) -> Function:
        function.reads, function.per, function.rewards = reads, per, rewards  # type: ignore[attr-defined]
        return function

    return mark


class Scorer:
    """A user's callable with what it says of itself; checks what it returns.

    Args:
        function: see the head of the file.
        name: for error sentences.

    Raises:
        ValueError: it is not callable, or says of itself what is not known.
    """

    def __init__(self, function: Any, name: str) -> None:
        if not callable(function):
            raise ValueError(f"payoff {name} must be a callable, got {type(function).__name__}")
        self.function, self.name = function, name
        self.reads: Reads = getattr(function, "reads", "text")
        self.per: Per = getattr(function, "per", "sequence")
        self.rewards: Rewards | None = getattr(function, "rewards", None)
        _check(self.reads, self.per, self.rewards, f"payoff {name}")

    def __call__(self, hypotheses: Sequence[Hypothesis], references: Sequence[Group]) -> list[Score]:
        """Scores of N hypotheses, each with its references.

        Raises:
            UserCodeError: the callable raised.
            ValueError: it returned another number of scores, or one that is not finite.
        """
        try:
            found = self.function(
                [_plain(one) for one in hypotheses], [list(map(_plain, group)) for group in references]
            )
            scores = [self._read(score) for score in found]
        except Exception as error:
            words = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserCodeError(f"payoff {self.name} raised {words}") from error
        if len(scores) != len(hypotheses):
            raise ValueError(f"payoff {self.name} gave {len(scores)} scores for {len(hypotheses)} hypotheses")
        for score, hypothesis in zip(scores, hypotheses, strict=True):
            self._check_score(score, hypothesis)
        return scores

    def _read(self, score: Any) -> Score:
        return tuple(map(float, score)) if self.per == "prefix" else float(score)

    def _check_score(self, score: Score, hypothesis: Hypothesis) -> None:
        every = score if isinstance(score, tuple) else (score,)
        if self.per == "prefix" and len(every) != len(hypothesis):
            raise ValueError(
                f"payoff {self.name} scores prefixes, but gave {len(every)} scores for the {len(hypothesis)} tokens of "
                f"{_plain(hypothesis)!r}"
            )
        for number in every:
            if not math.isfinite(number):
                raise ValueError(
                    f"payoff {self.name} gave {number} for {_plain(hypothesis)!r}; scores must be finite"
                )


def _plain(hypothesis: Hypothesis) -> str | list[int]:
    return hypothesis if isinstance(hypothesis, str) else list(hypothesis)


def _check(reads: Any, per: Any, rewards: Any, name: str) -> None:
    for key, value, known in (
        ("reads", reads, ("text", "tokens")),
        ("per", per, ("sequence", "prefix")),
        ("rewards", rewards, (None, "prefixes", "end")),
    ):
        if value not in known:
            raise ValueError(f"{name}: {key} must be one of {', '.join(map(str, known))}, got {value!r}")
    if per == "prefix" and reads == "text":
        raise ValueError(f"{name}: per 'prefix' needs reads 'tokens', since a text does not show its tokens")
