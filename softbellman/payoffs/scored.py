"""From scores of sequences, by a function of Python, to the rewards of their tokens.

Notation: B sources, K hypotheses per source, R references per source, T and L padded lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from softbellman.core.objects import UserObject
from softbellman.payoffs.scorers import Group, Hypothesis, Scorer
from softbellman.payoffs.scoring import CachedScorer, ScoringOptions

Decode = Callable[[Sequence[int]], str]
"""From token ids to the text they spell."""

UNKNOWN = ("<unk>", "\u2047")
"""How an unknown word is decoded, and what stands in its place where it must match nothing."""


class ScoredTerm:
    """A scorer's part of a payoff.

    Args:
        scorer: what scores.
        options: how it is called.
        at_end: nothing is paid before the last token, unless the scorer decides for itself.
        eos_id: the token that ends a sequence.
        decode: token ids to text, for scorers that read texts.
        unknown_matches: False: an `<unk>` of a hypothesis is shown as a sign that no reference has.
        origin: what the user named or handed over; None of a metric of this package.

    Raises:
        ValueError: the scorer reads texts and nothing decodes.
    """

    def __init__(
        self,
        scorer: Scorer,
        options: ScoringOptions,
        *,
        at_end: bool,
        eos_id: int,
        decode: Decode | None,
        unknown_matches: bool = True,
        origin: UserObject | None = None,
    ) -> None:
        if scorer.reads == "text" and decode is None:
            raise ValueError(
                f"payoff {scorer.name} reads texts, which needs decode=, from token ids to a text"
            )
        self.at_end = at_end if scorer.rewards is None else scorer.rewards == "end"
        self.origin, self._scorer, self._eos_id = origin, scorer, eos_id
        self._decode, self._unknown_matches = decode, unknown_matches
        self._scores = CachedScorer(scorer, options, origin)

    def rewards(
        self, hypotheses: Tensor, references: Tensor, *, hypothesis_lengths: Tensor, reference_lengths: Tensor
    ) -> Tensor:
        """Rewards of the score itself, float64 `[B, K, T]`.

        Of prefixes: the score of a prefix minus that of the one before, which of the empty prefix is 0; 0 at the end token. At
        the end: the whole score at the last token within the length.

        Args:
            hypotheses: tokens `[B, K, T]`.
            references: `[B, R, L]`.
            hypothesis_lengths, reference_lengths: `[B, K]` and `[B, R]`; a reference of length 0 is absent.
        """
        sources, samples, steps = hypotheses.shape
        lengths = hypothesis_lengths.reshape(-1).tolist()
        rows = [
            self._words(row[:length])
            for row, length in zip(hypotheses.reshape(-1, steps).tolist(), lengths, strict=True)
        ]  # (B, K, T) -> N rows
        groups = [
            tuple(
                self._read(self._words(row[:length]), False)
                for row, length in zip(group, kept, strict=True)
                if length
            )
            for group, kept in zip(references.tolist(), reference_lengths.tolist(), strict=True)
        ]
        rewards = torch.zeros(len(rows), steps, dtype=torch.float64)
        if self.at_end:
            totals = self._whole(rows, [groups[row // samples] for row in range(len(rows))])
            for row, (total, length) in enumerate(zip(totals, lengths, strict=True)):
                if length:
                    rewards[row, length - 1] = total
        else:
            of_prefixes = self._prefixes(rows, [groups[row // samples] for row in range(len(rows))])
            for row, scores in enumerate(of_prefixes):
                found = torch.tensor([0.0, *scores], dtype=torch.float64)
                rewards[row, : len(scores)] = found.diff()
        return rewards.view(sources, samples, steps).to(hypotheses.device)

    def _whole(self, rows: Sequence[tuple[int, ...]], groups: Sequence[Group]) -> list[float]:
        """The score of each row."""
        found = self._scores([self._read(row) for row in rows], groups)
        return [(score[-1] if score else 0.0) if isinstance(score, tuple) else score for score in found]

    def _prefixes(self, rows: Sequence[tuple[int, ...]], groups: Sequence[Group]) -> list[tuple[float, ...]]:
        """The scores of each row's prefixes of 1, 2, ... tokens."""
        if self._scorer.per == "prefix":
            return [score for score in self._scores(rows, groups) if isinstance(score, tuple)]
        prefixes = [self._read(row[: end + 1]) for row in rows for end in range(len(row))]
        owners = [group for row, group in zip(rows, groups, strict=True) for _ in row]
        scores = iter(self._scores(prefixes, owners))
        return [
            tuple(score for score in (next(scores) for _ in row) if isinstance(score, float)) for row in rows
        ]

    def _words(self, row: Sequence[int]) -> tuple[int, ...]:
        """The tokens before the end."""
        end = row.index(self._eos_id) if self._eos_id in row else len(row)
        return tuple(row[:end])

    def _read(self, row: tuple[int, ...], hypothesis: bool = True) -> Hypothesis:
        """What the scorer is shown of a sequence."""
        if self._scorer.reads == "tokens":
            return row
        assert self._decode is not None
        text = self._decode(row)
        return text.replace(*UNKNOWN) if hypothesis and not self._unknown_matches else text

    def close(self) -> None:
        """End the workers."""
        self._scores.close()
