"""Presets, algorithms, and a help text for every key."""

from __future__ import annotations

import pytest

from softbellman import config
from softbellman.cli.settings import load_settings
from softbellman.training.algorithms import ALGORITHMS
from softbellman.training.settings import PRESETS, Settings, follow_data


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
    assert ALGORITHMS["erac"].settle(settings) == follow_data(settings)


def test_a_prior_needs_a_temperature_and_the_exact_entropy():
    with pytest.raises(ValueError, match=r"credit\.prior is start, but credit\.tau is 0"):
        load(credit__prior="start", credit__tau="0")
    with pytest.raises(ValueError, match=r"credit\.prior is start, but credit\.actor_entropy is normalized"):
        load(preset="published", credit__prior="start")
    load(preset="published", credit__prior="start", credit__actor_entropy="exact")
    settled = ALGORITHMS["ac"].settle(load(algorithm="ac", credit__prior="start"))
    assert settled.credit.tau == 0.0 and settled.credit.prior == "none"


@pytest.mark.parametrize("key", ["credit.trace", "joint.average"])
def test_shares_out_of_range_are_refused_by_name(key):
    for value in ("-0.1", "1.01", ".nan"):
        with pytest.raises(config.ConfigError, match=f"'{key}' must be"):
            load(**{key.replace(".", "__"): value})


def test_every_key_is_explained():
    for key in config.describe(Settings):
        assert key.help, key


def test_the_tokeniser_of_scores_follows_that_of_the_data():
    def tokenize(**overrides: str) -> str:
        settled = ALGORITHMS["mle"].settle(load(**overrides))
        assert follow_data(settled) == settled
        return settled.evaluation.tokenize

    assert load().evaluation.tokenize == "auto"
    assert tokenize() == "none"
    assert tokenize(data__tokenizer="sentencepiece") == "13a"
    assert tokenize(data__tokenizer="sentencepiece", evaluation__tokenize="none") == "none"
    assert tokenize(evaluation__tokenize="13a") == "13a"
    asked = [("data.tokenizer", "sentencepiece"), ("evaluation.tokenize", "auto")]
    assert load_settings([], asked).evaluation.tokenize == "auto"  # printed and changed it follows still


def test_subwords_are_for_translation():
    for kind in ("scenes", "captions"):
        with pytest.raises(ValueError, match=f"data.tokenizer must be word for {kind}"):
            load(data__kind=kind, data__tokenizer="sentencepiece")
    load(data__kind="builtin", data__tokenizer="sentencepiece")
