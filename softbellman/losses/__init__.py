"""Operators over the vocabulary: soft values, Bellman residuals, losses of policies and critics, token sampling.

Notation: B sources, K samples per source, N rows, T steps, V vocabulary, tau temperature. Rows are the last
dimension of a `[..., V]` tensor of any floating type and any strides; results are `[...]` in float64 for
float64 rows, else float32. Gradients have the type of their input. Operators are stateless, write nothing in
place and never wait for a device; none can be differentiated twice. Masks are bool or integers 0 and 1, True for a
real token; a masked row is never read, gives 0 and gets a zero gradient.

Every vocabulary-wide argument is a tensor `[..., V]` or a `Head`: hidden states and output weights, whose logits exist
for a chunk of rows at a time.
"""

from softbellman.core.head import Head
from softbellman.losses.critic import CriticLoss, critic_loss
from softbellman.losses.cross_entropy import soft_target_cross_entropy, token_cross_entropy
from softbellman.losses.divergence import divergence
from softbellman.losses.erac import EracCriticLoss, erac_critic_loss
from softbellman.losses.path_consistency import path_consistency
from softbellman.losses.policy import ActorLoss, PolicyValue, actor_loss, policy_value
from softbellman.losses.returns import td_targets
from softbellman.losses.sampling import TokenSample, sample_tokens
from softbellman.losses.soft_bellman import soft_bellman_residual
from softbellman.losses.soft_value import soft_value
from softbellman.losses.sparse_divergence import sparse_divergence
from softbellman.losses.token_statistics import TokenObjective, token_objective, token_statistics

__all__ = [
    "ActorLoss",
    "CriticLoss",
    "EracCriticLoss",
    "Head",
    "PolicyValue",
    "TokenObjective",
    "TokenSample",
    "actor_loss",
    "critic_loss",
    "divergence",
    "erac_critic_loss",
    "path_consistency",
    "policy_value",
    "sample_tokens",
    "soft_bellman_residual",
    "soft_target_cross_entropy",
    "soft_value",
    "sparse_divergence",
    "td_targets",
    "token_cross_entropy",
    "token_objective",
    "token_statistics",
]
