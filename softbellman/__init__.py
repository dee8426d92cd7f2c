"""Entropy-regularised training of sequence models: native operators, objectives, models, decoding, a trainer.

Every operator of `softbellman.losses` and `softbellman.payoffs` can be taken from the package itself:
`softbellman.soft_value`, `softbellman.prefix_bleu`. `softbellman.load_run` opens a finished run. Nothing is imported before it
is used.
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
    from softbellman.losses import *  # noqa: F403
    from softbellman.payoffs import *  # noqa: F403

_OPERATORS = ("losses", "payoffs")
_USED = {"Run": "experiments.loaded", "load_run": "experiments.loaded"}
"""Names that stand higher up, and where."""
_SUBPACKAGES = frozenset(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)


def build_info() -> dict[str, Any]:
    """What the native module was built with and what it uses here; see `softbellman info`."""
    from softbellman.core import native

    return native.build_info()


def _operators() -> dict[str, Any]:
    modules = [importlib.import_module(f".{name}", __name__) for name in _OPERATORS]
    return {name: getattr(module, name) for module in modules for name in module.__all__}


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f".{name}", __name__)
    if name in _USED:
        return getattr(importlib.import_module(f".{_USED[name]}", __name__), name)
    if name == "__all__":  # for `from softbellman import *`
        return ["build_info", *_operators()]
    if not name.startswith("_"):
        operators = _operators()
        if name in operators:
            globals().update(operators)  # from now on found without coming here
            return operators[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBPACKAGES, *_operators(), *_USED})
