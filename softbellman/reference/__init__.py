"""The operators of softbellman in plain PyTorch: slow, differentiable by autograd, float64-capable.

Same names, arguments and edge rows as `softbellman.losses`; each file is short enough to read beside the paper
and is the oracle of the tests. Rows that are masked give 0 and a zero gradient whatever they hold; rows that
are `-inf` throughout give a soft value of `-inf`, policy terms of 0 and zero gradients.
"""

from softbellman.reference.bleu import (
    bleu_rewards,
    corpus_bleu,
    corpus_bleu_statistics,
    prefix_bleu,
    sentence_bleu,
)
from softbellman.reference.bleu_completion import bleu_completion_values
from softbellman.reference.cider import cider_rewards, corpus_cider, prefix_cider, sentence_cider
from softbellman.reference.critic import CriticLoss, critic_loss
from softbellman.reference.cross_entropy import soft_target_cross_entropy, token_cross_entropy
from softbellman.reference.divergence import divergence
from softbellman.reference.edit_distance import (
    edit_distance_rewards,
    optimal_completion_values,
    prefix_edit_distance,
)
from softbellman.reference.edits import (
    Edits,
    ImportanceWeights,
    edit_log_density,
    importance_weights,
    sample_edits,
)
from softbellman.reference.erac import EracCriticLoss, erac_critic_loss
from softbellman.reference.frequencies import DocumentFrequencies
from softbellman.reference.path_consistency import path_consistency
from softbellman.reference.policy import ActorLoss, PolicyValue, actor_loss, policy_value
from softbellman.reference.returns import td_targets
from softbellman.reference.rouge import corpus_rouge_l, prefix_rouge_l, rouge_l_rewards, sentence_rouge_l
from softbellman.reference.sampling import TokenSample, sample_tokens
from softbellman.reference.soft_bellman import soft_bellman_residual
from softbellman.reference.soft_value import soft_value
from softbellman.reference.sparse_divergence import sparse_divergence
from softbellman.reference.token_statistics import TokenObjective, token_objective, token_statistics

__all__ = [
    "ActorLoss",
    "CriticLoss",
    "DocumentFrequencies",
    "Edits",
    "EracCriticLoss",
    "ImportanceWeights",
    "PolicyValue",
    "TokenObjective",
    "TokenSample",
    "actor_loss",
    "bleu_completion_values",
    "bleu_rewards",
    "cider_rewards",
    "corpus_bleu",
    "corpus_bleu_statistics",
    "corpus_cider",
    "corpus_rouge_l",
    "critic_loss",
    "divergence",
    "edit_distance_rewards",
    "edit_log_density",
    "erac_critic_loss",
    "importance_weights",
    "optimal_completion_values",
    "path_consistency",
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
    "sparse_divergence",
    "td_targets",
    "token_cross_entropy",
    "token_objective",
    "token_statistics",
]
