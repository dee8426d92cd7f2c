"""The payoff R of partial hypotheses in a run: sentence BLEU, CIDEr-D or ROUGE-L of every prefix, Eq. (4) and (13).

All three count in one unit, so that a temperature means the same with each. A correct caption scores about 1, times the
length of the reference where `scale` says so. A copy of a reference has BLEU and ROUGE-L 1. CIDEr-D is divided by what a
correct caption scores. Against one reference that is 10, a copy's score. Against all R references a copy of one gets little
more than 10 / R, so there it is the mean score of the training references themselves.

Notation: B sources, K hypotheses per source, R references per source, T and L padded lengths.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from softbellman.payoffs.batches import pad_references
from softbellman.payoffs.bleu import bleu_rewards
from softbellman.payoffs.cider import cider_rewards, sentence_cider
from softbellman.payoffs.frequencies import DocumentFrequencies
from softbellman.payoffs.rouge import rouge_l_rewards

_CHUNK = 1024  # sources whose references are counted together
COPY = 10.0
"""CIDEr-D of a copy of the only reference."""

Corpus = Sequence[Sequence[list[int]]]
"""The token ids of each source's references, without start and end."""


@dataclass(frozen=True)
class PayoffSettings:
    """The payoff R of a partial hypothesis: a score of its prefix, Eq. (4) and (13).

    The score lies in [0, 1], and is multiplied by the reference's length where `scale` says so.
    """

    metric: Literal["bleu", "cider", "rouge_l"] = "bleu"
    """The score. `bleu`: sentence BLEU; `cider`: CIDEr-D over what a correct caption scores, with the document frequencies of
    the training references; `rouge_l`: ROUGE-L (docs/payoffs.md)."""
    max_order: int = 4
    """bleu and cider: longest n-gram."""
    smoothing: Literal["none", "floor", "add-k", "exp", "add-one-all"] = "add-k"
    """bleu: smoothing of the n-gram precisions; `add-one-all` is the published code's."""
    sigma: float = 6.0
    """cider: width of the length penalty, in tokens; a larger one holds the first tokens down less."""
    beta: float = 1.2
    """rouge_l: weight of the recall against the precision."""
    scale: Literal["reference_length", "none"] = "reference_length"
    """`reference_length`: multiply by the length of the reference, without its end token; `none`: the score itself."""
    unknown_matches: bool = False
    """An <unk> in the hypothesis matches an <unk> of the reference (the published code's training payoff)."""
    references: Literal["one", "all"] = "one"
    """Score against the training target alone, or against every reference the corpus has for the source (or image)."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_order <= 8:
            raise ValueError(f"payoff.max_order must lie between 1 and 8, got {self.max_order}")
        for name, value in (("sigma", self.sigma), ("beta", self.beta)):
            if not 0.0 < value <= 1e6:
                raise ValueError(f"payoff.{name} must be above 0 and at most 1e6, got {value}")

    def check_keys(self, preset: Mapping[str, str]) -> None:
        """Raises ValueError where a key of another metric has a value of its own, neither the default nor the preset's."""
        for name, metrics in _OWNERS.items():
            value, default = getattr(self, name), getattr(type(self), name)
            if self.metric not in metrics and value != default and str(value) != preset.get(f"payoff.{name}"):
                raise ValueError(
                    f"payoff.{name} is of payoff.metric {' and '.join(metrics)} alone, got {value} with {self.metric}"
                )


_OWNERS = {"max_order": ("bleu", "cider"), "smoothing": ("bleu",), "sigma": ("cider",), "beta": ("rouge_l",)}


class Payoff:
    """Scores prefixes as the settings ask.

    Args:
        settings: metric, scale and references; the defaults are BLEU's.
        eos_id: the token that ends a sequence.
        unknown_id: the token of unknown words, which matches nothing unless the settings say so.
        frequencies: cider: the document frequencies, on the device of the hypotheses.
        full_score: cider: the CIDEr-D that counts as 1.
    """

    def __init__(
        self,
        settings: PayoffSettings | None = None,
        *,
        eos_id: int,
        unknown_id: int,
        frequencies: DocumentFrequencies | None = None,
        full_score: float = COPY,
    ) -> None:
        self.settings = settings or PayoffSettings()
        if (self.settings.metric == "cider") != (frequencies is not None):
            raise ValueError("frequencies must be given where payoff.metric is cider, and nowhere else")
        self.eos_id = eos_id
        self.unmatched_id = _unmatched(self.settings, unknown_id)
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
        """Incremental payoffs `r_t = R(y_1..t) - R(y_1..t-1)`, Eq. (13); those of a hypothesis add up to its payoff.

        Args:
            hypotheses: tokens `[B, K, T]`.
            references: of the same sources `[B, R, L]`, the training target first.
            hypothesis_lengths, reference_lengths: `[B, K]` and `[B, R]`; a reference of length 0 is absent.
            scaled: as the settings say; False: the score alone, whatever they say.
            dtype: of the result, float32 or float64.

        Returns:
            `[B, K, T]`, 0 at the end token and behind the length.
        """
        own = self.settings
        if own.references == "one":
            references, reference_lengths = references[:, :1], reference_lengths[:, :1]
        common: dict[str, Any] = {
            "eos_id": self.eos_id,
            "hypothesis_lengths": hypothesis_lengths,
            "reference_lengths": reference_lengths,
            "unmatched_id": self.unmatched_id,
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

    def save(self, path: Path) -> None:
        """Write the document frequencies, a safetensors file; nothing where there are none."""
        if self.frequencies is not None:
            temporary = path.with_name(f".{path.name}.part")
            self.frequencies.save(temporary)
            temporary.replace(path)

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
    settings: PayoffSettings, corpus: Corpus, *, device: torch.device, eos_id: int, unknown_id: int
) -> Payoff:
    """The payoff of a run, with the document frequencies of its training references where it is CIDEr-D.

    A document is one source with all its references, also where the payoff compares with one of them.

    Args:
        settings: of the payoff.
        corpus: the references of the training corpus.
        device: where hypotheses will be scored.
        eos_id, unknown_id: as in `Payoff`.

    Raises:
        ValueError: all n-grams weigh 0, as with one training source alone.
    """
    if settings.metric != "cider":
        return Payoff(settings, eos_id=eos_id, unknown_id=unknown_id)
    unmatched_id = _unmatched(settings, unknown_id)
    frequencies = DocumentFrequencies.from_batches(
        _batches(corpus), max_order=settings.max_order, unmatched_id=unmatched_id
    )
    if frequencies.weigh_nothing:
        raise ValueError(
            "payoff.metric cider weighs n-grams by how few training sources have them, but each is in all of the "
            f"{frequencies.documents}: the payoff is 0 everywhere"
        )
    full_score = COPY
    if settings.references == "all":
        full_score = _mean_score(corpus, frequencies, settings.sigma, unmatched_id)
    return Payoff(
        settings,
        eos_id=eos_id,
        unknown_id=unknown_id,
        frequencies=frequencies.to(device),
        full_score=full_score,
    )


def _mean_score(
    corpus: Corpus, frequencies: DocumentFrequencies, sigma: float, unmatched_id: int | None
) -> float:
    """Mean CIDEr-D of the corpus's references, each against all of its source, itself included."""
    scores: list[float] = []
    for tokens, lengths in _batches(corpus):
        found = sentence_cider(
            tokens,
            tokens,
            frequencies=frequencies,
            hypothesis_lengths=lengths,
            reference_lengths=lengths,
            sigma=sigma,
            unmatched_id=unmatched_id,
            dtype=torch.float64,
        )
        scores += found[lengths > 0].tolist()
    return math.fsum(scores) / len(scores)


def _batches(corpus: Corpus) -> Iterator[tuple[Tensor, Tensor]]:
    """All references of a corpus in order, tokens `[B, R, L]` and lengths `[B, R]`."""
    for start in range(0, len(corpus), _CHUNK):
        yield pad_references(corpus[start : start + _CHUNK])


def _unmatched(settings: PayoffSettings, unknown_id: int) -> int | None:
    return None if settings.unknown_matches else unknown_id
