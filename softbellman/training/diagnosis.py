"""Normal or broken: what the records of a stage say of its health.

`observe` turns the records of metrics.jsonl into measures of a stage at a validation: levels, changes since its start, and
distances from chance in standard errors. `diagnose` applies the rules of `training/rules.py` to the last validation, and says
in one sentence what was found and what to change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from softbellman.training.health import CANDIDATES, RANKED_STATES
from softbellman.training.rules import MEASURES, RULES, Observations
from softbellman.training.runfolder import Record, RunFolder
from softbellman.training.stages import SPECS
from softbellman.training.stages.spec import StageSpec
from softbellman.training.vitals import QUARTERS


class Finding(NamedTuple):
    """A rule that holds: its name, what is wrong, what to change, and the update since which all validations say so."""

    rule: str
    finding: str
    change: str
    since: int


@dataclass(frozen=True)
class Diagnosis:
    """The health of one stage at its last validation.

    Attributes:
        stage, step: where.
        findings: rules that hold, causes first; none: normal.
        seen: the measures.
        selected: the update whose weights are selected; None where it is not known.
    """

    stage: str
    step: int
    findings: tuple[Finding, ...]
    seen: Observations
    selected: int | None = None

    @property
    def verdict(self) -> Literal["normal", "broken"]:
        """Whether any rule holds."""
        return "broken" if self.findings else "normal"

    def sentence(self) -> str:
        """Normal or broken, and what to change."""
        if not self.findings:
            return f"normal: {', '.join(_facts(self.seen)) or 'no sign of trouble in what was measured'}"
        first, *others = self.findings
        more = f" (and {', '.join(finding.rule for finding in others)})" if others else ""
        spared = self.selected is not None and self.selected < min(found.since for found in self.findings)
        aside = f"; the selected weights, of update {self.selected}, are from before" if spared else ""
        return f"broken: {first.finding}{more}; {first.change}{aside}"

    def line(self, *, final: bool = True) -> str:
        """The sentence with its stage; while the stage goes on, with the update."""
        place = self.stage if final else f"{self.stage} at update {self.step}"
        return f"health of {place}: {self.sentence()}"

    def as_record(self) -> dict[str, Any]:
        """As plain values for JSON: every measure with its unit."""
        return {
            "stage": self.stage,
            "step": self.step,
            "verdict": self.verdict,
            "sentence": self.sentence(),
            "findings": [finding._asdict() for finding in self.findings],
            "measures": {
                name: {"value": self.seen[name], "unit": measure.unit}
                for name, measure in MEASURES.items()
                if name in self.seen
            },
            "selected": self.selected,
        }


def diagnose(
    records: Sequence[Record], stage: str | StageSpec, *, selected: int | None = None
) -> Diagnosis | None:
    """The health of a stage at its last validation; None where there was none.

    Args:
        records: of metrics.jsonl, in order, also those of the stages before.
        stage: its name in the package, or its description.
        selected: the update whose weights are selected, if known.

    Example:
        >>> validated = {"kind": "dev", "stage": "joint"}
        >>> records = [validated | {"step": 0, "dev_entropy": 2.0}, validated | {"step": 9, "dev_entropy": 4.0}]
        >>> diagnose(records, "joint").findings[0].rule
        'entropy runaway'
    """
    called, spec = _known(stage)
    places = [
        number
        for number, record in enumerate(records)
        if record.get("stage") == called and record.get("kind") == "dev"
    ]
    if not places:
        return None
    seen = [observe(records[: place + 1], stage) for place in places]
    steps = [int(records[place].get("step") or 0) for place in places]
    held = [rule for rule in RULES if rule.applies(spec) and rule.holds(seen[-1])]
    covered = {name for rule in held for name in rule.covers}
    findings = []
    for rule in held:
        if rule.name in covered:
            continue
        first = next(place for place in range(len(seen)) if all(rule.holds(later) for later in seen[place:]))
        findings.append(Finding(rule.name, rule.finding.format(**seen[-1]), rule.remedy(spec), steps[first]))
    return Diagnosis(called, steps[-1], tuple(findings), seen[-1], selected)


def diagnose_run(folder: RunFolder, stages: Iterable[str | StageSpec]) -> list[Diagnosis]:
    """The health of the stages of a run that were validated, in order."""
    records, found = folder.read_metrics(), []
    for stage in stages:
        newest = folder.newest_checkpoint(_known(stage)[0])
        selected = None if newest is None or newest.best_step < 0 else newest.best_step
        diagnosis = diagnose(records, stage, selected=selected)
        if diagnosis is not None:
            found.append(diagnosis)
    return found


def observe(records: Sequence[Record], stage: str | StageSpec) -> Observations:
    """The measures of a stage at the last of these records, by the names of `MEASURES`; empty before a validation."""
    called, spec = _known(stage)
    dev = [record for record in records if record.get("kind") == "dev"]
    own = [record for record in dev if record.get("stage") == called]
    if not own:
        return {}
    last, earlier = own[-1], dev[: dev.index(own[0])]
    found: dict[str, float | None] = {name: _number(last, metric) for name, metric in _LOGGED.items()}
    # A joint stage that does not validate its start goes on with the actor of the stages before.
    goes_on = spec is not None and spec.has("moving policy") and (_number(own[0], "step") or 0.0) > 0
    for name, metric in _OF_ACTOR.items():
        before = [*reversed(earlier)] if goes_on and name in _ALIKE else []
        found |= _change(name, found[name], _first([*before, *own], metric))
    for name in ("td_error", "oracle_bleu"):
        found |= _change(name, found[name], _first(own, _LOGGED[name]))
    found |= _significance(last)
    found |= _shares(last)
    found["front_residual"] = _over(found["td_error_q1"], found[f"td_error_q{QUARTERS}"])
    found |= _of_updates(records, called)
    known = {name: found.get(name) for name in MEASURES}
    return {name: value for name, value in known.items() if value is not None and math.isfinite(value)}


def _known(stage: str | StageSpec) -> tuple[str, StageSpec | None]:
    """The name of a stage, and what is known of it."""
    return (stage, SPECS.get(stage)) if isinstance(stage, str) else (stage.name, stage)


_LOGGED = {
    "bleu": "dev_bleu",
    "length_ratio": "dev_length_ratio",
    "sample_length_ratio": "dev_sample_length_ratio",
    "unended": "dev_unended",
    "rank_correlation": "rank_correlation",
    "choice_gain": "choice_gain",
    "possible_choice_gain": "possible_choice_gain",
    "td_error": "dev_td_error",
    **{f"td_error_q{part}": f"dev_td_error_q{part}" for part in range(1, QUARTERS + 1)},
    "entropy": "dev_entropy",
    "oracle_bleu": "oracle_bleu",
}
"""Measures that a validation logs as they are, by their names in metrics.jsonl."""

_OF_ACTOR = {
    "bleu": "dev_bleu",
    "length_ratio": "dev_length_ratio",
    "unended": "dev_unended",
    "entropy": "dev_entropy",
}
"""Measures of the actor whose change counts."""

_ALIKE = ("bleu", "length_ratio", "entropy")
"""Those that other stages measure alike; how long a sample may grow is a stage's own."""

_RISES = {"length_ratio": "length_rise", "unended": "unended_rise"}
"""Those whose change is a difference; of the others it is a ratio."""


def _number(record: Record, name: str) -> float | None:
    value = record.get(name)
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _first(records: Iterable[Record], name: str) -> float | None:
    return next((value for record in records if (value := _number(record, name)) is not None), None)


def _over(value: float | None, divisor: float | None) -> float | None:
    return None if value is None or not divisor else value / divisor


def _change(name: str, value: float | None, start: float | None) -> dict[str, float | None]:
    if name not in _RISES:
        return {f"{name}_ratio": _over(value, start)}
    return {_RISES[name]: None if value is None or start is None else value - start}


def _significance(last: Record) -> dict[str, float | None]:
    """Rank correlation and choice gain in standard errors.

    Of C tokens in random order the correlation of one state has the variance 1 / (C - 1), whatever the ties.
    """
    correlation, states = _number(last, "rank_correlation"), _number(last, "ranked_states")
    scale = math.sqrt((CANDIDATES - 1) * (RANKED_STATES if states is None else states))
    return {
        "rank_errors": None if correlation is None else correlation * scale,
        "choice_gain_errors": _over(_number(last, "choice_gain"), _number(last, "choice_gain_error")),
    }


def _shares(last: Record) -> dict[str, float | None]:
    """Of the sum of the terms' gradient norms. What the returns correct counts with the values, where it has a weight."""
    if (payoff := _number(last, "gradient_payoff")) is not None:
        likelihood = _number(last, "gradient_likelihood")
        whole = None if likelihood is None else payoff + likelihood
        return {"payoff_share": _over(payoff, whole), "likelihood_share": _over(likelihood, whole)}
    norms = {term: _number(last, f"gradient_{term}") for term in ("value", "entropy", "likelihood")}
    if norms["value"] is not None:
        norms["value"] += _number(last, "gradient_returns") or 0.0
    total = None if None in norms.values() else sum(norm or 0.0 for norm in norms.values())
    return {
        **{f"{term}_share": _over(norm, total) for term, norm in norms.items()},
        "entropy_pull": _over(norms["entropy"], norms["value"]),
    }


def _of_updates(records: Sequence[Record], stage: str) -> dict[str, float | None]:
    """What the updates since the validation before say."""
    train = [record for record in records if record.get("kind") == "train" and record.get("stage") == stage]
    if not train:
        return {}
    before = (_number(train[-2], "step") if len(train) > 1 else None) or 0.0
    updates = (_number(train[-1], "step") or 0.0) - before
    return {
        "effective_samples": _number(train[-1], "effective_samples"),
        "skipped_share": _over(_number(train[-1], "skipped_updates") or 0.0, updates),
    }


_FACTS = {
    "bleu": "BLEU {bleu:.2f}",
    "oracle_bleu": "BLEU of the oracle {oracle_bleu:.2f}",
    "rank_errors": "rank correlation {rank_correlation:.2f} ({rank_errors:.0f} standard errors above chance)",
    "entropy_ratio": "entropy {entropy:.2f} nats ({entropy_ratio:.2f} of the start)",
    "length_ratio": "length ratio {length_ratio:.2f}",
    "effective_samples": "{effective_samples:.2f} effective samples",
}
"""What a normal stage is described by, where it was measured."""


def _facts(seen: Observations) -> list[str]:
    return [text.format(**seen) for name, text in _FACTS.items() if name in seen]
