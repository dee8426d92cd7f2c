"""Presets, algorithms, and a help text for every key."""

from __future__ import annotations

from softbellman import config
from softbellman.training.algorithms import ALGORITHMS
from softbellman.training.settings import PRESETS, Settings


def load(**overrides: str) -> Settings:
    pairs = [(key.replace("__", "."), value) for key, value in overrides.items()]
    return config.load(Settings, overrides=pairs, presets={"preset": PRESETS})


def test_the_published_preset_switches_every_row():
    paper, published = load(), load(preset="published")
    for key, text in PRESETS["published"].items():
        section, name = key.split(".")
        value = getattr(getattr(published, section), name)
        assert str(value).lower() == text
        assert getattr(getattr(paper, section), name) != value


def test_a_single_key_wins_over_the_preset():
    settings = load(preset="published", credit__actor_entropy="exact")
    assert settings.credit.actor_entropy == "exact"
    assert settings.payoff.smoothing == "add-one-all"


def test_ac_is_erac_at_temperature_zero():
    settings = load(algorithm="ac")
    assert ALGORITHMS["ac"].settle(settings).credit.tau == 0.0
    assert ALGORITHMS["erac"].settle(settings) == settings


def test_every_key_is_explained():
    for key in config.describe(Settings):
        assert key.help, key
