"""Validation: decoding a corpus, BLEU by sacrebleu, and the critic's TD error."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from sacrebleu.metrics.bleu import BLEU
from torch import Tensor, nn

from softbellman.data import Batch, BatchIterator, Codec, Examples
from softbellman.data.scenes import Scene, judge_captions
from softbellman.decoding import StepwiseModel, beam_search
from softbellman.payoffs.text_metrics import (
    cider_scores,
    corpus_chrf,
    corpus_ter,
    mean,
    present,
    rouge_l_scores,
    streams,
)
from softbellman.training.likelihood import reference_likelihood
from softbellman.training.processes import current
from softbellman.training.rollout import mode
from softbellman.training.settings import TRUTH, EvaluationSettings, LogitsForm, PayoffSettings

if TYPE_CHECKING:
    from softbellman.training.stages import OracleStage, PolicyEvaluation

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


def sentence_bleu_scores(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, tokenize: str = "none"
) -> list[float]:
    """sacrebleu's BLEU of each hypothesis with the orders that it has (`eff:yes`), 0 to 100."""
    metric = BLEU(tokenize=_settled(tokenize), force=True, effective_order=True)
    return [
        float(metric.sentence_score(hypothesis, present(group)).score)
        for hypothesis, group in zip(hypotheses, references, strict=True)
    ]


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


def truth(hypotheses: Sequence[str], scenes: Sequence[Scene] | None) -> dict[str, float]:
    """Shares of captions times 100: true of their scenes; to be read at all; true and telling a relation.

    Raises:
        ValueError: there are no scenes.
    """
    if scenes is None:
        raise ValueError(f"the metric {TRUTH} is of captions of scenes; it needs data.kind: scenes")
    found = judge_captions(hypotheses, scenes)
    return {
        "truth": 100 * found.true,
        "truth_readable": 100 * found.readable,
        "truth_relating": 100 * found.relating,
    }


def chrf(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], settings: EvaluationSettings
) -> dict[str, float]:
    """sacrebleu's chrF2, which compares characters and needs no tokeniser."""
    return {"chrf": corpus_chrf(hypotheses, references)}


def ter(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], settings: EvaluationSettings
) -> dict[str, float]:
    """sacrebleu's TER: edits of words, shifts among them, per word of the references, times 100; smaller is better."""
    return {"ter": corpus_ter(hypotheses, references)}


Metric = Callable[[Sequence[str], Sequence[Sequence[str]], EvaluationSettings], dict[str, float]]
"""Hypotheses, the references of each, the settings: numbers by name."""

TEXT_METRICS: dict[str, Metric] = {
    "bleu_orders": bleu_orders,
    "cider": cider,
    "rouge_l": rouge_l,
    "chrf": chrf,
    "ter": ter,
}
"""Metrics of hypotheses against references."""

METRICS = (*TEXT_METRICS, TRUTH)
"""What `evaluation.metrics` can ask for beside BLEU, of texts."""


def further_metrics(
    names: Sequence[str],
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    settings: EvaluationSettings,
    *,
    scenes: Sequence[Scene] | None = None,
) -> dict[str, float]:
    """The numbers of the named `METRICS`.

    Args:
        names: of the metrics.
        hypotheses: N of them.
        references: those of each.
        settings: which words are compared.
        scenes: the N scenes that captions tell, see `scenes_of`; `truth` needs them.

    Raises:
        ValueError: `truth` without scenes.
    """
    found: dict[str, float] = {}
    for name in names:
        if name == TRUTH:
            found |= truth(hypotheses, scenes)
        else:
            found |= TEXT_METRICS[name](hypotheses, references, settings)
    return found


def corpus_batches(corpus: Examples, batch_size: int, payoff: PayoffSettings | None = None) -> BatchIterator:
    """A corpus in sorted batches, every sentence (or image) once, with the references of training; None: with all of them."""
    how: dict[str, Any] = {} if payoff is None else {"references": payoff.references, "reads": payoff.reads}
    return BatchIterator(corpus, batch_size=batch_size, shuffle=False, **how)


class Said(NamedTuple):
    """What a search found for one source: the text, and its tokens with the end token where there is one."""

    line: str
    tokens: list[int]


@torch.no_grad()
def search_corpus(
    model: nn.Module | StepwiseModel,
    batches: BatchIterator,
    codec: Codec,
    settings: EvaluationSettings,
    *,
    device: torch.device,
    reads: Literal["source", "reference"] = "source",
) -> list[Said]:
    """Beam-search every source or image (or reference, for an oracle); the hypotheses come back in the corpus's order."""

    def search(batch: Batch) -> list[tuple[int, Said]]:
        read = batch.source if reads == "source" else batch.critic_source
        found = beam_search(
            model,
            read.to(device),
            beam=settings.beam,
            max_length=settings.max_length,
            length_penalty=settings.length_penalty,
            special=batch.special,
        )
        said = [
            Said(codec.decode(tokens), tokens[:length])
            for tokens, length in zip(found.tokens.tolist(), found.lengths.tolist(), strict=True)
        ]
        return list(zip(batch.index.tolist(), said, strict=True))

    parts = current().spread(batches.epoch(0), search)
    return [said for _, said in sorted((pair for part in parts for pair in part), key=lambda pair: pair[0])]


def translate_corpus(
    model: nn.Module | StepwiseModel,
    batches: BatchIterator,
    codec: Codec,
    settings: EvaluationSettings,
    *,
    device: torch.device,
) -> list[str]:
    """The texts of `search_corpus`."""
    return [said.line for said in search_corpus(model, batches, codec, settings, device=device)]


@torch.no_grad()
def reference_nll(
    critic: nn.Module, batches: BatchIterator, *, device: torch.device, logits: LogitsForm = "whole"
) -> dict[str, float]:
    """Negative log-likelihood of the reference given the reference, nats per token."""

    def judge(numbered: tuple[int, Batch]) -> dict[str, Tensor]:
        batch = numbered[1].to(device)
        return reference_likelihood(critic, batch, source=batch.critic_source, logits=logits).diagnostics

    with mode(critic, training=False):
        sums = _summed(batches, judge)
    return {"dev_nll": sums["nll"] / sums["reference_tokens"]}


@torch.no_grad()
def td_error(
    evaluation: PolicyEvaluation, batches: BatchIterator, *, device: torch.device
) -> dict[str, float]:
    """Mean absolute TD error and payoff on sequences drawn from the actor, the same draws at every call.

    With a prior the mean divergence from it, too.
    """

    def judge(numbered: tuple[int, Batch]) -> dict[str, Tensor]:
        batch = numbered[1].to(device)
        rollout = evaluation.draw(batch, step=numbered[0])
        policy, prior = evaluation.policy(batch, rollout), evaluation.prior_policy(batch, rollout)
        return evaluation.critic_loss(batch, rollout, policy, prior=prior).objective.diagnostics

    with mode(evaluation.critic, training=False):
        sums = _summed(batches, judge)
    found = {
        "dev_td_error": sums["td_error"] / sums["tokens"],
        "dev_payoff": sums["payoff"] / sums["sequences"],
    }
    if "prior_divergence" in sums:
        found["dev_prior_divergence"] = sums["prior_divergence"] / sums["tokens"]
    return found


@torch.no_grad()
def soft_residual(stage: OracleStage, batches: BatchIterator, *, device: torch.device) -> dict[str, float]:
    """Mean absolute soft Bellman residual on edited references, the same edits at every call."""

    def judge(numbered: tuple[int, Batch]) -> dict[str, Tensor]:
        return stage.residuals(numbered[1].to(device), step=numbered[0])[1]

    with mode(stage.modules["oracle"], training=False):
        sums = _summed(batches, judge)
    return {"dev_td_error": sums["td_error"] / sums["tokens"]}


def _summed(
    batches: BatchIterator, judge: Callable[[tuple[int, Batch]], dict[str, Tensor]]
) -> dict[str, float]:
    """Diagnostics of all (number, batch), added in the order of the batches, whichever process has each."""
    sums: dict[str, float] = {}
    found = current().spread(
        enumerate(batches.epoch(0)),
        lambda numbered: {name: float(value) for name, value in judge(numbered).items()},
    )
    for numbers in found:
        for name, value in numbers.items():
            sums[name] = sums.get(name, 0.0) + value
    return sums
