"""How the numbers of a run are named and rounded where a person reads them."""

from __future__ import annotations

from collections.abc import Mapping

METRIC_TITLES = {
    "bleu1": "BLEU-1",
    "bleu2": "BLEU-2",
    "bleu3": "BLEU-3",
    "cider": "CIDEr-D",
    "rouge_l": "ROUGE-L",
    "chrf": "chrF2",
    "ter": "TER",
    "truth": "% true",
    "truth_readable": "% readable",
    "truth_relating": "% true relations",
    "mean_payoff": "mean payoff",
}
"""The metrics that `evaluation.metrics` adds, as tables name them."""

# What is shown of a validation, in this order, under these names and formats. The rest is in metrics.jsonl.
_SHOWN = {
    "dev_bleu": ("dev BLEU", ".2f"),
    "dev_cider": ("dev CIDEr-D", ".2f"),
    "dev_rouge_l": ("dev ROUGE-L", ".2f"),
    "dev_chrf": ("dev chrF2", ".2f"),
    "dev_ter": ("dev TER", ".2f"),
    "dev_truth": ("dev % true", ".2f"),
    "dev_mean_payoff": ("dev mean payoff", ".2f"),
    "oracle_bleu": ("oracle BLEU", ".2f"),
    "oracle_cider": ("oracle CIDEr-D", ".2f"),
    "oracle_rouge_l": ("oracle ROUGE-L", ".2f"),
    "oracle_chrf": ("oracle chrF2", ".2f"),
    "oracle_ter": ("oracle TER", ".2f"),
    "oracle_truth": ("oracle % true", ".2f"),
    "oracle_mean_payoff": ("oracle mean payoff", ".2f"),
    "dev_td_error": ("dev TD error", ".4f"),
    "rank_correlation": ("rank correlation", ".3f"),
    "choice_gain": ("choice gain", "+.3f"),
    "dev_nll": ("dev NLL", ".3f"),
    "perplexity": ("perplexity", ".2f"),
    "cross_entropy": ("cross entropy", ".3f"),
    "effective_samples": ("effective samples", ".2f"),
    "td_error": ("TD error", ".4f"),
    "entropy": ("entropy", ".3f"),
    "prior_divergence": ("KL to the start", ".4f"),
    "payoff": ("payoff", ".3f"),
}


def describe_numbers(metrics: Mapping[str, float]) -> list[str]:
    """The metrics worth a line, as `name value`."""
    return [
        f"{label} {metrics[name]:{form}}"
        for name, (label, form) in _SHOWN.items()
        if metrics.get(name) is not None
    ]
