"""The settings of a payoff, its terms, and their words."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple

from softbellman.config.ranges import Range
from softbellman.payoffs.scoring import ScoringOptions

NATIVE = {"bleu": "sentence BLEU", "cider": "CIDEr-D", "rouge_l": "ROUGE-L"}
"""Metrics of this package's kernels, on token ids, and their names."""
TEXT = {"chrf": "chrF2", "ter": "1 - TER"}
"""Metrics of sacrebleu, on decoded texts."""
SUM = "sum"


class Term(NamedTuple):
    """A metric and its weight in a sum."""

    metric: str
    weight: float


@dataclass(frozen=True)
class PayoffSettings:
    """The payoff R of a partial hypothesis: a score of its prefix, Eq. (4) and (13).

    The score lies in [0, 1], and is multiplied by the reference's length where `scale` says so.
    """

    metric: Literal["bleu", "cider", "rouge_l", "chrf", "ter", "sum"] | str = "bleu"
    """The score. `bleu`: sentence BLEU; `cider`: CIDEr-D over what a correct caption scores, with the document frequencies of
    the training references; `rouge_l`: ROUGE-L. `chrf`: chrF2; `ter`: 1 - TER; `sum`: a weighted sum, see `terms`. One of your
    own: MODULE:OBJECT, or FILE.py:OBJECT with a path from the working directory (docs/payoffs.md)."""
    terms: tuple[str, ...] = ()
    """sum: its terms, METRIC=WEIGHT, such as `[bleu=0.7, ./my.py:f=0.3]`."""
    max_order: int = 4
    """bleu and cider: longest n-gram."""
    smoothing: Literal["none", "floor", "add-k", "exp", "add-one-all", "add-k-length"] = "add-k"
    """bleu: smoothing of the n-gram precisions; `add-one-all` is the published code's. `add-k-length` adds one to the length
    of the reference, too: without it smoothed BLEU wants sentences that are too short (docs/payoffs.md)."""
    sigma: float = 6.0
    """cider: width of the length penalty, in tokens; a larger one holds the first tokens down less."""
    beta: float = 1.2
    """rouge_l: weight of the recall against the precision."""
    scale: Literal["reference_length", "none"] = "reference_length"
    """`reference_length`: multiply by the length of the reference, without its end token; `none`: the score itself."""
    rewards: Literal["prefixes", "end"] = "prefixes"
    """When the score is paid. `prefixes`: each token earns what it adds to the score of its prefix, Eq. (13). `end`: all of it
    at the last token; a metric that is slow is then asked once a sequence. One of your own may decide for itself."""
    unknown_matches: bool = False
    """An <unk> in the hypothesis matches an <unk> of the reference (the published code's training payoff)."""
    references: Literal["one", "all"] = "one"
    """Score against the training target alone, or against every reference the corpus has for the source (or image)."""
    reads: Literal["target", "references"] = "target"
    """What the critic and the oracle read: the training target, as published, or, with `references: all`, every reference one
    after another, the target first. A critic that reads one of five captions cannot know what the other four are worth."""
    batch_size: Annotated[int, Range(least=1)] = 256
    """chrf, ter and your own: hypotheses that are scored in one call."""
    workers: Annotated[int, Range(least=0, most=1024)] = 0
    """chrf, ter and your own: workers that score batches at the same time; 0: none, the run itself scores."""
    pool: Literal["processes", "threads"] = "processes"
    """What the workers are. `processes`: each loads the payoff itself, on one thread. `threads`: all share it."""
    cache: Annotated[int, Range(least=0)] = 200_000
    """chrf, ter and your own: scores of hypotheses that are kept, the latest ones."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_order <= 8:
            raise ValueError(f"payoff.max_order must lie between 1 and 8, got {self.max_order}")
        for name, value in (("sigma", self.sigma), ("beta", self.beta)):
            if not 0.0 < value <= 1e6:
                raise ValueError(f"payoff.{name} must be above 0 and at most 1e6, got {value}")
        if self.reads == "references" and self.references == "one":
            raise ValueError(
                "payoff.reads is references, but payoff.references is one; say payoff.references: all, or payoff.reads: target"
            )
        if self.metric == SUM and not self.terms:
            raise ValueError("payoff.metric is sum, but payoff.terms is empty: say [METRIC=WEIGHT, ...]")
        _check_metric("payoff.metric", self.metric, (*NATIVE, *TEXT, SUM))
        self.parts()

    def parts(self) -> tuple[Term, ...]:
        """What is added up; one term of weight 1 where the metric is no sum."""
        if self.metric != SUM:
            return (Term(self.metric, 1.0),)
        return tuple(map(_term, self.terms))

    @property
    def is_native(self) -> bool:
        """Whether kernels alone score."""
        return self.metric in NATIVE

    def of_term(self, metric: str) -> PayoffSettings:
        """The settings of one term of the sum."""
        return replace(self, metric=metric, terms=())

    def scoring(self) -> ScoringOptions:
        """How metrics without a kernel are called."""
        return ScoringOptions(self.batch_size, self.workers, self.pool, self.cache)

    def check_keys(self, preset: Mapping[str, str]) -> None:
        """Raises ValueError where a key of another metric has a value of its own, neither the default nor the preset's."""
        used = {term.metric for term in self.parts()}
        for name, metrics in _OWNERS.items():
            value, default = getattr(self, name), getattr(type(self), name)
            own = str(value) == preset.get(f"payoff.{name}")
            if value == default or own or used & set(metrics):
                continue
            raise ValueError(
                f"payoff.{name} is of payoff.metric {' and '.join(metrics)} alone, got {value} with {self.metric}"
            )
        if self.metric != SUM and self.terms:
            raise ValueError(
                f"payoff.terms is of payoff.metric sum alone, got {list(self.terms)} with {self.metric}"
            )
        for name in WITHOUT_EFFECT:
            value = getattr(self, name)
            if used <= set(NATIVE) and value != getattr(type(self), name):
                raise ValueError(
                    f"payoff.{name} is of chrf, ter and metrics of your own, got {value} with {self.metric}; for one that "
                    "is handed over to run(payoff=...), say payoff.metric: python:NAME"
                )


_OWNERS = {"max_order": ("bleu", "cider"), "smoothing": ("bleu",), "sigma": ("cider",), "beta": ("rouge_l",)}
WITHOUT_EFFECT = ("batch_size", "workers", "pool", "cache")
"""Keys that change no score."""


def deciding(payoff: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a payoff's settings that decide its scores."""
    return {key: value for key, value in payoff.items() if key not in WITHOUT_EFFECT}


def _term(text: str) -> Term:
    metric, _, number = text.rpartition("=")
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not metric or not math.isfinite(weight) or weight == 0:
        raise ValueError(
            f"payoff.terms must be METRIC=WEIGHT with a finite weight other than 0, got {text!r}"
        )
    _check_metric("payoff.terms", metric, (*NATIVE, *TEXT))
    return Term(metric, weight)


def _check_metric(key: str, metric: str, known: tuple[str, ...]) -> None:
    if metric in known or ":" in metric:
        return
    near = difflib.get_close_matches(metric, known, n=1, cutoff=0.0)[0]
    raise ValueError(
        f"{key} must be one of {', '.join(known)}, MODULE:OBJECT or FILE.py:OBJECT, got {metric!r}; nearest: {near!r}"
    )


def describe_payoff(settings: PayoffSettings) -> str:
    """The settings of a payoff in words."""
    names = {**NATIVE, **TEXT}
    words = [
        names.get(term.metric, term.metric) if settings.metric != SUM else
        f"{term.weight:g} {names.get(term.metric, term.metric)}"
        for term in settings.parts()
    ]  # fmt: skip
    against = "all references" if settings.references == "all" else "one reference"
    unit = " times the reference length" if settings.scale == "reference_length" else ""
    paid = ", paid at the end" if settings.rewards == "end" else ""
    return f"{' + '.join(words)} against {against}{unit}{paid}"
