"""The payoff R of a run, Eq. (4) and (13): one of the kernels' metrics, sacrebleu's, the user's own, or a sum of several.

Notation: B sources, K hypotheses per source, R references per source, T and L padded lengths.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softbellman.core.objects import UserObject, load_object, place_of
from softbellman.payoffs.native import COPY, Corpus, Payoff, check_completions, prepare_native
from softbellman.payoffs.scored import Decode, ScoredTerm
from softbellman.payoffs.scorers import Scorer
from softbellman.payoffs.settings import NATIVE, SUM, TEXT, PayoffSettings, describe_payoff
from softbellman.payoffs.text_scores import chrf_scores, ter_scores

__all__ = [
    "COPY",
    "CombinedPayoff",
    "Payoff",
    "PayoffSettings",
    "check_completions",
    "describe_payoff",
    "prepare_payoff",
]


class CombinedPayoff(Payoff):
    """A weighted sum of payoffs, of kernels and of functions of Python.

    Args:
        settings: of the sum, or of its only term.
        terms: payoffs or scored terms, with their weights.
        eos_id: the token that ends a sequence.
    """

    def __init__(
        self, settings: PayoffSettings, terms: Sequence[tuple[float, Payoff | ScoredTerm]], *, eos_id: int
    ) -> None:
        self.settings, self.eos_id, self._terms = settings, eos_id, terms
        self._native = [term for _, term in terms if isinstance(term, Payoff)]
        self._scored = [term for _, term in terms if isinstance(term, ScoredTerm)]

    @property
    def pays_at_end(self) -> bool:
        """Whether some of it is paid at the end token."""
        return any(term.pays_at_end for term in self._native) or any(term.at_end for term in self._scored)

    @property
    def objects(self) -> tuple[UserObject, ...]:
        """What the user brought."""
        return tuple(term.origin for term in self._scored if term.origin is not None)

    def close(self) -> None:
        """End the workers."""
        for term in self._scored:
            term.close()

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
        """As `Payoff.rewards`; each term pays by prefixes or at the end."""
        if self.settings.references == "one":
            references, reference_lengths = references[:, :1], reference_lengths[:, :1]
        total = torch.zeros(hypotheses.shape, dtype=torch.float64, device=hypotheses.device)
        given: dict[str, Any] = {
            "hypothesis_lengths": hypothesis_lengths,
            "reference_lengths": reference_lengths,
        }
        for weight, term in self._terms:
            if isinstance(term, Payoff):
                found = term.rewards(hypotheses, references, **given, scaled=False, dtype=torch.float64)
            else:
                found = term.rewards(hypotheses, references, **given)
            total.add_(found, alpha=weight)
        if scaled and self.settings.scale == "reference_length":
            present = (reference_lengths > 0).sum(1).clamp(min=1)
            total *= (reference_lengths.sum(1) / present.double())[:, None, None]
        return total.to(dtype)

    def digest(self) -> str:
        """Hash of what the terms know beside the settings, of files, versions and frequencies."""
        parts = [term.digest() for term in self._native]
        parts += [repr((found.digest, found.version)) for found in self.objects]
        return hashlib.sha256(repr(parts).encode()).hexdigest() if any(parts) else ""

    def save(self, path: Path) -> None:
        """Write the document frequencies, where a term has some."""
        for term in self._native:
            term.save(path)

    def describe(self) -> str:
        """The payoff in words."""
        facts = [describe_payoff(self.settings)]
        facts += [f"{found.name} of {found.path}" for found in self.objects if found.path]
        return ", ".join(facts)


def prepare_payoff(
    settings: PayoffSettings,
    corpus: Corpus,
    *,
    device: torch.device,
    eos_id: int,
    unknown_id: int | None,
    decode: Decode | None = None,
    given: UserObject | None = None,
    recorded: Sequence[dict[str, str]] = (),
) -> Payoff:
    """The payoff of a run; where CIDEr-D is in it with the document frequencies of the run's training references.

    A document is one source with all its references, also where the payoff compares with one of them.

    Args:
        settings: of the payoff.
        corpus: the references of the training corpus.
        device: where hypotheses will be scored.
        eos_id, unknown_id: as in `Payoff`.
        decode: token ids to text, for metrics that read texts.
        given: what was handed over in Python, `settings.metric` by name.
        recorded: facts of a run's objects, which say where their files were.

    Raises:
        ValueError: all n-grams weigh 0, as with one training source alone; a name that leads nowhere; no `decode` where texts
            are read.
        UserCodeError: a user's module raised.
    """
    common: dict[str, Any] = {"device": device, "eos_id": eos_id, "unknown_id": unknown_id}
    if settings.is_native:
        return prepare_native(settings, corpus, **common)
    terms: list[tuple[float, Payoff | ScoredTerm]] = []
    for metric, weight in settings.parts():
        if metric in NATIVE:
            terms.append((weight, prepare_native(settings.of_term(metric), corpus, **common)))
            continue
        found, function = None, _TEXT_SCORES.get(metric)
        if function is None:
            key = "payoff.terms" if settings.metric == SUM else "payoff.metric"
            found = given if given is not None and given.name == metric else None
            found = found or load_object(metric, key=key, place=place_of(recorded, metric))
            function = found.value
        term = ScoredTerm(
            Scorer(function, metric),
            settings.scoring(),
            at_end=settings.rewards == "end",
            eos_id=eos_id,
            decode=decode,
            unknown_matches=settings.unknown_matches or metric not in TEXT,
            origin=found,
        )
        terms.append((weight, term))
    return CombinedPayoff(settings, terms, eos_id=eos_id)


_TEXT_SCORES: dict[str, Callable[..., list[float]]] = {"chrf": chrf_scores, "ter": ter_scores}
