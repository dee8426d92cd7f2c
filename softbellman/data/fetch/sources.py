"""The table of corpora, `sources.yaml`, as records."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from softbellman.config import nearest
from softbellman.data.errors import DataError
from softbellman.data.text import refuse_named_pipe

TABLE = Path(__file__).with_name("sources.yaml")


@dataclass(frozen=True)
class Member:
    """A file: of an archive, or one that is downloaded.

    Attributes:
        name: without a folder.
        size: bytes, where known.
        at_most: bytes of the largest that is read, where the size is not known.
        sha256: in hexadecimal digits, where known.
    """

    name: str
    size: int | None = None
    at_most: int | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w][\w.+-]*", self.name):
            raise ValueError(f"a file's name must be plain, without a folder, got {self.name!r}")
        if (self.size is None) == (self.at_most is None):
            raise ValueError(f"{self.name} needs either size or at_most")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"{self.name}: sha256 must be 64 hexadecimal digits, got {self.sha256!r}")

    @property
    def limit(self) -> int:
        """Bytes of the largest file that is accepted."""
        return self.at_most if self.size is None else self.size  # type: ignore[return-value]


@dataclass(frozen=True)
class RemoteFile(Member):
    """A file to download.

    Attributes:
        becomes: its name in the folder of the corpus, where it is copied as it is.
        members: the files that are used, where it is an archive.
    """

    becomes: str = ""
    members: tuple[Member, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether its content can be checked at the first download: by its own digest, or by those of all its members."""
        return self.sha256 is not None or (
            bool(self.members) and all(member.sha256 for member in self.members)
        )


@dataclass(frozen=True)
class Source:
    """A corpus; the attributes are the keys of the table.

    Attributes:
        name: as users type it.
        title, about, homepage, licence, citation: what to know of it.
        recipe: of `recipes.RECIPES`.
        base: address of the files' folder, https, ending in a slash.
        checksums: in words, where the digests come from.
        files: what is downloaded.
        lines: lines of the files that are written, as published.
        next: commands that use it; `{folder}` stands for the folder of the corpus.
    """

    name: str
    title: str
    about: str
    homepage: str
    licence: str
    citation: str
    recipe: str
    base: str
    checksums: str
    files: tuple[RemoteFile, ...]
    lines: dict[str, int]
    next: tuple[str, ...]

    def __post_init__(self) -> None:
        if not (self.base.startswith("https://") and self.base.endswith("/")):
            raise ValueError(f"{self.name}: base must be an https address that ends in /, got {self.base!r}")

    def address(self, file: RemoteFile, mirror: str | None = None) -> str:
        """Where a file is: its name behind the base, or behind the address of a mirror."""
        folder = self.base if mirror is None else f"{mirror.rstrip('/')}/"
        return folder + file.name

    @property
    def size(self) -> int | None:
        """Bytes to download; None where that is not known."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size or 0 for size in sizes)


def read_sources(path: str | Path | None = None) -> dict[str, Source]:
    """The corpora of a table by name; None: the package's own.

    Raises:
        DataError: the table cannot be read; names the corpus and the key.
    """
    path = TABLE if path is None else path
    refuse_named_pipe(path)
    try:
        table = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"the table cannot be read: {error}", path=path) from error
    if not isinstance(table, dict):
        raise DataError("the table must hold a record for each corpus", path=path)
    try:
        return {name: _source(name, record) for name, record in table.items()}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(str(error), path=path) from error


def find_source(name: str) -> Source:
    """The corpus of that name; raises ValueError, with the nearest, where there is none."""
    sources = read_sources()
    if name not in sources:
        raise ValueError(
            f"there is no corpus {name!r} to fetch; these can be: {', '.join(sources)}; "
            f"nearest: {nearest(name, sources)!r}"
        )
    return sources[name]


def _source(name: str, record: dict[str, Any]) -> Source:
    files = tuple(
        _record(
            RemoteFile,
            {**file, "members": tuple(_record(Member, member) for member in file.get("members", ()))},
        )
        for file in record.get("files", ())
    )
    return _record(Source, {**record, "name": name, "files": files, "next": tuple(record.get("next", ()))})


Record = TypeVar("Record")


def _record(kind: type[Record], values: dict[str, Any]) -> Record:
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"{values.get('name')}: unknown key {unknown[0]!r}")
    return kind(**values)
