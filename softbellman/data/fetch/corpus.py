"""A corpus from its address to a folder that settings can name.

Downloads stay in FOLDER/downloads: the same call again downloads nothing, and a file that was put there is not asked for.
FOLDER/downloads/checksums.json holds the digest of every download. Where none is published, the first one counts.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from softbellman.core.files import digest, write_atomically
from softbellman.data.errors import DataError
from softbellman.data.export import write_new
from softbellman.data.fetch.archive import mismatch, read_members
from softbellman.data.fetch.recipes import RECIPES
from softbellman.data.fetch.sources import RemoteFile, Source
from softbellman.data.fetch.transfer import Patience, download
from softbellman.data.text import read_json

DOWNLOADS, CHECKSUMS = "downloads", "checksums.json"

Advance = Callable[[int], object]
Counter = Callable[[str, int | None, str], AbstractContextManager[Advance]]
"""Told what is counted, how many there are and in what unit; gives what to call with the number done."""


@dataclass(frozen=True)
class Checked:
    """A download.

    Attributes:
        name: of the file.
        size: bytes.
        sha256: of its content.
        by: what it was compared with: `table`; `members`, where the table knows all of its members that are used; `record`,
            that of an earlier download; `nothing`, where it is the first one.
    """

    name: str
    size: int
    sha256: str
    by: Literal["table", "members", "record", "nothing"]


@dataclass(frozen=True)
class Fetched:
    """A corpus that is ready.

    Attributes:
        downloads: what was downloaded, or was there.
        lines: the files that were written, with their lines.
    """

    downloads: tuple[Checked, ...]
    lines: dict[str, int]


def fetch(
    source: Source,
    folder: str | Path,
    *,
    mirror: str | None = None,
    patience: Patience | None = None,
    counter: Counter = lambda label, total, unit: nullcontext(lambda count: None),
    say: Callable[[str], object] = lambda text: None,
) -> Fetched:
    """Download a corpus, check it, prepare it.

    Args:
        source: see `find_source`.
        folder: where it goes; made where there is none. Other files of the same names are never replaced.
        mirror: address of a folder that holds the files by their names; None: the source's own.
        patience: how long a download is tried.
        counter: shows the work done.
        say: told of downloads that are tried again.

    Raises:
        DownloadError: a file could not be had.
        DataError: a download is not what it should be, or other files are in the way; names the file.
        ImportError: the preparation needs a package that is not installed; nothing is downloaded then.
    """
    recipe = RECIPES[source.recipe]
    recipe.check()
    folder = Path(folder)
    store = folder / DOWNLOADS
    store.mkdir(parents=True, exist_ok=True)
    with _alone(store):
        record, checked, contents = _Record(store / CHECKSUMS), [], dict[str, bytes]()
        for file in source.files:
            path = store / file.name
            if not path.exists():
                with counter(file.name, file.size, "B") as advance:
                    address = source.address(file, mirror)
                    download(address, path, expected=file, patience=patience, advance=advance, say=say)
            found, content = _check(path, file, record)
            checked.append(found)
            contents |= _members(path, file) if file.members else {file.name: content}
            record.add(found)
    with counter(source.name, None, "line") as advance:
        files = recipe.prepare(source, contents, advance)
    write_new(folder, files)
    return Fetched(tuple(checked), {name: content.count(b"\n") for name, content in files.items()})


def _check(path: Path, file: RemoteFile, record: _Record) -> tuple[Checked, bytes]:
    """A download compared with what is known of it, and its content."""
    if path.stat().st_size > file.limit:
        raise DataError(f"the file is larger than {file.limit:,} bytes; delete it", path=path)
    content = path.read_bytes()
    found = digest(content)
    if complaint := mismatch(file, content):
        raise DataError(f"the file {complaint}; delete it and fetch again", path=path)
    earlier = record.digests.get(file.name)
    if not file.is_known and earlier not in (None, found):
        raise DataError(
            f"its sha256 is {found}, and that of the first download was {earlier}; if the new file is right, "
            f"delete {record.path}, else delete the file",
            path=path,
        )
    checked = Checked(file.name, len(content), found, _compared(file, earlier))
    return checked, content


def _compared(file: RemoteFile, earlier: str | None) -> Literal["table", "members", "record", "nothing"]:
    if file.is_known:
        return "table" if file.sha256 else "members"
    return "record" if earlier else "nothing"


def _members(path: Path, file: RemoteFile) -> dict[str, bytes]:
    try:
        return read_members(path, file.members)
    except DataError as error:
        raise DataError(f"{error}; delete the file to fetch it again") from error


class _Record:
    """The digests of the downloads in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        found = read_json(path) if path.exists() else {}
        if not isinstance(found, dict):
            raise DataError("must hold a digest for each file", path=path)
        self.digests: dict[str, str] = found

    def add(self, found: Checked) -> None:
        """Writes down a download that was not there before."""
        if self.digests.get(found.name) != found.sha256:
            self.digests[found.name] = found.sha256
            write_atomically(self.path, (json.dumps(self.digests, indent=1) + "\n").encode())


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other process downloads to the folder meanwhile; raises DataError where one does."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise DataError("another process downloads to the folder; wait for it", path=folder) from None
    try:
        yield
    finally:
        os.close(descriptor)
