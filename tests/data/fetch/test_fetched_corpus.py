"""A corpus from a server on the loopback to a folder; the table; the commands."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import re
import shlex
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from loopback import Behaviour, Loopback

from softbellman.data import DataError, load_splits
from softbellman.data.captions import read_caption_splits
from softbellman.data.fetch import DownloadError, Patience, fetch, find_source, read_sources, sources
from softbellman.data.fetch.recipes import RECIPES

HASTY = Patience(timeout=0.5, attempts=3, backoff=0.0)
TEXTS = {
    f"{split}.tok.{side}": "".join(f"{side} {split} {number}\n" for number in range(4)).encode()
    for split in ("train", "val", "test_2016")
    for side in ("de", "en")
}
IMAGES = {"train": ["1.jpg", "2.jpg"], "dev": ["3.jpg"], "test": ["4.jpg"]}
CAPTIONS = "".join(
    f"{image}#{number}\tA dog , number {number} .\n"
    for image in ("2.jpg", "1.jpg", "9.jpg.1", "3.jpg", "4.jpg")
    for number in range(2)
)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def flickr8k(captions: str = CAPTIONS, folder: str = "Flickr8k_text/") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(f"{folder}Flickr8k.token.txt", captions)
        for split, images in IMAGES.items():
            archive.writestr(f"{folder}Flickr_8k.{split}Images.txt", "".join(f"{i}\n" for i in images))
    return packed.getvalue()


def record(recipe: str, files: list[dict[str, Any]], lines: dict[str, int]) -> dict[str, Any]:
    return {
        "title": "A corpus", "about": "text", "homepage": "https://corpus.invalid", "licence": "none is known",
        "citation": "Nobody (2000)", "recipe": recipe, "base": "https://corpus.invalid/files/", "checksums": "known",
        "files": files, "lines": lines, "next": ["softbellman-train --data.path {folder}"],
    }  # fmt: skip


@pytest.fixture
def table(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A small table in the place of the package's, written when it is changed by `write`."""
    texts = [
        {"name": name, "becomes": name.replace(".tok", ""), "size": len(text), "sha256": sha256(text)}
        for name, text in TEXTS.items()
    ]
    members = [
        {"name": name, "at_most": 10_000}
        for name in ("Flickr8k.token.txt", *(f"Flickr_8k.{split}Images.txt" for split in IMAGES))
    ]
    archive = {"name": "text.zip", "at_most": 100_000, "members": members}
    found = {
        "small": record("copy", texts, {file["becomes"]: 4 for file in texts}),
        "captions": record("flickr8k", [archive], {"captions.tsv": 8}),
    }
    path = tmp_path_factory.mktemp("table") / "sources.yaml"
    monkeypatch.setattr(sources, "TABLE", path)
    path.write_text(yaml.safe_dump(found))
    return found


def test_parallel_text_and_a_second_call_without_a_server(
    table: dict[str, Any], server: Loopback, tmp_path: Path
) -> None:
    server.files = dict(TEXTS)
    server.behaviours = [Behaviour(sends=20), Behaviour(status=500)]
    folder = tmp_path / "my text"
    found = fetch(find_source("small"), folder, mirror=server.url, patience=HASTY)
    assert {file.by for file in found.downloads} == {"table"} and found.lines == dict.fromkeys(found.lines, 4)
    train, _, test = load_splits(folder, source_language="de", target_language="en", test="test_2016")
    assert train.sources[3] == "de train 3" and test.references[0] == ["en test_2016 0"]
    asked = len(server.asked)
    assert fetch(find_source("small"), folder, mirror=server.url) == found and len(server.asked) == asked


def test_captions_and_splits(table: dict[str, Any], server: Loopback, tmp_path: Path) -> None:
    server.files["text.zip"] = flickr8k()
    fetch(find_source("captions"), tmp_path, mirror=f"{server.url}/", patience=HASTY)
    train, dev, test = read_caption_splits(tmp_path, ("train", "val", "test"))
    assert train.images == ["2.jpg", "1.jpg"] and dev.images == ["3.jpg"] and test.images == ["4.jpg"]
    assert train.captions[0] == ["A dog , number 0 .", "A dog , number 1 ."]
    assert "9.jpg.1" not in (tmp_path / "captions.tsv").read_text()


@pytest.mark.parametrize(
    ("captions", "complaint"),
    [
        (CAPTIONS.replace("4.jpg", "5.jpg"), r"image '4\.jpg' has no caption"),
        ("no caption\n" + CAPTIONS, "line 1: the line is no caption"),
        ("no label\ttext\n" + CAPTIONS, "line 1: the line is no caption"),
    ],
)
def test_captions_that_are_not_those(
    table: dict[str, Any], server: Loopback, tmp_path: Path, captions: str, complaint: str
) -> None:
    server.files["text.zip"] = flickr8k(captions)
    with pytest.raises(DataError, match=complaint):
        fetch(find_source("captions"), tmp_path, mirror=server.url, patience=HASTY)
    assert not (tmp_path / "captions.tsv").exists()


def test_the_first_download_counts_where_no_checksum_is_known(
    table: dict[str, Any], server: Loopback, tmp_path: Path
) -> None:
    server.files["text.zip"] = flickr8k()
    source, kept = find_source("captions"), tmp_path / "downloads" / "text.zip"
    (first,) = fetch(source, tmp_path, mirror=server.url, patience=HASTY).downloads
    assert first.by == "nothing" and first.sha256 == sha256(server.files["text.zip"])
    kept.unlink()
    (second,) = fetch(source, tmp_path, mirror=server.url, patience=HASTY).downloads
    assert second.by == "record" and second.sha256 == first.sha256
    kept.unlink()
    server.files["text.zip"] = flickr8k(folder="elsewhere/")
    with pytest.raises(
        DataError, match=rf"text\.zip: its sha256 is .* that of the first download was {first.sha256}"
    ):
        fetch(source, tmp_path, mirror=server.url, patience=HASTY)


def test_a_download_that_was_changed_or_replaced_is_named(
    table: dict[str, Any], server: Loopback, tmp_path: Path
) -> None:
    server.files = dict(TEXTS)
    fetch(find_source("small"), tmp_path, mirror=server.url, patience=HASTY)
    path = tmp_path / "downloads" / "val.tok.de"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(
        DataError, match=r"val\.tok\.de: the file has the sha256 .*; delete it and fetch again"
    ):
        fetch(find_source("small"), tmp_path, mirror=server.url, patience=HASTY)
    path.unlink()
    fetch(find_source("small"), tmp_path, mirror=server.url, patience=HASTY)


def test_a_server_that_lies_leaves_no_corpus(table: dict[str, Any], server: Loopback, tmp_path: Path) -> None:
    server.files = {**TEXTS, "val.tok.en": TEXTS["val.tok.en"][::-1]}
    with pytest.raises(DownloadError, match=r"/val\.tok\.en: its sha256 is"):
        fetch(find_source("small"), tmp_path, mirror=server.url, patience=HASTY)
    assert {path.name for path in tmp_path.iterdir()} == {"downloads"}


def test_other_files_are_never_replaced(table: dict[str, Any], server: Loopback, tmp_path: Path) -> None:
    server.files = dict(TEXTS)
    (tmp_path / "val.en").write_text("mine\n")
    with pytest.raises(DataError, match=r"val\.en: the file exists with other content"):
        fetch(find_source("small"), tmp_path, mirror=server.url, patience=HASTY)
    assert (tmp_path / "val.en").read_text() == "mine\n" and not (tmp_path / "train.de").exists()


def test_a_file_that_was_put_there_is_not_downloaded(
    table: dict[str, Any], server: Loopback, tmp_path: Path
) -> None:
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "text.zip").write_bytes(flickr8k())
    fetch(find_source("captions"), tmp_path, mirror=server.url)
    assert server.asked == [] and (tmp_path / "captions.tsv").exists()
    (tmp_path / "downloads" / "text.zip").write_bytes(b"0" * 100_001)
    with pytest.raises(DataError, match="larger than 100,000 bytes; delete it"):
        fetch(find_source("captions"), tmp_path, mirror=server.url)


def test_no_archive_is_to_be_deleted(table: dict[str, Any], server: Loopback, tmp_path: Path) -> None:
    server.files["text.zip"] = b"<html>please sign in</html>"
    with pytest.raises(
        DataError, match=r"text\.zip: the archive is damaged.*; delete the file to fetch it again"
    ):
        fetch(find_source("captions"), tmp_path, mirror=server.url, patience=HASTY)


def test_one_process_at_a_time(table: dict[str, Any], server: Loopback, tmp_path: Path) -> None:
    server.files = dict(TEXTS)
    (tmp_path / "downloads").mkdir()
    descriptor = os.open(tmp_path / "downloads" / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(DataError, match="another process downloads to the folder"):
        fetch(find_source("small"), tmp_path, mirror=server.url)
    os.close(descriptor)
    fetch(find_source("small"), tmp_path, mirror=server.url, patience=HASTY)


# The table -----------------------------------------------------------------------------------------------------------


def test_every_corpus_of_the_table_is_complete() -> None:
    found = read_sources()
    assert {"multi30k", "iwslt14", "flickr8k-text"} <= found.keys()
    for name, source in found.items():
        assert source.name == name and source.recipe in RECIPES and source.files and source.next
        for text in (source.title, source.about, source.licence, source.citation, source.checksums):
            assert text == " ".join(text.split()) and text
        assert re.search(r"\((19|20)\d\d\)", source.citation)
        assert all(file.is_known for file in source.files) == ("none is published" not in source.checksums)
        if source.recipe == "copy":
            assert source.lines.keys() == {file.becomes for file in source.files}
        names = [file.name for file in source.files]
        assert len(set(names)) == len(names)


def test_the_next_commands_are_of_settings_that_read_the_files(tmp_path: Path) -> None:
    from softbellman import config
    from softbellman.cli.settings import find_config
    from softbellman.training.settings import Settings

    for source in read_sources().values():
        train = shlex.split(source.next[-1].format(folder=tmp_path))
        assert train[:2] == ["softbellman-train", "--config"]
        overrides = [
            (key.removeprefix("--"), value) for key, value in zip(train[3::2], train[4::2], strict=True)
        ]
        data = config.load(Settings, find_config(train[2]), overrides=overrides).data
        assert data.path == str(tmp_path)
        if data.kind == "parallel":
            read = {
                f"{split}.{side}"
                for split in (data.train, data.dev, data.test)
                for side in (data.source, data.target)
            }
            assert read <= source.lines.keys()
        else:
            assert data.kind == "captions" and source.lines.keys() == {"captions.tsv"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"licence": None, "licens": "x"}, "unknown key 'licens'"),
        ({"base": "http://corpus.invalid/"}, "base must be an https address that ends in /"),
        ({"files": [{"name": "../x", "size": 3}]}, "a file's name must be plain"),
        ({"files": [{"name": "x", "size": 3, "at_most": 3}]}, "x needs either size or at_most"),
        ({"files": [{"name": "x", "size": 3, "sha256": "123"}]}, "sha256 must be 64 hexadecimal digits"),
        ({"citation": None}, "citation"),
    ],
)
def test_a_table_that_cannot_be_used_names_the_key(
    table: dict[str, Any], change: dict[str, Any], complaint: str
) -> None:
    changed = {key: value for key, value in {**table["small"], **change}.items() if value is not None}
    sources.TABLE.write_text(yaml.safe_dump({"small": changed}))
    with pytest.raises(DataError, match=complaint):
        read_sources()


def test_a_table_that_is_none(table: dict[str, Any]) -> None:
    for text in ("[1, 2]", "a: [", "\t"):
        sources.TABLE.write_text(text)
        with pytest.raises(DataError, match=r"sources\.yaml: the table"):
            read_sources()
