"""Operators over the vocabulary: soft values, Bellman residuals, losses of policies and critics, token sampling.

Notation: B sources, K samples per source, N rows, T steps, V vocabulary, tau temperature. Rows are the last
dimension of a `[..., V]` tensor of any floating type and any strides; results are `[...]` in float64 for
float64 rows, else float32. Gradients have the type of their input. Operators are stateless, write nothing in
place and never wait for a device; none can be differentiated twice. Masks are bool, True for a real token; a
masked row is never read, gives 0 and gets a zero gradient.
"""

from softbellman.losses.actor import ActorLoss, actor_loss
from softbellman.losses.critic import CriticLoss, critic_loss
from softbellman.losses.cross_entropy import soft_target_cross_entropy, token_cross_entropy
from softbellman.losses.erac import EracCriticLoss, erac_critic_loss
from softbellman.losses.linear import (
    linear_actor_loss,
    linear_critic_loss,
    linear_policy_value,
    linear_sample_tokens,
    linear_soft_bellman_residual,
    linear_soft_target_cross_entropy,
    linear_soft_value,
    linear_token_cross_entropy,
)
from softbellman.losses.policy_value import PolicyValue, policy_value
from softbellman.losses.sampling import TokenSample, sample_tokens
from softbellman.losses.soft_bellman import soft_bellman_residual
from softbellman.losses.soft_value import soft_value

__all__ = [
    "ActorLoss",
    "CriticLoss",
    "EracCriticLoss",
    "PolicyValue",
    "TokenSample",
    "actor_loss",
    "critic_loss",
    "erac_critic_loss",
    "linear_actor_loss",
    "linear_critic_loss",
    "linear_policy_value",
    "linear_sample_tokens",
    "linear_soft_bellman_residual",
    "linear_soft_target_cross_entropy",
    "linear_soft_value",
    "linear_token_cross_entropy",
    "policy_value",
    "sample_tokens",
    "soft_bellman_residual",
    "soft_target_cross_entropy",
    "soft_value",
    "token_cross_entropy",
]
