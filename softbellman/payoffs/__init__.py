"""Payoffs of token sequences and the edits that importance sampling draws: BLEU, CIDEr-D, ROUGE-L, edit distance.

Sequences are int64 token ids `[B, T]` or `[B, K, T]`: B sources, K samples per source, T steps. References are `[B, L]`
or `[B, R, L]`: R references per source, L steps. Counts are integers, so nothing here has a gradient.
"""

from softbellman.payoffs.bleu import (
    bleu_rewards,
    corpus_bleu,
    corpus_bleu_statistics,
    prefix_bleu,
    sentence_bleu,
)
from softbellman.payoffs.bleu_completion import BleuCompletions, bleu_completion_values, bleu_completions
from softbellman.payoffs.cider import cider_rewards, corpus_cider, prefix_cider, sentence_cider
from softbellman.payoffs.edit_distance import (
    edit_distance_rewards,
    optimal_completion_values,
    prefix_edit_distance,
)
from softbellman.payoffs.edits import (
    Edits,
    ImportanceWeights,
    edit_log_density,
    importance_weights,
    sample_edits,
)
from softbellman.payoffs.frequencies import DocumentFrequencies
from softbellman.payoffs.rouge import corpus_rouge_l, prefix_rouge_l, rouge_l_rewards, sentence_rouge_l

__all__ = [
    "BleuCompletions",
    "DocumentFrequencies",
    "Edits",
    "ImportanceWeights",
    "bleu_completion_values",
    "bleu_completions",
    "bleu_rewards",
    "cider_rewards",
    "corpus_bleu",
    "corpus_bleu_statistics",
    "corpus_cider",
    "corpus_rouge_l",
    "edit_distance_rewards",
    "edit_log_density",
    "importance_weights",
    "optimal_completion_values",
    "prefix_bleu",
    "prefix_cider",
    "prefix_edit_distance",
    "prefix_rouge_l",
    "rouge_l_rewards",
    "sample_edits",
    "sentence_bleu",
    "sentence_cider",
    "sentence_rouge_l",
]
