"""What a report says in words and numbers, whatever page it stands on: verdicts, scores, the method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from softbellman.experiments.contrasts import Contrast
from softbellman.experiments.orderings import Step, judge, sentence, show_interval, show_p
from softbellman.experiments.resampling import MAIN_METRICS, RESAMPLED, Difference
from softbellman.experiments.study import Section, Spread, spread
from softbellman.experiments.tuning import Tuning
from softbellman.report.results import title as metric_title

METHOD = (
    "Differences are paired: a run is compared with its own start, else with the run of the same seed. Intervals are of the "
    "paired bootstrap over the sentences of the test set, p is of two-sided approximate randomization. Both draw the same "
    "sentences for all runs. The interval for new runs adds the spread over the starts by Student's t: it says what another "
    "training would give. An ordering holds where that interval lies above 0. It holds for these runs where only the interval "
    "over sentences does, and is not decided where that one contains 0."
)


def verdicts(steps: Mapping[Step, Contrast]) -> Iterator[tuple[str, str]]:
    """The verdict on each step of an ordering by each main metric, and its sentence."""
    for step, contrast in steps.items():
        for metric in MAIN_METRICS:
            test = contrast.tests.get(metric)
            if test is None:
                continue
            better = RESAMPLED[metric].better
            verdict = judge(test, better=better)
            text = sentence(step, test, metric=short_title(metric), runs=len(contrast.pairs), better=better)
            yield verdict, text


def short_title(metric: str) -> str:
    """The title of a tested metric, as BLEU."""
    return metric_title(f"test_{metric}").removeprefix("test ")


def scores(section: Section) -> tuple[list[str], list[list[object]]]:
    """Header and rows, the first two columns text: runs, BLEU with its spread, the difference to the baseline, others."""
    others = [name for name in section.metrics if name != "test_bleu"]
    header = ["system", "baseline", "runs", "test BLEU", "min", "max", "difference", "95 % interval", "p"]
    rows: list[list[object]] = []
    for group in section.groups:
        found = spread(group.values("test_bleu").values())
        contrast = section.baselines.get(group.name)
        test = contrast.tests.get("bleu") if contrast else None
        rows.append([
            group.name,
            contrast.baseline if contrast else None,
            len(group.results),
            show_spread(found),
            f"{found.least:.2f}" if found else None,
            f"{found.most:.2f}" if found else None,
            *show_test(test.pooled if test else None),
            *(show_spread(spread(group.values(name).values())) for name in others),
        ])  # fmt: skip
    return [*header, *map(metric_title, others)], rows


def choices(tuning: Tuning) -> tuple[list[str], list[list[object]]]:
    """Header and rows, the first two columns text: what was chosen for each system, out of how many."""
    header = ["system", "chosen", "trials", f"validation {_judged_by(tuning)}", "of the worst"]
    rows: list[list[object]] = [
        [
            choice.condition,
            ", ".join(choice.best.set),
            len(choice.trials),
            f"{choice.best.mean:.2f}",
            f"{choice.worst.mean:.2f}",
        ]
        for choice in tuning.choices
    ]
    return header, rows


def trials(tuning: Tuning) -> tuple[list[str], list[list[object]]]:
    """Header and rows, the first two columns text: every trial with its validation scores."""
    header = ["system", "tried", *(f"seed {seed}" for seed in tuning.seeds), "mean", "chosen"]
    rows: list[list[object]] = [
        [
            choice.condition,
            ", ".join(trial.set),
            *(f"{score:.2f}" for score in trial.scores),
            f"{trial.mean:.2f}",
            "yes" if trial is choice.best else "",
        ]
        for choice in tuning.choices
        for trial in choice.trials
    ]
    return header, rows


def chosen_on(tuning: Tuning) -> str:
    """How the settings were chosen, in a sentence or two."""
    seeds = ", ".join(map(str, tuning.seeds))
    noun = "seed" if len(tuning.seeds) == 1 else "seeds"
    counts = {len(choice.trials) for choice in tuning.choices}
    each = f"{counts.pop()} trials each" if len(counts) == 1 else "unequal numbers of trials"
    return f"Settings were chosen by validation {_judged_by(tuning)} on {noun} {seeds}, whose runs are not among these: {each}."


def _judged_by(tuning: Tuning) -> str:
    """The titles of the metrics that decided, as BLEU."""
    return " or ".join(dict.fromkeys(short_title(choice.by) for choice in tuning.choices))


def show_spread(found: Spread | None) -> str | None:
    """`61.30 ± 0.43`; a single number has no deviation."""
    if found is None:
        return None
    return (
        f"{found.mean:.2f}" if found.deviation is None else f"{found.mean:.2f} \u00b1 {found.deviation:.2f}"
    )


def show_test(found: Difference | None) -> tuple[object, object, object]:
    """Difference, interval and p as text."""
    if found is None:
        return None, None, None
    return f"{found.difference:+.2f}", show_interval(found.interval), show_p(found.p)
