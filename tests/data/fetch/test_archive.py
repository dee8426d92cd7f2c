"""Members of archives: found by their names, checked, and never written to where the archive says."""

from __future__ import annotations

import gzip
import hashlib
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from softbellman.data import DataError
from softbellman.data.fetch import Member
from softbellman.data.fetch.archive import read_members

TEXT, OTHER = b"some text\n" * 50, b"other"
WANTED = [
    Member("a.txt", size=len(TEXT), sha256=hashlib.sha256(TEXT).hexdigest()),
    Member("b.txt", at_most=100),
]
Entries = list[tuple[str, bytes]]
Pack = Callable[[Path, Entries], Path]


def pack_zip(folder: Path, entries: Entries) -> Path:
    path = folder / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def pack_tar(folder: Path, entries: Entries) -> Path:
    path = folder / "archive.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


packed = pytest.mark.parametrize("pack", [pack_zip, pack_tar])


@packed
@pytest.mark.parametrize("prefix", ["", "folder/deeper/", "/etc/", "../../../", "C:\\windows\\"])
def test_members_are_found_in_any_folder_and_nothing_is_written(
    tmp_path: Path, pack: Pack, prefix: str
) -> None:
    entries = [(f"{prefix}a.txt", TEXT), (f"{prefix}b.txt", OTHER), ("c.txt", b"not asked for")]
    path = pack(tmp_path, [*entries, ("__MACOSX/a.txt", b"a resource fork"), ("__MACOSX/._b.txt", b"x")])
    before = {found: found.stat().st_mtime_ns for found in tmp_path.rglob("*")}
    assert read_members(path, WANTED) == {"a.txt": TEXT, "b.txt": OTHER}
    assert {found: found.stat().st_mtime_ns for found in tmp_path.rglob("*")} == before


@packed
@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ([("a.txt", TEXT)], r"holds no b\.txt"),
        ([("a.txt", TEXT[:-1]), ("b.txt", OTHER)], r"a\.txt in the archive has 499 bytes, 500 were expected"),
        ([("a.txt", b"x" * 500), ("b.txt", OTHER)], r"a\.txt in the archive has the sha256 [0-9a-f]{64}, "),
        ([("a.txt", TEXT + b"."), ("b.txt", OTHER)], r"a\.txt in the archive is larger than 500 bytes"),
        ([("a.txt", TEXT), ("b.txt", b"x" * 101)], r"b\.txt in the archive is larger than 100 bytes"),
        (
            [("a.txt", TEXT), ("b.txt", OTHER), ("x/b.txt", b"y")],
            r"holds b\.txt twice, with different contents",
        ),
    ],
)
def test_what_is_wrong_with_a_member_is_said(
    tmp_path: Path, pack: Pack, entries: Entries, complaint: str
) -> None:
    path = pack(tmp_path, entries)
    with pytest.raises(DataError, match=complaint) as caught:
        read_members(path, WANTED)
    assert caught.value.path == str(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_of_a_tar_are_no_members(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "archive.tar"
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("a.txt")
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    with pytest.raises(DataError, match=r"a\.txt in the archive is no plain file"):
        read_members(path, WANTED)


def test_links_of_a_zip_are_no_members(tmp_path: Path) -> None:
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo("a.txt")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(DataError, match=r"a\.txt in the archive is no plain file"):
        read_members(path, WANTED)


@packed
def test_an_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pack(tmp_path, [("big", b"0" * 3_000_000), ("a.txt", TEXT), ("b.txt", OTHER)])
    assert path.stat().st_size < 10_000
    assert read_members(path, WANTED).keys() == {"a.txt", "b.txt"}
    monkeypatch.setattr("softbellman.data.fetch.archive.MOST_UNPACKED", 2_000_000)
    with pytest.raises(DataError, match="unpacks to more than 10,000 files or 2,000,000 bytes"):
        read_members(path, WANTED)
    monkeypatch.undo()
    monkeypatch.setattr("softbellman.data.fetch.archive.MOST_ENTRIES", 2)
    with pytest.raises(DataError, match="unpacks to more than 2 files"):
        read_members(path, WANTED)


@packed
def test_a_member_that_says_it_is_small_is_not_read_to_its_end(tmp_path: Path, pack: Pack) -> None:
    path = pack(tmp_path, [("a.txt", TEXT), ("b.txt", b"0" * 5_000)])
    if pack is pack_zip:  # the directory at the end lies about the size
        raw = path.read_bytes()
        path.write_bytes(raw.replace((5_000).to_bytes(4, "little"), (50).to_bytes(4, "little")))
    with pytest.raises(DataError):
        read_members(path, WANTED)


@packed
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_archive_is_an_error_of_one_sentence(tmp_path: Path, pack: Pack, damage: str) -> None:
    path = pack(tmp_path, [("a.txt", TEXT), ("b.txt", OTHER * 15)])
    raw = bytearray(path.read_bytes())
    if damage == "cut":
        raw = raw[: len(raw) // 2]
    else:
        middle = len(raw) // 3
        raw[middle : middle + 8] = bytes(255 - byte for byte in raw[middle : middle + 8])
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"archive\.(zip|tgz): "):
        read_members(path, WANTED)


def test_what_is_no_archive(tmp_path: Path) -> None:
    for content in (b"", b"<html>not found</html>", gzip.compress(b"no tar")):
        path = tmp_path / "archive.tgz"
        path.write_bytes(content)
        with pytest.raises(DataError, match="the archive is damaged"):
            read_members(path, WANTED)
    with pytest.raises(DataError, match="cannot be read"):
        read_members(tmp_path / "missing.tgz", WANTED)
