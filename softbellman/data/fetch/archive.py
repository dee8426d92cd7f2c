"""Members of archives, by name.

Nothing is unpacked to where an archive says: members are read into memory, and written under names of the table. So `../`,
absolute names and links lead nowhere. A member has a largest size, and an archive a largest sum of its members, so that a
few bytes cannot unpack to a full disk.
"""

from __future__ import annotations

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from softbellman.core.files import digest
from softbellman.data.errors import DataError
from softbellman.data.fetch.sources import Member

MOST_ENTRIES = 10_000
MOST_UNPACKED = 1 << 30
"""Entries of an archive, and bytes of all of them together, that are looked at."""

_DAMAGES = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)


def read_members(path: str | Path, wanted: Sequence[Member]) -> dict[str, bytes]:
    """The contents of some members of a `.zip` or `.tar` file, compressed or not.

    Args:
        path: the archive.
        wanted: the members, found by their names without folders; those of macOS' resource forks are passed over.

    Returns:
        The contents by name, all of them checked against what is known of them.

    Raises:
        DataError: no archive, a damaged one, one too large; a member that is missing, there twice with different contents, no
            plain file, or not what the table says. Names the archive and the member.
    """
    members = {member.name: member for member in wanted}
    found: dict[str, bytes] = {}
    try:
        entries = _of_zip(path, members) if zipfile.is_zipfile(path) else _of_tar(path, members)
        for name, content in entries:
            if found.setdefault(name, content) != content:
                raise DataError(f"the archive holds {name} twice, with different contents", path=path)
    except _DAMAGES as error:
        raise DataError(f"the archive is damaged: {error}", path=path) from error
    except OSError as error:
        raise DataError(f"the archive cannot be read: {error.strerror or error}", path=path) from error
    for name, member in members.items():
        if name not in found:
            raise DataError(f"the archive holds no {name}", path=path)
        if complaint := mismatch(member, found[name]):
            raise DataError(f"{name} in the archive {complaint}", path=path)
    return found


def mismatch(member: Member, content: bytes) -> str | None:
    """What contradicts the table in a content: the sentence without its subject; None where nothing does."""
    if member.size is not None and len(content) != member.size:
        return f"has {len(content):,} bytes, {member.size:,} were expected"
    if member.sha256 is not None and (found := digest(content)) != member.sha256:
        return f"has the sha256 {found}, {member.sha256} was expected"
    return None


def _of_zip(path: str | Path, members: Mapping[str, Member]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        _check_size(path, len(entries), sum(entry.file_size for entry in entries))
        for entry in entries:
            name = _plain_name(entry.filename)
            if entry.is_dir() or name not in members:
                continue
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise DataError(f"{name} in the archive is no plain file", path=path)
            with archive.open(entry) as stream:
                yield name, _read(path, stream, members[name])


def _of_tar(path: str | Path, members: Mapping[str, Member]) -> Iterator[tuple[str, bytes]]:
    with _open_tar(path) as archive:
        for count, entry in enumerate(archive, start=1):
            _check_size(path, count, entry.offset_data + entry.size)
            name = _plain_name(entry.name)
            if entry.isdir() or name not in members:
                continue
            if not entry.isreg():
                raise DataError(f"{name} in the archive is no plain file", path=path)
            stream = archive.extractfile(entry)
            assert stream is not None  # of a plain file
            yield name, _read(path, stream, members[name])


def _open_tar(path: str | Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path)
    except tarfile.ReadError:
        raise tarfile.ReadError("it cannot be opened as a .zip or .tar file") from None


def _plain_name(name: str) -> str:
    """The name without folders; empty of a resource fork, whose own folder holds files of the same names."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return "" if not parts or "__MACOSX" in parts else parts[-1]


def _read(path: str | Path, stream: IO[bytes], member: Member) -> bytes:
    content = stream.read(member.limit + 1)
    if len(content) > member.limit:
        raise DataError(f"{member.name} in the archive is larger than {member.limit:,} bytes", path=path)
    return content


def _check_size(path: str | Path, entries: int, size: int) -> None:
    if entries > MOST_ENTRIES or size > MOST_UNPACKED:
        raise DataError(
            f"the archive unpacks to more than {MOST_ENTRIES:,} files or {MOST_UNPACKED:,} bytes", path=path
        )
