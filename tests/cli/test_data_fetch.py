"""`softbellman data fetch` and `data list`: what they print, and that nothing but the named server is asked."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from softbellman.core.files import digest
from softbellman.data.fetch import read_sources, sources

RunCommand = Callable[..., Any]
TEXTS = {f"train.{side}": f"{side}\n".encode() * 3 for side in ("de", "en")}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A mirror on the loopback with the files of a table of one corpus."""
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    files: list[dict[str, Any]] = []
    for name, text in TEXTS.items():
        (mirror / name).write_bytes(text)
        files.append({"name": name, "becomes": name, "size": len(text), "sha256": digest(text)})
    files[1] |= {"size": None, "sha256": None, "at_most": 1000}
    record = {
        "title": "A corpus", "about": "text", "homepage": "https://corpus.invalid", "licence": "of nobody",
        "citation": "Nobody (2000)", "recipe": "copy", "base": "https://corpus.invalid/files/", "checksums": "of one",
        "files": files, "lines": {"train.de": 3, "train.en": 4},
        "next": ["softbellman-train --data.kind parallel --data.path {folder}"],
    }  # fmt: skip
    monkeypatch.setattr(sources, "TABLE", tmp_path / "sources.yaml")
    sources.TABLE.write_text(yaml.safe_dump({"small": record}))
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(mirror)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_is_said_of_a_corpus(softbellman: RunCommand, url: str, tmp_path: Path) -> None:
    folder = tmp_path / "my corpus"
    words = ["data", "fetch", "small", str(folder), "--url", url]
    code, out, err = softbellman(*words)
    assert code == 0 and not err
    assert f"train.de: 9 bytes, sha256 {digest(TEXTS['train.de'])} (as expected)\n" in out
    assert (
        f"train.en: 9 bytes, sha256 {digest(TEXTS['train.en'])} (recorded; no checksum is published)\n" in out
    )
    assert "  train.de: 3 lines\n" in out and "  train.en: 3 lines (published: 4;" in out
    assert "licence   of nobody\n" in out and "cite      Nobody (2000)\n" in out
    assert out.endswith(f"Next:\n  softbellman-train --data.kind parallel --data.path '{folder}'\n")
    assert "(as at the first download)" in softbellman(*words).out
    assert (folder / "train.en").read_bytes() == TEXTS["train.en"]


def test_what_goes_wrong_is_one_line(softbellman: RunCommand, url: str, tmp_path: Path) -> None:
    folder = str(tmp_path / "corpus")
    code, out, err = softbellman("data", "fetch", "smal", folder, "--url", url)
    assert (
        code == 2
        and not out
        and "there is no corpus 'smal' to fetch; these can be: small; nearest: 'small'" in err
    )
    code, _, err = softbellman("data", "fetch", "small", folder, "--url", f"{url}/nowhere")
    assert code == 2 and f"{url}/nowhere/train.de: the server answers 404" in err and err.count("\n") == 1
    for option in (("--timeout", "0"), ("--attempts", "0"), ("--url", "file:///tmp")):
        code, _, err = softbellman("data", "fetch", "small", folder, *option)
        assert code == 2 and err.count("\n") == 1


def test_the_list_has_licence_and_citation_of_every_corpus(softbellman: RunCommand) -> None:
    code, out, err = softbellman("data", "list")
    wide = [line for line in out.splitlines() if len(line) > 100]
    assert code == 0 and not err and all(len(line.split()) == 1 for line in wide)  # an address is not broken
    joined = " ".join(out.split())
    for source in read_sources().values():
        for text in (source.title, source.licence, source.citation, source.base, source.checksums):
            assert text in joined
    code, one, _ = softbellman("data", "list", "multi30k")
    assert code == 0 and one.startswith("multi30k: ") and "iwslt14" not in one
    assert "nearest: 'multi30k'" in softbellman("data", "list", "multi30").err


def test_help(softbellman: RunCommand) -> None:
    for words in (["fetch"], ["list"]):
        code, out, _ = softbellman("data", *words, "--help")
        assert code == 0 and max(map(len, out.splitlines())) <= 100
