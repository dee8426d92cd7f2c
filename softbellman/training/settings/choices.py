"""Settings that another setting leaves without effect: `unread_settings` names those that were given all the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from softbellman.config import flatten, within
from softbellman.training.settings.actor_critic import CreditSettings, WarmUpSettings
from softbellman.training.settings.augmented import (
    AugmentedStageSettings,
    CompletionStageSettings,
    OracleStageSettings,
)
from softbellman.training.settings.common import EditSettings, OptimizerSettings
from softbellman.training.settings.consistency import ConsistencyStageSettings
from softbellman.training.settings.sequence_level import SequenceStageSettings
from softbellman.training.settings.task import unread_data

if TYPE_CHECKING:
    from softbellman.training.settings import Settings


class _Choice(NamedTuple):
    """Keys of a section that count with some values of another key there alone.

    Attributes:
        keys: names of the keys; one that is a section stands for all within.
        by: the key that decides.
        read: whether they count with its value.
    """

    keys: tuple[str, ...]
    by: str
    read: Callable[[Any], bool]


def _is(*values: Any) -> Callable[[Any], bool]:
    return lambda value: value in values


_CHOICES: dict[type, tuple[_Choice, ...]] = {
    OptimizerSettings: (_Choice(("beta1",), "name", _is("adam", "adamw")),),
    EditSettings: (
        _Choice(("max_order",), "proposal", _is("ngram")),
        _Choice(("rate",), "proposal", _is("corrupt")),
        _Choice(("temperature", "max_distance"), "proposal", _is("hamming", "edit")),
    ),
    WarmUpSettings: (_Choice(("edits",), "target", _is("completion")),),
    OracleStageSettings: (
        _Choice(("attention", "dropout", "edits", "bootstrap_after_end", "optimizer"), "kind", _is("learnt")),
    ),
    AugmentedStageSettings: (_Choice(("mixing",), "oracle_share", lambda share: 0 < share < 1),),
    CompletionStageSettings: (
        _Choice(("samples", "extra_length"), "states", _is("samples")),
        _Choice(("edits",), "states", _is("edits")),
    ),
    SequenceStageSettings: (_Choice(("baseline_optimizer",), "baseline", _is("learnt")),),
    ConsistencyStageSettings: (_Choice(("value_optimizer",), "value", _is("separate")),),
    CreditSettings: (_Choice(("reference_tau",), "reference_weight", bool),),
}
"""By the class of a section. What is refused elsewhere, or is of some algorithms alone, is not here."""


def unread_settings(settings: Settings, uses: Callable[[str], bool]) -> list[str]:
    """Sentences about settings that are given and change nothing, since another setting leaves them unread.

    They are no errors: a configuration file that is changed on the command line may have them.

    Args:
        settings: of a run.
        uses: whether a setting, by its dotted name, plays a part in the run's algorithm.

    Example:
        >>> from softbellman.training.settings import EditSettings, AugmentedStageSettings, Settings
        >>> edited = AugmentedStageSettings(edits=EditSettings(proposal="ngram", rate=0.5))
        >>> unread_settings(Settings(augmented=edited), lambda key: True)
        ['augmented.edits.rate is not read with augmented.edits.proposal: ngram']
    """
    given, usual = flatten(settings), flatten(type(settings)())
    found = unread_data(settings.data)
    for name, section in _sections(settings, ""):
        for choice in _CHOICES.get(type(section), ()):
            if choice.read(value := getattr(section, choice.by)):
                continue
            keys = [f"{name}.{key}" for key in choice.keys]
            found += [
                f"{key} is not read with {name}.{choice.by}: {value}"
                for key in given
                if within(key, keys) and given[key] != usual.get(key, given[key]) and uses(key)
            ]
    return found


def _sections(settings: Any, prefix: str) -> list[tuple[str, Any]]:
    """All dataclasses within one, by their dotted names."""
    found = []
    for one in fields(settings):
        value = getattr(settings, one.name)
        if is_dataclass(value):
            name = f"{prefix}{one.name}"
            found += [(name, value), *_sections(value, f"{name}.")]
    return found
