"""Validation: decoding a corpus, BLEU by sacrebleu, and the critic's TD error."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from sacrebleu.metrics.bleu import BLEU
from torch import Tensor, nn

from softbellman.data import BatchIterator, Codec, Examples
from softbellman.decoding import Tempered, beam_search
from softbellman.payoffs.text_metrics import cider_scores, corpus_chrf, mean, rouge_l_scores, streams
from softbellman.training.rollout import mode
from softbellman.training.settings import EvaluationSettings, LogitsForm
from softbellman.training.stages import OracleStage, PolicyEvaluation, reference_likelihood

logger = logging.getLogger(__name__)

_LOOKS_TOKENISED = 100
"""Lines that end in a period of their own; sacrebleu warns from so many on."""


class BleuScore(NamedTuple):
    """Corpus BLEU.

    Attributes:
        score: 0 to 100.
        signature: sacrebleu's signature of how it was computed.
        length_ratio: hypothesis length over reference length.
    """

    score: float
    signature: str
    length_ratio: float


def corpus_bleu(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenize: str = "none",
    max_order: int = 4,
) -> BleuScore:
    """sacrebleu's corpus BLEU; `references[i]` are the (one or more) references of `hypotheses[i]`.

    Raises:
        ValueError: all references of a hypothesis are empty; an empty one beside others counts as absent.
    """
    metric = BLEU(tokenize=_settled(tokenize), force=True, max_ngram_order=max_order)
    result = metric.corpus_score(list(hypotheses), streams(references))  # type: ignore[arg-type]  # None: no such reference
    return BleuScore(result.score, str(metric.get_signature()), result.ratio)


def _settled(tokenize: str) -> str:
    """The name of sacrebleu's tokeniser; raises ValueError where the settings still leave it to the data."""
    if tokenize == "auto":
        raise ValueError("evaluation.tokenize is auto, which follows the data: see settings.follow_data")
    return tokenize


def warn_of_tokenised(references: Sequence[Sequence[str]], tokenize: str) -> None:
    """Logs a warning where references look tokenised and are to be tokenised once more."""
    count = sum(any(text.endswith(" .") for text in group) for group in references)
    if tokenize != "none" and count >= _LOOKS_TOKENISED:
        logger.warning(
            "%d validation lines end in a tokenised period, but evaluation.tokenize is %s, which is for raw text; "
            "for tokenised files say none",
            count,
            tokenize,
        )


def bleu_orders(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], settings: EvaluationSettings
) -> dict[str, float]:
    """BLEU-1, BLEU-2 and BLEU-3: shorter n-grams alone, the same brevity penalty."""
    return {
        f"bleu{order}": corpus_bleu(hypotheses, references, tokenize=settings.tokenize, max_order=order).score
        for order in (1, 2, 3)
    }


def cider(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], settings: EvaluationSettings
) -> dict[str, float]:
    """CIDEr-D times 100, with the document frequencies of these references."""
    return {"cider": mean(cider_scores(hypotheses, references, tokenize=_settled(settings.tokenize)))}


def rouge_l(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], settings: EvaluationSettings
) -> dict[str, float]:
    """ROUGE-L times 100."""
    return {"rouge_l": mean(rouge_l_scores(hypotheses, references, tokenize=_settled(settings.tokenize)))}


def chrf(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], settings: EvaluationSettings
) -> dict[str, float]:
    """sacrebleu's chrF2, which compares characters and needs no tokeniser."""
    return {"chrf": corpus_chrf(hypotheses, references)}


Metric = Callable[[Sequence[str], Sequence[Sequence[str]], EvaluationSettings], dict[str, float]]
"""Hypotheses, the references of each, the settings: numbers by name."""

METRICS: dict[str, Metric] = {"bleu_orders": bleu_orders, "cider": cider, "rouge_l": rouge_l, "chrf": chrf}
"""What `evaluation.metrics` can ask for beside BLEU."""


def further_metrics(
    names: Sequence[str],
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    settings: EvaluationSettings,
) -> dict[str, float]:
    """The numbers of the named `METRICS`."""
    found: dict[str, float] = {}
    for name in names:
        found |= METRICS[name](hypotheses, references, settings)
    return found


def corpus_batches(corpus: Examples, batch_size: int) -> BatchIterator:
    """A corpus in sorted batches, every sentence (or image) once."""
    return BatchIterator(corpus, batch_size=batch_size, shuffle=False)


@torch.no_grad()
def translate_corpus(
    model: nn.Module | Tempered,
    batches: BatchIterator,
    codec: Codec,
    settings: EvaluationSettings,
    *,
    device: torch.device,
    reads: Literal["source", "reference"] = "source",
) -> list[str]:
    """Beam-search every source or image (or reference, for an oracle); the hypotheses come back in the corpus's order."""
    lines: dict[int, str] = {}
    for batch in batches.epoch(0):
        read = batch.source if reads == "source" else batch.labels
        found = beam_search(
            model,
            read.to(device),
            beam=settings.beam,
            max_length=settings.max_length,
            length_penalty=settings.length_penalty,
        )
        for index, tokens in zip(batch.index.tolist(), found.tokens.tolist(), strict=True):
            lines[index] = codec.decode(tokens)
    return [lines[index] for index in range(len(lines))]


@torch.no_grad()
def reference_nll(
    critic: nn.Module, batches: BatchIterator, *, device: torch.device, logits: LogitsForm = "whole"
) -> dict[str, float]:
    """Negative log-likelihood of the reference given the reference, nats per token."""
    total = tokens = 0.0
    with mode(critic, training=False):
        for batch in batches.epoch(0):
            batch = batch.to(device)
            found = reference_likelihood(critic, batch, source=batch.labels, logits=logits).diagnostics
            total += float(found["nll"])
            tokens += float(found["reference_tokens"])
    return {"dev_nll": total / tokens}


@torch.no_grad()
def td_error(
    evaluation: PolicyEvaluation, batches: BatchIterator, *, device: torch.device
) -> dict[str, float]:
    """Mean absolute TD error and payoff on sequences drawn from the actor, the same draws at every call."""
    sums: dict[str, Tensor] = {}
    with mode(evaluation.critic, training=False):
        for number, batch in enumerate(batches.epoch(0)):
            batch = batch.to(device)
            rollout = evaluation.draw(batch, step=number)
            policy = evaluation.policy(batch, rollout)
            objective, _, _ = evaluation.critic_loss(batch, rollout, policy)
            for name, value in objective.diagnostics.items():
                sums[name] = sums.get(name, torch.zeros(())) + value.to("cpu", torch.float64)
    return {
        "dev_td_error": float(sums["td_error"] / sums["tokens"]),
        "dev_payoff": float(sums["payoff"] / sums["sequences"]),
    }


@torch.no_grad()
def soft_residual(stage: OracleStage, batches: BatchIterator, *, device: torch.device) -> dict[str, float]:
    """Mean absolute soft Bellman residual on edited references, the same edits at every call."""
    total = tokens = 0.0
    with mode(stage.modules["oracle"], training=False):
        for number, batch in enumerate(batches.epoch(0)):
            _, sums = stage.residuals(batch.to(device), step=number)
            total += float(sums["td_error"])
            tokens += float(sums["tokens"])
    return {"dev_td_error": total / tokens}
