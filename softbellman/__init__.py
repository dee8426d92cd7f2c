"""Entropy-regularised training of sequence models: native operators, objectives, models, decoding, a trainer.

`softbellman.soft_value` and every other operator of `softbellman.ops` can be taken from the package itself. Nothing is
imported before it is used: subpackages and operators load on first access.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

# Started from the repository's root, Python finds this folder before the installed package. The sources run as they are here;
# the compiled module, which is not here unless the install is editable, is found in the installed package's folder.
__path__ = pkgutil.extend_path(__path__, __name__)

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .ops import *  # noqa: F403

_SUBPACKAGES = frozenset(
    {"cli", "config", "data", "decoding", "models", "objectives", "ops", "oracle", "reference", "training"}
)


def build_info() -> dict[str, Any]:
    """What the native module was built with and what it uses here; see `softbellman info`."""
    from . import _native

    return _native.build_info()


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f".{name}", __name__)
    if name == "__all__" or not name.startswith("_"):
        operators = importlib.import_module(".ops", __name__)
        if name == "__all__":  # for `from softbellman import *`
            return ["build_info", *operators.__all__]
        if name in operators.__all__:
            return getattr(operators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    operators = importlib.import_module(".ops", __name__)
    return sorted({*globals(), *_SUBPACKAGES, *operators.__all__})
