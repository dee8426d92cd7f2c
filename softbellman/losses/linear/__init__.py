"""Operators from hidden states and output weights to losses, values, draws and gradients, a chunk of rows at a time.

Each does what the operator of the same name without `linear_` does with the logits `hidden @ weight.T + bias`, within
rounding, and never holds these logits for more than a chunk of rows. Where that operator takes logits, these take hidden
[..., H] and weight [V, H] in their place, then its other arguments, then bias [V]; where it takes q beside them, q_hidden
and q_weight. docs/linear.md says what is saved and what is computed twice.
"""

from softbellman.losses.linear._rows import choose_chunk_rows
from softbellman.losses.linear.critic import linear_critic_loss
from softbellman.losses.linear.cross_entropy import (
    linear_soft_target_cross_entropy,
    linear_token_cross_entropy,
)
from softbellman.losses.linear.policy import linear_actor_loss, linear_policy_value
from softbellman.losses.linear.sampling import linear_sample_tokens
from softbellman.losses.linear.soft_value import linear_soft_bellman_residual, linear_soft_value

__all__ = [
    "choose_chunk_rows",
    "linear_actor_loss",
    "linear_critic_loss",
    "linear_policy_value",
    "linear_sample_tokens",
    "linear_soft_bellman_residual",
    "linear_soft_target_cross_entropy",
    "linear_soft_value",
    "linear_token_cross_entropy",
]
