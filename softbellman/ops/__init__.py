"""Operators over the vocabulary: checks, allocation, CPU and CUDA dispatch, gradients and fake kernels.

Notation: B sources, K samples per source, N rows, T steps, V vocabulary, tau temperature. Rows are the last
dimension of a `[..., V]` tensor of any floating type and any strides; results are `[...]` in float64 for
float64 rows, else float32. Gradients have the type of their input. Operators are stateless, write nothing in
place and never wait for a device; none can be differentiated twice. Masks are bool, True for a real token; a
masked row is never read, gives 0 and gets a zero gradient. Two `[..., V]` inputs share dtype and device.
The `linear_*` operators take hidden states and output weights in place of logits (docs/linear.md).
"""

from .actor import ActorLoss, actor_loss
from .bleu import bleu_rewards, corpus_bleu, corpus_bleu_statistics, prefix_bleu, sentence_bleu
from .cider import cider_rewards, corpus_cider, prefix_cider, sentence_cider
from .critic import CriticLoss, critic_loss
from .distillation import soft_target_cross_entropy, token_cross_entropy
from .edit_distance import edit_distance_rewards, optimal_completion_values, prefix_edit_distance
from .edits import (
    Edits,
    ImportanceWeights,
    WeightedEdits,
    edit_log_density,
    importance_weights,
    sample_edits,
    weighted_edits,
)
from .erac import EracCriticLoss, erac_critic_loss
from .frequencies import DocumentFrequencies
from .linear import (
    linear_actor_loss,
    linear_critic_loss,
    linear_policy_value,
    linear_sample_tokens,
    linear_soft_bellman_residual,
    linear_soft_target_cross_entropy,
    linear_soft_value,
    linear_token_cross_entropy,
)
from .policy_value import PolicyValue, policy_value
from .rouge import corpus_rouge_l, prefix_rouge_l, rouge_l_rewards, sentence_rouge_l
from .sampling import TokenSample, sample_tokens
from .soft_bellman import soft_bellman_residual
from .soft_value import soft_value

__all__ = [
    "ActorLoss",
    "CriticLoss",
    "DocumentFrequencies",
    "Edits",
    "EracCriticLoss",
    "ImportanceWeights",
    "PolicyValue",
    "TokenSample",
    "WeightedEdits",
    "actor_loss",
    "bleu_rewards",
    "cider_rewards",
    "corpus_bleu",
    "corpus_bleu_statistics",
    "corpus_cider",
    "corpus_rouge_l",
    "critic_loss",
    "edit_distance_rewards",
    "edit_log_density",
    "erac_critic_loss",
    "importance_weights",
    "linear_actor_loss",
    "linear_critic_loss",
    "linear_policy_value",
    "linear_sample_tokens",
    "linear_soft_bellman_residual",
    "linear_soft_target_cross_entropy",
    "linear_soft_value",
    "linear_token_cross_entropy",
    "optimal_completion_values",
    "policy_value",
    "prefix_bleu",
    "prefix_cider",
    "prefix_edit_distance",
    "prefix_rouge_l",
    "rouge_l_rewards",
    "sample_edits",
    "sample_tokens",
    "sentence_bleu",
    "sentence_cider",
    "sentence_rouge_l",
    "soft_bellman_residual",
    "soft_target_cross_entropy",
    "soft_value",
    "token_cross_entropy",
    "weighted_edits",
]
