"""The completion oracle of BLEU for one source: the best that a suffix of one of its references still brings.

The values are the operator's, `softbellman.bleu_completion_values`: maxima over those completions, hence lower bounds of the
optimal values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from softbellman.oracle.targets import CompletionOracle
from softbellman.payoffs import bleu_completion_values
from softbellman.payoffs.batches import pad_references


class BleuCompletionOracle(CompletionOracle):
    """Completion values under BLEU for the references of one source.

    Args:
        references: token ids of each reference, without the end.
        vocabulary: V.
        eos_id: the action that ends a sequence.
        tau: temperature of the targets, at least 0, in the unit of the payoff; the values do not depend on it.
        special_ids: up to 16 tokens that are never produced.
        options: of the payoff: max_order, smoothing, smooth_value, effective_order, unmatched_id, scale.

    Example:
        >>> oracle = BleuCompletionOracle([[1, 2, 3]], vocabulary=5, eos_id=0, tau=0.0, max_order=2)
        >>> oracle.policy([1]), oracle.value([1, 2, 3])  # go on with the reference; nothing is left behind it
        (tensor([0., 0., 1., 0., 0.], dtype=torch.float64), 0.0)
    """

    def __init__(
        self,
        references: Sequence[Sequence[int]],
        *,
        vocabulary: int,
        eos_id: int,
        tau: float,
        special_ids: Iterable[int] = (),
        **options: Any,
    ) -> None:
        super().__init__(vocabulary=vocabulary, eos_id=eos_id, tau=tau)
        self.references = tuple(tuple(reference) for reference in references)
        self.special_ids, self.options = tuple(special_ids), options
        self._tokens, self._lengths = pad_references([[list(reference) for reference in references]])

    def values(self, hypothesis: Tensor) -> Tensor:
        """Q in every state of a hypothesis with its end, float64. `[1, T]` -> `[1, T, V]`."""
        return bleu_completion_values(
            hypothesis,
            self._tokens,
            reference_lengths=self._lengths,
            vocabulary=self.vocabulary,
            eos_id=self.eos_id,
            special_ids=self.special_ids,
            dtype=torch.float64,
            **self.options,
        )
