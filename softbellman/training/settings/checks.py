"""Rules between sections of the settings: a key that nothing would read is refused, and so is what cannot be done."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from softbellman.config.text import LONGEST_SHOWN, shortened
from softbellman.training.settings.model import unread_keys

if TYPE_CHECKING:
    from softbellman.training.settings import Settings


def check_model(settings: Settings) -> None:
    """Raises ValueError where keys belong to another kind of model; names all of them."""
    kind = settings.model.kind
    unread = {
        key: value for key in unread_keys(kind) if (value := _value(settings, key)) != _usual(settings, key)
    }
    if unread:
        words = ", ".join(f"{key} ({_words(value)})" for key, value in unread.items())
        raise ValueError(
            f"model.kind {_words(kind)} does not read {words}: leave {'it' if len(unread) == 1 else 'them'} out, or "
            "say another model.kind"
        )
    if settings.precision == "bfloat16" and settings.model.bfloat16_products != "none":
        raise ValueError(
            "model.bfloat16_products must be none with precision: bfloat16, which rounds all products, got "
            f"{settings.model.bfloat16_products}"
        )
    if kind == "hf" and settings.data.tokenizer != "hf":
        raise ValueError(
            f"data.tokenizer must be hf with model.kind hf, whose ids are those of its tokenizer, got {settings.data.tokenizer}"
        )


def _words(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_SHOWN else shortened(text)


def _value(settings: Any, key: str) -> Any:
    for part in key.split("."):
        settings = getattr(settings, part)
    return settings


def _usual(settings: Any, key: str) -> Any:
    """The default of a key."""
    *sections, name = key.split(".")
    section = _value(settings, ".".join(sections)) if sections else settings
    usual = next(one for one in fields(section) if one.name == name)
    return usual.default if usual.default_factory is MISSING else usual.default_factory()


def check_schedules(settings: Settings) -> None:
    """Raises ValueError where a schedule without a plateau has a decay of its own."""
    for one in fields(settings):
        section = getattr(settings, one.name)
        if hasattr(section, "schedule"):
            check_schedule(one.name, section)


def check_schedule(name: str, section: Any) -> None:
    """The same of one section of settings with a schedule."""
    schedule = section.schedule
    if schedule.kind == "plateau":
        return
    default = type(section)().schedule
    for key in ("decay", "max_decays"):
        value, usual = getattr(schedule, key), getattr(default, key)
        if value != usual:
            raise ValueError(
                f"{name}.schedule.{key} is of kind plateau alone, got {value} with {schedule.kind}; leave it at {usual}"
            )


def check_accumulation(settings: Settings) -> None:
    """Raises ValueError where the parts of a batch would not add up to it."""
    if settings.joint.schedule.accumulate > 1 and not settings.credit.mask_padding:
        raise ValueError(
            "joint.schedule.accumulate must be 1 with credit.mask_padding: false, whose loss depends on the longest sequence "
            f"of the whole batch, got {settings.joint.schedule.accumulate}"
        )
