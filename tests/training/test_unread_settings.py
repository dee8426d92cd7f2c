"""Settings that change nothing in a run are refused where they are typed, and named where they were written."""

from __future__ import annotations

from pathlib import Path

import pytest

from softbellman.cli.settings import load_settings
from softbellman.config import ConfigError
from softbellman.training.algorithms import ALGORITHMS
from softbellman.training.own_algorithm import algorithm_of
from softbellman.training.settings import unread_settings

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_setting_of_a_shipped_file_counts(config: Path) -> None:
    settings = load_settings([config], [])
    assert unread_settings(settings, algorithm_of(settings).uses) == []


@pytest.mark.parametrize(
    ("algorithm", "key", "used"),
    [
        ("rloo", "credit.tau", False),
        ("rloo", "credit.sampling_dropout", True),
        ("scst", "sequence.alpha", False),
        ("scst", "sequence.baseline_optimizer.learning_rate", False),
        ("reinforce", "sequence.baseline_optimizer.learning_rate", True),
        ("reinforce", "sequence.mixer_updates", False),
        ("mixer", "sequence.mixer_updates", True),
        ("mrt", "sequence.alpha", True),
        ("mrt", "sequence.baseline", False),
        ("raml", "augmented.tau", True),
        ("raml", "augmented.oracle_share", False),
        ("vaml", "augmented.tau", False),
        ("vaml", "augmented.oracle_share", True),
        ("pcl", "credit.tau", True),
        ("pcl", "credit.trace", False),
        ("pcl", "critic.dropout", True),
        ("pcl", "critic.samples", False),
        ("ocd", "credit.forbid_special", True),
        ("ocd", "credit.sampling_dropout", False),
        ("scheduled", "credit.tau", False),
        ("erac", "credit.trace", True),
    ],
)
def test_an_algorithm_uses_what_its_stages_read(algorithm: str, key: str, used: bool) -> None:
    assert ALGORITHMS[algorithm].uses(key) == used


def test_a_typed_setting_that_the_algorithm_does_not_use_is_refused() -> None:
    for algorithm, key, value in (("rloo", "credit.tau", "0.3"), ("vaml", "augmented.tau", "0.3")):
        with pytest.raises(ConfigError, match=f"--{key}: the algorithm '{algorithm}' does not use it"):
            load_settings([], [("algorithm", algorithm), (key, value)])


@pytest.mark.parametrize(
    ("given", "sentences"),
    [
        (
            {"algorithm": "raml", "augmented.edits.rate": "0.3"},
            ["augmented.edits.rate is not read with augmented.edits.proposal: ngram"],
        ),
        ({"algorithm": "raml", "augmented.edits.rate": "0.3", "augmented.edits.proposal": "corrupt"}, []),
        (
            {"joint.actor_optimizer.name": "sgd", "joint.actor_optimizer.beta1": "0.5"},
            ["joint.actor_optimizer.beta1 is not read with joint.actor_optimizer.name: sgd"],
        ),
        (
            {"algorithm": "reinforce", "sequence.baseline_optimizer.learning_rate": "0.5"},
            ["sequence.baseline_optimizer.learning_rate is not read with sequence.baseline: batch"],
        ),
        (
            {"algorithm": "ocd", "completion.states": "edits", "completion.samples": "7"},
            ["completion.samples is not read with completion.states: edits"],
        ),
        (
            {"credit.reference_tau": "0.2"},
            ["credit.reference_tau is not read with credit.reference_weight: 0.0"],
        ),
        ({"algorithm": "vaml", "augmented.mixing": "bernoulli"},
         ["augmented.mixing is not read with augmented.oracle_share: 1.0"]),
        ({"algorithm": "vaml", "preset": "published"}, []),
    ],
)  # fmt: skip
def test_a_setting_that_another_leaves_unread_is_named(given: dict[str, str], sentences: list[str]) -> None:
    settings = load_settings([], list(given.items()))
    assert unread_settings(settings, algorithm_of(settings).uses) == sentences
