"""Objectives: pure functions from rows over the vocabulary to a loss and its diagnostics; they know no model or trainer.

Notation of this package: N sequences, T steps, M real tokens (rows), V vocabulary. Losses are summed over the tokens of a
sequence and averaged over sequences, as in the paper's recipes. Rows `[..., V]` are a tensor or a `Head`. They may be padded
`[N, T, V]` with a mask, or already packed `[M, V]` (padding is then never projected to the vocabulary at all).
"""

from softbellman.losses import td_targets
from softbellman.objectives.actor_critic import actor_objective, critic_objective
from softbellman.objectives.augmented import known_distillation, oracle_distillation, weighted_likelihood
from softbellman.objectives.beam_search import margin_violation
from softbellman.objectives.maximum_likelihood import maximum_likelihood
from softbellman.objectives.objective import Objective
from softbellman.objectives.path_consistency import consistency_objective
from softbellman.objectives.sequence_level import (
    first_of_equals,
    mean_of_others,
    minimum_risk,
    policy_gradient,
)
from softbellman.objectives.soft_q import soft_q_objective

__all__ = [
    "Objective",
    "actor_objective",
    "consistency_objective",
    "critic_objective",
    "first_of_equals",
    "known_distillation",
    "margin_violation",
    "maximum_likelihood",
    "mean_of_others",
    "minimum_risk",
    "oracle_distillation",
    "policy_gradient",
    "soft_q_objective",
    "td_targets",
    "weighted_likelihood",
]
