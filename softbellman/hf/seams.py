"""What the trainers rest on in TRL, and the check that it is still there.

The trainers override public methods: `__init__`, `compute_loss`, `log`. One thing has no public method: rows of a generation
batch are scored, then shuffled, and only the private `GRPOTrainer._generate_and_score_completions` sees both a row's columns
and its tensors. TRL says of the advantages it returns that a subclass may give them the shape `[B, T]`.
"""

from __future__ import annotations

import inspect
import warnings
from importlib.metadata import version

TESTED = "1.16"
"""The release of TRL that the tests run against."""


def check_release() -> None:
    """Warn where another release of TRL is installed than the tested one."""
    found = version("trl")
    if found.split(".")[:2] != TESTED.split("."):
        warnings.warn(
            f"the trainers of softbellman.hf are tested with TRL {TESTED}, and {found} is installed",
            stacklevel=3,
        )


def check_seam(owner: type, method: str, parameters: tuple[str, ...]) -> None:
    """Look for a private method that a trainer overrides.

    Args:
        owner: the class of TRL.
        method: its name.
        parameters: the names of its parameters, `self` included.

    Raises:
        ImportError: the method is missing or takes other parameters.
    """
    found = getattr(owner, method, None)
    names = tuple(inspect.signature(found).parameters) if callable(found) else None
    if names != parameters:
        expected = f"{method}({', '.join(parameters)})"
        said = "is missing" if names is None else f"has the parameters ({', '.join(names)})"
        raise ImportError(
            f"{owner.__name__} of TRL {TESTED} has {expected}, which here {said}; install trl=={TESTED}.*"
        )
