"""What a user brings by name, `module:object` or `folder/file.py:object`, or hands over in Python. Needs no torch.

A module must be importable: installed, or on PYTHONPATH. The path of a file is relative to the working directory, like all
paths of the settings. A class stands for an instance of it, made without arguments.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from softbellman.core.files import digest

PYTHON = "python"
"""In the place of a module: an object that was handed over and that no name leads to, `python:OBJECT`."""


_handed: dict[tuple[str, str], UserObject] = {}
"""What was handed over in this process and no name leads to, by the setting and the name that stands for it there."""


class UserCodeError(RuntimeError):
    """An exception in a user's code, which is its cause; commands show both traces."""


@dataclass(frozen=True)
class UserObject:
    """An object and where it is from.

    Attributes:
        name: `module:object`, `file.py:object`, or `python:object` of one that no name leads to.
        value: the object.
        path: its source file, absolute; empty where there is none.
        digest: SHA-256 of that file, of an object without a name that of its source; empty where neither is known.
        version: what its attribute `version` says, else its module's `__version__`, else that of the installed distribution.
    """

    name: str
    value: Any
    path: str = ""
    digest: str = ""
    version: str = ""

    @property
    def is_named(self) -> bool:
        """Whether its name leads to it."""
        return not self.name.startswith(f"{PYTHON}:")

    @property
    def is_known(self) -> bool:
        """Whether two runs can tell that they have the same one."""
        return bool(self.version or (self.is_named and self.digest))

    def facts(self) -> dict[str, str]:
        """All but the object itself, for a record."""
        return {"name": self.name, "path": self.path, "digest": self.digest, "version": self.version}


def is_object_name(text: str) -> bool:
    """Whether a setting names an object: there is a colon with something on both sides."""
    place, colon, attribute = text.rpartition(":")
    return bool(colon and place and attribute)


def absolute_name(name: str) -> str:
    """The name with the whole path of its file, so that it stands for the same from any folder; modules stay as they are."""
    place, _, attribute = name.rpartition(":")
    return f"{Path(place).expanduser().resolve()}:{attribute}" if place.endswith(".py") else name


def load_object(name: str, *, key: str, place: str = "", as_class: bool = False) -> UserObject:
    """The object of a name.

    Args:
        name: `module:object` or `file.py:object`; of a nested object `module:outer.inner`.
        key: the setting, for error sentences.
        place: where its file was when it was recorded, absolute; it is looked for there first.
        as_class: a class is what is wanted, no instance of it is made.

    Raises:
        ValueError: the name leads nowhere; says what is missing.
        UserCodeError: the user's module, or the constructor of the class, raised.
    """
    if (key, name) in _handed:
        return _handed[key, name]
    where, _, attribute = name.rpartition(":")
    if not is_object_name(name):
        raise ValueError(f"{key} must be MODULE:OBJECT or FILE.py:OBJECT, got {name!r}")
    module = _from_file(where, name, key, place) if where.endswith(".py") else _from_module(where, name, key)
    value: Any = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            origin = getattr(module, "__file__", None) or where
            nearest = difflib.get_close_matches(part, [known for known in dir(value) if known[:1] != "_"], 1)
            guess = f"; nearest: {nearest[0]}" if nearest else ""
            raise ValueError(f"{key} is {name}, but {origin} has no {attribute}{guess}")
        value = getattr(value, part)
    if not as_class:
        value = instance_of(value, f"{key} {name}")
    path = _path_of(module)
    return UserObject(name, value, path, _digest_of(path), _version(value, module))


def instance_of(value: Any, what: str) -> Any:
    """An instance of a class, made without arguments; anything else as it is.

    Raises:
        UserCodeError: the constructor raised; `what` is its name in the sentence.
    """
    if not inspect.isclass(value):
        return value
    try:
        return value()
    except Exception as error:
        raise UserCodeError(f"{what}: making an instance raised {_words(error)}") from error


def given_object(value: Any) -> UserObject:
    """An object that was handed over in Python, by the name that leads to it, else as `python:OBJECT`."""
    own = getattr(value, "__qualname__", "") or type(value).__name__
    where = str(getattr(value, "__module__", "") or "")
    module = sys.modules.get(where)
    if module is not None and _is_importable(where) and _found(module, own) is value:
        path = _path_of(module)
        return UserObject(f"{where}:{own}", value, path, _digest_of(path), _version(value, module))
    source = source_of(value)
    found = hashlib.sha256(source.encode()).hexdigest() if source else ""
    return UserObject(f"{PYTHON}:{own}", value, "", found, str(getattr(value, "version", "")))


def source_of(value: Any) -> str:
    """What an object without a file can be known by; empty where there is nothing.

    That is its source, of an instance its class's, with the plain values that a function has taken along: defaults, variables
    of functions around it, arguments of a `functools.partial`. What an instance holds is not looked at: it may be a counter.
    """
    if isinstance(value, functools.partial):
        return source_of(value.func) + _plain((*value.args, *sorted(value.keywords.items())))
    value = getattr(value, "__func__", value)  # of a method
    if not (inspect.isfunction(value) or inspect.isclass(value)):
        value = type(value)
    functions = vars(value).values() if inspect.isclass(value) else [value]
    taken = [_taken(one) for one in functions if inspect.isfunction(one)]
    return "".join([source, *taken]) if (source := _source(value)) else ""


def _source(value: Any) -> str:
    """The text of a function or a class; empty where it is not known."""
    try:
        return inspect.getsource(value)
    except (OSError, TypeError):
        return ""


def _taken(function: Any) -> str:
    """The plain values that a function has taken along, by name; empty where it has none."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    around = [(name, cell.cell_contents) for name, cell in cells if _is_filled(cell)]
    taken = (*(function.__defaults__ or ()), *sorted((function.__kwdefaults__ or {}).items()), *around)
    return _plain(taken) if taken else ""


def _is_filled(cell: Any) -> bool:
    """Whether a variable of a function around has a value yet."""
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _plain(value: Any) -> str:
    """A plain value in words; of a function its own source, of anything else, which may change, its type alone."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_plain, value))}]"
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value)
    if isinstance(value, functools.partial):
        return f"{_plain(value.func)}{_plain(value.args)}{_plain(tuple(sorted(value.keywords.items())))}"
    return _source(value) if inspect.isfunction(value) else type(value).__qualname__


def hand_over(value: Any, *, key: str, known: UserObject | None = None) -> str:
    """The name by which a setting finds what was handed over; what no name leads to is kept for this process.

    Args:
        value: the object.
        key: the setting.
        known: the object with its name, where that is not the one of `given_object`.
    """
    found = given_object(value) if known is None else known
    if not found.is_named:
        _handed[key, found.name] = found
    return found.name


def same_name(name: str, other: str) -> bool:
    """Whether two names may stand for one object: the same, or of files of one name that lie in different folders.

    Example:
        >>> same_name("/old/mine.py:model", "./mine.py:model"), same_name("mine.py:model", "mine.py:other")
        (True, False)
    """
    if name == other:
        return True
    (place, _, own), (there, _, others) = name.rpartition(":"), other.rpartition(":")
    files = place.endswith(".py") and there.endswith(".py")
    return files and own == others and Path(place).name == Path(there).name


def facts_of(recorded: Sequence[dict[str, str]], name: str) -> dict[str, str] | None:
    """The record of an object, wherever its file was then; None where there is none."""
    alike = [facts for facts in recorded if same_name(facts["name"], name)]
    return next((facts for facts in alike if facts["name"] == name), alike[0] if alike else None)


def what_changed(recorded: dict[str, str], found: UserObject) -> str | None:
    """How an object differs from the recorded one, in words; None where it does not."""
    if recorded["version"] != found.version:
        return f"is of version {found.version or 'none'}, the recorded one was of {recorded['version'] or 'none'}"
    if recorded["digest"] != found.digest:
        return f"was changed{f' in {found.path}' if found.path else ''}"
    return None


def place_of(recorded: Sequence[dict[str, str]], name: str) -> str:
    """Where the file of a recorded object was; empty where it is not recorded."""
    return next((facts["path"] for facts in recorded if facts["name"] == name), "")


def _from_module(where: str, name: str, key: str) -> ModuleType:
    if where == PYTHON:
        argument = key.partition(".")[0]
        raise ValueError(
            f"{key} is {name}, an object that was handed over in Python and that no name leads to: hand it over again, "
            f"run(..., {argument}=OBJECT) or load_run(RUN, {argument}=OBJECT), or put it into a module or a file"
        )
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name and (where == error.name or where.startswith(f"{error.name}.")):
            raise ValueError(
                f"{key} is {name}, but there is no module {error.name}: install it, put its folder on PYTHONPATH, or "
                f"name a file, ./{where.partition('.')[0]}.py:OBJECT"
            ) from None
        raise UserCodeError(f"{key} {name}: its import raised {_words(error)}") from error
    except Exception as error:
        raise UserCodeError(f"{key} {name}: its import raised {_words(error)}") from error


def _from_file(where: str, name: str, key: str, place: str) -> ModuleType:
    """The module of a file, run once in a process for each content it has."""
    looked = [Path(place)] if place else []
    looked.append(Path(where).expanduser())
    if looked[-1].is_absolute():  # a project that was moved, or a run on another machine
        looked.append(Path.cwd() / looked[-1].name)
    path = next((path for path in looked if path.is_file()), None)
    if path is None:
        tried = " and ".join(dict.fromkeys(str(path.absolute()) for path in looked))
        raise ValueError(f"{key} is {name}, but there is no file {tried}")
    path = path.resolve()
    source = path.read_bytes()
    module_name = f"softbellman_user_{path.stem}_{digest(source + bytes(path))[:16]}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    module = ModuleType(module_name)
    module.__file__ = str(path)
    sys.modules[module_name] = module
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except Exception as error:
        del sys.modules[module_name]
        raise UserCodeError(f"{key} {name}: running {path} raised {_words(error)}") from error
    return module


def _is_importable(where: str) -> bool:
    if where == "__main__":
        return False
    try:
        return importlib.util.find_spec(where) is not None
    except (ImportError, ValueError):
        return False


def _found(module: ModuleType, attribute: str) -> Any:
    value: Any = module
    for part in attribute.split("."):
        value = getattr(value, part, None)
    return value


def _path_of(module: ModuleType) -> str:
    place = getattr(module, "__file__", None)
    return str(Path(place).resolve()) if place else ""


def _digest_of(path: str) -> str:
    return digest(Path(path).read_bytes()) if path and Path(path).is_file() else ""


def _version(value: Any, module: ModuleType) -> str:
    for found in (getattr(value, "version", None), getattr(module, "__version__", None)):
        if isinstance(found, str):
            return found
    top = module.__name__.partition(".")[0]
    try:
        return metadata.version(top)
    except (metadata.PackageNotFoundError, ValueError):
        names = metadata.packages_distributions().get(top, [])
        return metadata.version(names[0]) if names else ""


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
