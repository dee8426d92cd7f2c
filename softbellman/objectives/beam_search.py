"""Beam search optimisation: the reference's prefix must lead what would push it off the beam by a margin.

    sum_t Delta(yhat_1..t) max(0, margin - f(y_1..t) + f(yhat_1..t))

f is the score of a prefix, the logit of its last token; Delta is the cost of the violating prefix (Wiseman and Rush,
"Sequence-to-Sequence Learning as Beam-Search Optimization", 2016).
"""

from __future__ import annotations

import torch
from torch import Tensor

from softbellman.objectives.objective import Objective


def margin_violation(
    reference: Tensor, violating: Tensor, costs: Tensor, *, sequences: int, margin: float = 1.0
) -> Objective:
    """Cost-weighted margin violations, mean over sequences.

    Args:
        reference: scores `f(y_1..t)` of the references' prefixes, `[S]`.
        violating: scores `f(yhat_1..t)` of the prefixes that compete with them, `[S]`.
        costs: Delta, constants, `[S]`.
        sequences: number of sequences the loss is averaged over.
        margin: by how much the reference must lead.

    Returns:
        The objective with diagnostics `margin_loss`, the sum over violations, and `violation_cost`, that of Delta, beside
        their count `violations`. All are 0 where the reference leads everywhere.
    """
    gaps = (margin - reference + violating).clamp(min=0)
    total = (costs * gaps).sum()
    counted = gaps.detach() > 0
    return Objective(
        total / sequences,
        {
            "margin_loss": total.detach(),
            "violation_cost": torch.where(counted, costs, 0.0).sum(),
            "violations": counted.sum(),
        },
    )
