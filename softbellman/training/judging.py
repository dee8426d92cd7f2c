"""A model judged by what its beam search says of a corpus: BLEU, and what else was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import nn

from softbellman.data import BatchIterator, CaptionCorpus, Codec, Corpus
from softbellman.data.scenes import scenes_of
from softbellman.decoding import StepwiseModel
from softbellman.payoffs.batches import pad_references
from softbellman.payoffs.payoff import Payoff
from softbellman.training.evaluation import BleuScore, Said, corpus_bleu, further_metrics, search_corpus
from softbellman.training.settings import MEAN_PAYOFF, EvaluationSettings


class Judged(NamedTuple):
    """What a search said of a corpus, and what it is worth.

    Attributes:
        lines: the hypotheses, in the corpus's order.
        bleu: sacrebleu's.
        others: further metrics by name.
    """

    lines: list[str]
    bleu: BleuScore
    others: dict[str, float]


def judge_search(
    model: nn.Module | StepwiseModel,
    corpus: Corpus | CaptionCorpus,
    batches: BatchIterator,
    settings: EvaluationSettings,
    *,
    codec: Codec,
    payoff: Payoff,
    device: torch.device,
    metrics: Sequence[str] | None = None,
    reads: Literal["source", "reference"] = "source",
) -> Judged:
    """Search a corpus and score what was found.

    Args:
        model: what `beam_search` drives.
        corpus: its references are compared with.
        batches: its sentences, each once, with the references that the payoff has.
        settings: of the search, and what is measured.
        codec: of the target.
        payoff: of the run, for `mean_payoff`.
        device: where the model is.
        metrics: beside BLEU; None: what the settings ask for.
        reads: what the model reads.
    """
    names = settings.measured if metrics is None else metrics
    found = search_corpus(model, batches, codec, settings, device=device, reads=reads)
    lines = [said.line for said in found]
    bleu = corpus_bleu(lines, corpus.reference_texts, tokenize=settings.tokenize)
    texts = [name for name in names if name != MEAN_PAYOFF]
    others = further_metrics(texts, lines, corpus.reference_texts, settings, scenes=scenes_of(corpus))
    if MEAN_PAYOFF in names:
        others[MEAN_PAYOFF] = 100 * mean_payoff(found, batches, payoff, device=device)
    return Judged(lines, bleu, others)


def mean_payoff(
    found: Sequence[Said], batches: BatchIterator, payoff: Payoff, *, device: torch.device
) -> float:
    """The mean over a corpus of what its hypotheses earn, `payoff.scale` left out.

    Args:
        found: a hypothesis for each source, in the corpus's order.
        batches: as in `judge_search`.
        payoff: of the run.
        device: where it scores.
    """
    total = 0.0
    for batch in batches.epoch(0):
        groups = [[found[index].tokens] for index in batch.index.tolist()]
        hypotheses, lengths = pad_references(groups, batch.special.pad)
        rewards = payoff.rewards(
            hypotheses.to(device),
            batch.references.to(device),
            hypothesis_lengths=lengths.to(device),
            reference_lengths=batch.reference_lengths.to(device),
            scaled=False,
            dtype=torch.float64,
        )
        total += float(rewards.sum())
    return total / len(found)
