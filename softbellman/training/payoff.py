"""The payoff R of partial hypotheses: sentence BLEU, CIDEr-D or ROUGE-L of every prefix (eq. 4, 13).

All three count in one unit, so that a temperature means the same with each: a correct caption scores about 1, times the length
of the reference where `scale` says so. A copy of a reference has BLEU and ROUGE-L 1. CIDEr-D is divided by what a correct
caption scores: 10 against one reference, which is a copy's; against all of them it is a mean over the references, and a copy
of one of R gets little more than 10 / R, so there it is divided by the mean score of the training references themselves.

Notation: B sources, K hypotheses per source, R references per source, T and L padded lengths.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softbellman.data import EOS, UNK, Examples
from softbellman.data.batching import pad_references
from softbellman.payoffs import (
    DocumentFrequencies,
    bleu_rewards,
    cider_rewards,
    rouge_l_rewards,
    sentence_cider,
)
from softbellman.training.settings import PayoffSettings

_CHUNK = 1024  # sources whose references are counted together
COPY = 10.0
"""CIDEr-D of a copy of the only reference."""


class Payoff:
    """Scores prefixes as the settings ask.

    Args:
        settings: metric, scale and references; the defaults are BLEU's.
        frequencies: cider: the document frequencies, on the device of the hypotheses.
        full_score: cider: the CIDEr-D that counts as 1.
    """

    def __init__(
        self,
        settings: PayoffSettings | None = None,
        *,
        frequencies: DocumentFrequencies | None = None,
        full_score: float = COPY,
    ) -> None:
        self.settings = settings or PayoffSettings()
        if (self.settings.metric == "cider") != (frequencies is not None):
            raise ValueError("frequencies must be given where payoff.metric is cider, and nowhere else")
        self.frequencies, self.full_score = frequencies, full_score

    def rewards(
        self,
        hypotheses: Tensor,
        references: Tensor,
        *,
        hypothesis_lengths: Tensor,
        reference_lengths: Tensor,
        scaled: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Incremental payoffs `r_t = R(y_1..t) - R(y_1..t-1)`; those of a hypothesis add up to its payoff.

        Args:
            hypotheses: Shape: ``[B, K, T]``.
            references: of the same sources, the training target first, Shape: ``[B, R, L]``.
            hypothesis_lengths, reference_lengths: Shape: ``[B, K]`` and ``[B, R]``; a reference of length 0 is absent.
            scaled: as the settings say; False: the score alone, whatever they say.
            dtype: of the result, float32 or float64.

        Returns:
            Shape: ``[B, K, T]``, 0 at EOS and behind the length.
        """
        own = self.settings
        if own.references == "one":
            references, reference_lengths = references[:, :1], reference_lengths[:, :1]
        common: dict[str, Any] = {
            "eos_id": EOS,
            "hypothesis_lengths": hypothesis_lengths,
            "reference_lengths": reference_lengths,
            "unmatched_id": _unmatched(own),
            "scale": own.scale if scaled else "none",
        }
        if own.metric == "bleu":
            return bleu_rewards(
                hypotheses,
                references,
                max_order=own.max_order,
                smoothing=own.smoothing,
                dtype=dtype,
                **common,
            )
        if own.metric == "rouge_l":
            return rouge_l_rewards(hypotheses, references, beta=own.beta, dtype=dtype, **common)
        assert self.frequencies is not None
        exact = cider_rewards(
            hypotheses,
            references,
            frequencies=self.frequencies,
            sigma=own.sigma,
            dtype=torch.float64,
            **common,
        )
        return (exact / self.full_score).to(dtype)

    def digest(self) -> str:
        """Hash of what the payoff knows beside its settings; empty where that is nothing."""
        if self.frequencies is None:
            return ""
        found = hashlib.sha256(repr((self.frequencies.documents, self.full_score)).encode())
        for tensor in (*self.frequencies.ngrams, *self.frequencies.counts):
            found.update(tensor.numpy().tobytes())
        return found.hexdigest()

    def describe(self) -> str:
        """The payoff in words."""
        facts = ""
        if self.frequencies is not None:
            facts = (
                f", frequencies of {self.frequencies.documents:,} documents, full score {self.full_score:.3g}"
            )
        return describe_payoff(self.settings) + facts


def describe_payoff(settings: PayoffSettings) -> str:
    """The settings of a payoff in words."""
    name = {"bleu": "sentence BLEU", "cider": "CIDEr-D", "rouge_l": "ROUGE-L"}[settings.metric]
    against = "all references" if settings.references == "all" else "one reference"
    unit = " times the reference length" if settings.scale == "reference_length" else ""
    return f"{name} against {against}{unit}"


def prepare_payoff(
    settings: PayoffSettings, training: Examples, path: Path, *, resume: bool, device: torch.device
) -> Payoff:
    """The payoff of a run, with the document frequencies of its training references where it is CIDEr-D.

    A document is one source with all its references, also where the payoff compares with one of them.

    Args:
        settings: of the payoff.
        training: the training corpus.
        path: where the frequencies are kept, a safetensors file.
        resume: take those of `path` if they are there, whatever the corpus now holds.
        device: where hypotheses will be scored.

    Raises:
        ValueError: all n-grams weigh 0, as with one training source alone, or `path` holds something else.
    """
    if settings.metric != "cider":
        return Payoff(settings)
    if resume and path.exists():
        frequencies = DocumentFrequencies.load(path)
        if frequencies.max_order != settings.max_order:
            raise ValueError(
                f"{path} holds n-grams up to length {frequencies.max_order}, but payoff.max_order is {settings.max_order}"
            )
    else:
        frequencies = DocumentFrequencies.from_batches(
            _references(training), max_order=settings.max_order, unmatched_id=_unmatched(settings)
        )
        _save(frequencies, path)
    if all(bool((counts == frequencies.documents).all()) for counts in frequencies.counts):
        raise ValueError(
            "payoff.metric cider weighs n-grams by how few training sources have them, but each is in all of the "
            f"{frequencies.documents}: the payoff is 0 everywhere"
        )
    full_score = COPY if settings.references == "one" else _mean_score(settings, frequencies, training)
    return Payoff(settings, frequencies=frequencies.to(device), full_score=full_score)


def _mean_score(settings: PayoffSettings, frequencies: DocumentFrequencies, corpus: Examples) -> float:
    """Mean CIDEr-D of the corpus's references, each against all of its source, itself included."""
    scores: list[float] = []
    for tokens, lengths in _references(corpus):
        found = sentence_cider(
            tokens,
            tokens,
            frequencies=frequencies,
            hypothesis_lengths=lengths,
            reference_lengths=lengths,
            sigma=settings.sigma,
            unmatched_id=_unmatched(settings),
            dtype=torch.float64,
        )
        scores += found[lengths > 0].tolist()
    return math.fsum(scores) / len(scores)


def _references(corpus: Examples) -> Iterator[tuple[Tensor, Tensor]]:
    """All references of a corpus in order, tokens ``[B, R, L]`` and lengths ``[B, R]``."""
    for start in range(0, len(corpus), _CHUNK):
        yield pad_references(corpus.references[start : start + _CHUNK])


def _unmatched(settings: PayoffSettings) -> int | None:
    return None if settings.unknown_matches else UNK


def _save(frequencies: DocumentFrequencies, path: Path) -> None:
    """Under another name first: a killed run leaves no half of a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    frequencies.save(temporary)
    os.replace(temporary, path)
