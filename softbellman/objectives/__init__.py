"""Objectives: pure functions from tensors to a loss and its diagnostics; they know no model, trainer, file or device.

Notation of this package: N sequences, T steps, M real tokens (rows), V vocabulary. Losses are summed over the tokens of a
sequence and averaged over sequences, as in the paper's recipes. Row inputs ``[..., V]`` may be padded ``[N, T, V]`` with a
mask, or already packed ``[M, V]`` (padding never projected to the vocabulary at all).
"""

from softbellman.objectives.actor_critic import (
    actor_objective,
    critic_objective,
    td_targets,
)
from softbellman.objectives.augmented import oracle_distillation, weighted_likelihood
from softbellman.objectives.linear import (
    linear_actor_objective,
    linear_known_distillation,
    linear_maximum_likelihood,
    linear_oracle_distillation,
    linear_soft_q_objective,
    linear_weighted_likelihood,
)
from softbellman.objectives.linear_critic import linear_critic_objective
from softbellman.objectives.maximum_likelihood import maximum_likelihood
from softbellman.objectives.objective import Objective
from softbellman.objectives.soft_q import soft_q_objective

__all__ = [
    "Objective",
    "actor_objective",
    "critic_objective",
    "linear_actor_objective",
    "linear_critic_objective",
    "linear_known_distillation",
    "linear_maximum_likelihood",
    "linear_oracle_distillation",
    "linear_soft_q_objective",
    "linear_weighted_likelihood",
    "maximum_likelihood",
    "oracle_distillation",
    "soft_q_objective",
    "td_targets",
    "weighted_likelihood",
]
