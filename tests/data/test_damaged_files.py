"""Files that are not what they should be: each is one sentence that names it, soon and in little memory."""

from __future__ import annotations

import gzip
import json
import os
import struct
import tracemalloc
from pathlib import Path

import pytest

from softbellman.config import ConfigError
from softbellman.config.text import parse_file
from softbellman.core.files import LONGEST_LINE, is_named_pipe
from softbellman.data import (
    DataError,
    FeatureSpec,
    ImageFeatures,
    PixelSpec,
    SentencePieceTokenizer,
    Vocabulary,
    read_lines,
    read_pixels,
)
from softbellman.data.captions import read_coco, read_karpathy, read_tsv
from softbellman.data.captions.extract import list_images

DEEP = "[" * 100_000


def test_a_gzip_bomb_is_refused_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb") as file:
        file.write(b"fine\n")
        for _ in range(32):
            file.write(b"a" * (1 << 20))
    assert path.stat().st_size < 1 << 16
    tracemalloc.start()
    with pytest.raises(DataError, match=r"bomb\.gz, line 2: the line is longer than 1,048,576 bytes"):
        read_lines(path)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("ending", [b"", b"\n"])
def test_the_longest_line_is_read(tmp_path: Path, ending: bytes) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"a" * LONGEST_LINE + ending)
    assert read_lines(path) == ["a" * LONGEST_LINE]
    path.write_bytes(b"x\n" + b"a" * (LONGEST_LINE + 1) + ending)
    with pytest.raises(DataError, match=r"long, line 2: the line is longer"):
        read_lines(path)


def test_a_file_that_does_not_fit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(stream: object) -> list[str]:
        raise MemoryError

    monkeypatch.setattr("softbellman.data.text.text_lines", exhausted)
    (tmp_path / "much").write_text("a\n")
    with pytest.raises(DataError, match=r"much: the file does not fit in memory"):
        read_lines(tmp_path / "much")


def test_named_pipes_are_refused_without_waiting(tmp_path: Path) -> None:
    pytest.importorskip("PIL.Image")
    pytest.importorskip("sentencepiece")
    readers = {
        "text": read_lines, "table.tsv": read_tsv, "k.json": read_karpathy, "c.json": read_coco,
        "v.json": Vocabulary.from_json, "m.model": SentencePieceTokenizer.load,
        "f.npy": ImageFeatures.open, "f.safetensors": ImageFeatures.open,
        "i.png": lambda path: read_pixels(path, side=4),
    }  # fmt: skip
    for name, read in readers.items():
        os.mkfifo(tmp_path / name)
        with pytest.raises(DataError, match=f"{name}: the file is a named pipe"):
            read(tmp_path / name)
    os.mkfifo(tmp_path / "run.yaml")
    with pytest.raises(ConfigError, match=r"run\.yaml: a named pipe, not a settings file"):
        parse_file(tmp_path / "run.yaml")


def test_a_pipe_that_the_shell_made_is_read() -> None:
    """What `<(zcat FILE)` hands over."""
    end, start = os.pipe()
    os.write(start, b"a b\nc\n")
    os.close(start)
    path = f"/dev/fd/{end}"
    assert not is_named_pipe(path)
    assert read_lines(path) == ["a b", "c"]
    os.close(end)


@pytest.mark.parametrize(
    "text", [DEEP, '{"a":' * 100_000, "1" * 5000, '"\ud800'], ids=["list", "object", "number", "text"]
)
def test_json_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    for read in (Vocabulary.from_json, read_karpathy, read_coco):
        with pytest.raises(DataError, match=r"x\.json: "):
            read(path)
    for spec, name in ((FeatureSpec, "source.features.json"), (PixelSpec, "source.pixels.json")):
        path.rename(tmp_path / name)
        with pytest.raises(DataError, match=name):
            spec.load(tmp_path)
        (tmp_path / name).rename(path)


def test_a_deep_header_of_features_is_named(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    path.write_bytes(struct.pack("<Q", len(DEEP)) + DEEP.encode())
    with pytest.raises(DataError, match=r"f\.safetensors: its header is nested too deeply"):
        ImageFeatures.open(path)


@pytest.mark.parametrize(
    "text", [f"sizes: {'[' * 5000}", "{a: " * 5000, "\n".join(" " * i + "a:" for i in range(5000))]
)
def test_yaml_nested_deeply_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "deep.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"deep\.yaml: nested too deeply for settings"):
        parse_file(path)


@pytest.mark.parametrize(
    ("token", "reason"),
    [("a\nb", "a line break"), ("a\r", "a line break"), ("\ud800", "half of a character")],
)
def test_tokens_are_text_of_one_line(tmp_path: Path, token: str, reason: str) -> None:
    path = tmp_path / "v.json"
    path.write_text(json.dumps({"format": "softbellman-vocabulary", "version": 1, "tokens": ["x", token]}))
    with pytest.raises(DataError, match=rf"v\.json: .* cannot be an ordinary token .* holds {reason}"):
        Vocabulary.from_json(path)


@pytest.mark.parametrize("name", ["a\nb.png", "a\r.jpg"])
def test_image_names_are_text_of_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match="cannot be the name of an image: it holds a line break"):
        list_images(tmp_path)
