"""The optimal completion oracle of the edit distance for one reference, and its targets for batches.

The values are the operator's, `softbellman.optimal_completion_values`: maxima over completions, not the soft sums of Eq. (7),
which `EditAutomaton` gives for short references.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from softbellman.oracle.targets import CompletionOracle, target_distribution
from softbellman.payoffs import optimal_completion_values


def edit_distance_targets(
    hypotheses: Tensor,
    references: Tensor,
    *,
    tau: float,
    vocabulary: int,
    eos_id: int,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    special_ids: Sequence[int] = (),
    rows: Tensor | None = None,
) -> Tensor:
    """Targets of optimal completion distillation: `softmax(Q / tau)`, at tau = 0 uniform over the optimal tokens.

    For a loss, `soft_target_cross_entropy` takes Q itself and stores no such tensor.

    Args:
        tau: at least 0, in tokens.
        hypotheses, references and the others: as in `softbellman.optimal_completion_values`.

    Returns:
        Probabilities, float32, `[B, T, V]` or `[B, K, T, V]`, with `rows` `[M, V]`. In states behind the end they
        mean nothing (the values there are zeros, hence uniform).

    Example:
        >>> tokens, reference = torch.tensor([[1, 0]]), torch.tensor([[1, 2]])
        >>> edit_distance_targets(tokens, reference, tau=0.0, vocabulary=4, eos_id=0)
        tensor([[[0., 1., 0., 0.],
                 [0., 0., 1., 0.]]])
    """
    q = optimal_completion_values(
        hypotheses,
        references,
        vocabulary=vocabulary,
        eos_id=eos_id,
        hypothesis_lengths=hypothesis_lengths,
        reference_lengths=reference_lengths,
        special_ids=special_ids,
        rows=rows,
    )
    return target_distribution(q, tau)


class EditDistanceOracle(CompletionOracle):
    """Optimal completion values of the payoff `R(y) = -d(y, y*)` for one reference.

    Args:
        reference: token ids of y*, without the end.
        vocabulary: V.
        eos_id: the action that ends a sequence.
        tau: temperature of the targets, at least 0, in tokens; the values do not depend on it.
        special_ids: up to 16 tokens that are never produced.

    Example:
        >>> oracle = EditDistanceOracle([1, 2, 3], vocabulary=5, eos_id=0, tau=0.0)
        >>> oracle.policy([1, 3])  # one mistake whatever follows: end (2 is missing), 2 and 3 (3 came twice), 3 (for 2)
        tensor([0.3333, 0.0000, 0.3333, 0.3333, 0.0000], dtype=torch.float64)
    """

    def __init__(
        self,
        reference: Sequence[int],
        *,
        vocabulary: int,
        eos_id: int,
        tau: float,
        special_ids: Iterable[int] = (),
    ) -> None:
        super().__init__(vocabulary=vocabulary, eos_id=eos_id, tau=tau)
        self.reference = tuple(reference)
        self.special_ids = tuple(special_ids)

    def values(self, hypothesis: Tensor) -> Tensor:
        """Q in every state of a hypothesis with its end, float64. `[1, T]` -> `[1, T, V]`."""
        return optimal_completion_values(
            hypothesis,
            torch.tensor([self.reference], dtype=torch.int64),
            vocabulary=self.vocabulary,
            eos_id=self.eos_id,
            special_ids=self.special_ids,
            dtype=torch.float64,
        )
