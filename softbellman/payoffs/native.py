"""The payoff R of partial hypotheses by a kernel: sentence BLEU, CIDEr-D or ROUGE-L of every prefix, Eq. (4) and (13).

All three count in one unit, so that a temperature means the same with each. A correct caption scores about 1, times the
length of the reference where `scale` says so. A copy of a reference has BLEU and ROUGE-L 1. CIDEr-D is divided by what a
correct caption scores. Against one reference that is 10, a copy's score. Against all R references a copy of one gets little
more than 10 / R, so there it is the mean score of the training references themselves.

Notation: B sources, K hypotheses per source, R references per source, T and L padded lengths.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softbellman.core.files import replacing
from softbellman.core.objects import UserObject
from softbellman.payoffs.batches import pad_references
from softbellman.payoffs.bleu import bleu_rewards
from softbellman.payoffs.bleu_completion import BleuCompletions, bleu_completions
from softbellman.payoffs.cider import cider_rewards, sentence_cider
from softbellman.payoffs.frequencies import DocumentFrequencies
from softbellman.payoffs.rouge import rouge_l_rewards
from softbellman.payoffs.settings import PayoffSettings, describe_payoff

_CHUNK = 1024  # sources whose references are counted together
COPY = 10.0
"""CIDEr-D of a copy of the only reference."""

Corpus = Sequence[Sequence[list[int]]]
"""The token ids of each source's references, without start and end."""


class Payoff:
    """Scores prefixes by a kernel, as the settings ask. `prepare_payoff` makes this one and those of other metrics.

    Args:
        settings: metric, scale and references; the defaults are BLEU's.
        eos_id: the token that ends a sequence.
        unknown_id: the token of unknown words, which matches nothing unless the settings say so; None where there is none.
        frequencies: cider: the document frequencies, on the device of the hypotheses.
        full_score: cider: the CIDEr-D that counts as 1.
    """

    def __init__(
        self,
        settings: PayoffSettings | None = None,
        *,
        eos_id: int,
        unknown_id: int | None,
        frequencies: DocumentFrequencies | None = None,
        full_score: float = COPY,
    ) -> None:
        self.settings = settings or PayoffSettings()
        if not self.settings.is_native:
            raise ValueError(
                f"payoff.metric {self.settings.metric} has no kernel: make the payoff by prepare_payoff"
            )
        if (self.settings.metric == "cider") != (frequencies is not None):
            raise ValueError("frequencies must be given where payoff.metric is cider, and nowhere else")
        self.eos_id = eos_id
        self.unmatched_id = _unmatched(self.settings, unknown_id)
        self.frequencies, self.full_score = frequencies, full_score

    @property
    def pays_at_end(self) -> bool:
        """Whether some of it is paid at the end token, which sequences must then have."""
        return self.settings.rewards == "end"

    @property
    def objects(self) -> tuple[UserObject, ...]:
        """What the user brought."""
        return ()

    def close(self) -> None:
        """End workers, where there are any."""

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
            `[B, K, T]`, 0 at the end token and behind the length. With `payoff.rewards: end` all of it is at the last token
            within the length, the end token where there is one.
        """
        rewards = self._prefix_rewards(
            hypotheses,
            references,
            hypothesis_lengths=hypothesis_lengths,
            reference_lengths=reference_lengths,
            scaled=scaled,
            dtype=dtype,
        )
        if self.settings.rewards != "end":
            return rewards
        last = (hypothesis_lengths - 1).clamp(min=0)[..., None]
        return torch.zeros_like(rewards).scatter_(-1, last, rewards.sum(-1, keepdim=True))

    def _prefix_rewards(
        self,
        hypotheses: Tensor,
        references: Tensor,
        *,
        hypothesis_lengths: Tensor,
        reference_lengths: Tensor,
        scaled: bool,
        dtype: torch.dtype,
    ) -> Tensor:
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

    def completions(
        self,
        hypotheses: Tensor,
        references: Tensor,
        *,
        hypothesis_lengths: Tensor,
        reference_lengths: Tensor,
        vocabulary: int,
        special_ids: Sequence[int],
    ) -> BleuCompletions:
        """What each next token is worth where a suffix of a reference follows it; BLEU alone has such values.

        Args:
            hypotheses, references, reference_lengths: as in `rewards`.
            hypothesis_lengths: tokens with the end, `[B, K]`.
            vocabulary: V.
            special_ids: tokens that are never produced.
        """
        own = self.settings
        check_completions(own)
        if own.references == "one":
            references, reference_lengths = references[:, :1], reference_lengths[:, :1]
        return bleu_completions(
            hypotheses,
            references,
            vocabulary=vocabulary,
            eos_id=self.eos_id,
            hypothesis_lengths=hypothesis_lengths,
            reference_lengths=reference_lengths,
            special_ids=special_ids,
            max_order=own.max_order,
            smoothing=own.smoothing,
            unmatched_id=self.unmatched_id,
            scale=own.scale,
        )

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
            with replacing(path) as temporary:
                self.frequencies.save(temporary)

    def describe(self) -> str:
        """The payoff in words."""
        facts = ""
        if self.frequencies is not None:
            facts = (
                f", frequencies of {self.frequencies.documents:,} documents, full score {self.full_score:.3g}"
            )
        return describe_payoff(self.settings) + facts


def check_completions(settings: PayoffSettings) -> None:
    """Raises ValueError where the payoff has no completion values."""
    if settings.metric != "bleu":
        raise ValueError(f"values of completions are of payoff.metric bleu alone, got {settings.metric}")


def prepare_native(
    settings: PayoffSettings, corpus: Corpus, *, device: torch.device, eos_id: int, unknown_id: int | None
) -> Payoff:
    """The payoff of a metric with a kernel; arguments and errors are those of `prepare_payoff`."""
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


def _unmatched(settings: PayoffSettings, unknown_id: int | None) -> int | None:
    return None if settings.unknown_matches else unknown_id
