"""One file over http: continued where it broke off, checked, and under its own name only when it is whole.

A file that is not whole is NAME.part, with NAME.part.json for what tells its version on the server. A download continues it
(`Range`, `If-Range`) where the server can and the version is the same; else it starts anew.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from softbellman.core.files import PART, flush_folder, write_atomically
from softbellman.data.errors import DataError
from softbellman.data.fetch.sources import Member

_CHUNK = 1 << 16
_SLOWEST = 1024  # bytes within `Patience.timeout`; fewer are a stall
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_UNSATISFIABLE = 416


class DownloadError(DataError):
    """A file that could not be had; the message names its address."""


@dataclass(frozen=True)
class Patience:
    """How long a download is tried.

    Attributes:
        timeout: seconds without an answer, or without noteworthy data, after which a connection has stalled.
        attempts: tries in a row that bring nothing new before the download is given up.
        backoff: seconds before the second try, twice as many before each further one.
        longest_wait: seconds of the longest wait, also where the server asks for a longer one.
    """

    timeout: float = 30.0
    attempts: int = 5
    backoff: float = 1.0
    longest_wait: float = 60.0

    def __post_init__(self) -> None:
        if self.timeout <= 0 or self.attempts < 1 or self.backoff < 0 or self.longest_wait < 0:
            raise ValueError(f"a download needs a positive timeout and at least one attempt, got {self}")


class _Broken(Exception):
    """A try that may succeed when it is repeated.

    Attributes:
        wait: seconds the server asks to wait.
    """

    def __init__(self, message: str, *, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


def download(
    url: str,
    path: str | Path,
    *,
    expected: Member,
    patience: Patience | None = None,
    advance: Callable[[int], object] = lambda count: None,
    say: Callable[[str], object] = lambda text: None,
) -> str:
    """Download a file.

    Args:
        url: its address, http or https; an answer of https is never followed to http.
        path: where it goes; its folder exists. Nothing is there before the file is whole and checked.
        expected: its size and digest, as far as they are known.
        patience: how long it is tried.
        advance: told the bytes that came, or negative ones where a try starts anew.
        say: told of every try that failed.

    Returns:
        Its SHA-256 in hexadecimal digits.

    Raises:
        DownloadError: it is not there, not what was expected, too large, or did not come. What came stays for the next
            call, unless it was wrong.
        OSError: the disk is full or not writable.
    """
    return _Download(url, Path(path), expected, patience or Patience(), advance, say).run()


class _Download:
    """The state of one download: how many bytes of which version are there."""

    def __init__(
        self,
        url: str,
        path: Path,
        expected: Member,
        patience: Patience,
        advance: Callable[[int], object],
        say: Callable[[str], object],
    ) -> None:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise DownloadError("the address must begin with http:// or https://", path=url)
        self.url, self.path, self.expected, self.patience = url, path, expected, patience
        self.advance, self.say = advance, say
        self.part = path.with_name(path.name + PART)
        self.version = path.with_name(path.name + PART + ".json")
        self.opener = urllib.request.build_opener(_Redirects())
        self.continued = False
        """Whether bytes of an earlier try are in the part."""

    def run(self) -> str:
        """All tries."""
        failed, furthest = 0, self._present()
        self.advance(furthest)
        while True:
            try:
                self._attempt()
                return self._finish()
            except _Broken as error:
                present = self._present()
                failed = 1 if present > furthest else failed + 1
                furthest = max(furthest, present)
                if failed >= self.patience.attempts:
                    kept = f"; {present:,} bytes are kept for the next call" if present else ""
                    raise DownloadError(f"{error}, {failed} times{kept}", path=self.url) from None
                wait = max(error.wait, self.patience.backoff * 2 ** (failed - 1))
                wait = min(wait, self.patience.longest_wait)
                self.say(f"{self.url}: {error}; trying again in {wait:.0f} s")
                time.sleep(wait)

    def _present(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _attempt(self) -> None:
        """One request; afterwards the part is whole, or _Broken says why not."""
        present = self._present()
        tag = self._tag()
        if present and tag is None and self.expected.sha256 is None:
            present = self._discard()  # nothing would show that the file has become another one
        headers = {"User-Agent": "softbellman", "Accept-Encoding": "identity"}
        if present:
            headers["Range"] = f"bytes={present}-"
            if tag is not None:
                headers["If-Range"] = tag
        try:
            with self.opener.open(
                urllib.request.Request(self.url, headers=headers), timeout=self.patience.timeout
            ) as answer:
                self._receive(answer, present)
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error)
        except urllib.error.URLError as error:
            self._unreachable(error.reason)
        except ssl.SSLError as error:
            self._unreachable(error)
        except (ConnectionError, TimeoutError, http.client.HTTPException) as error:
            raise _Broken(_reason(error)) from error

    def _refused(self, error: urllib.error.HTTPError) -> None:
        """An answer that is not the file."""
        if error.code == _UNSATISFIABLE and self._present():
            whole = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
            if whole is not None and int(whole[1]) == self._present():
                self.continued = True
                return  # there was no more to send
            self._discard()
            raise _Broken("the server has a shorter file than what was begun")
        message = f"the server answers {error.code} ({error.reason})"
        if error.code in _AGAIN:
            raise _Broken(message, wait=_seconds(error.headers.get("Retry-After")))
        raise DownloadError(message, path=self.url)

    def _unreachable(self, reason: Any) -> None:
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise DownloadError(
                f"the server's certificate is refused: {reason.verify_message}", path=self.url
            )
        raise _Broken(_reason(reason))

    def _receive(self, answer: Any, present: int) -> None:
        """Writes an answer behind what is there, or in its place."""
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise DownloadError(
                "the server sends the file compressed, which was not asked for", path=self.url
            )
        start = self._start(answer, present)
        promised = _length(answer)
        whole = None if promised is None else start + promised
        limit, size = self.expected.limit, self.expected.size
        if whole is not None and (whole > limit or (size is not None and whole != size)):
            raise DownloadError(f"the server has {whole:,} bytes, {self._sought()}", path=self.url)
        if not start:
            if present:
                self._discard()
            self._keep_tag(answer)
        self.continued = self.continued or start > 0
        reached = start
        with open(self.part, "ab") as stream:
            for chunk in self._chunks(answer):
                reached += len(chunk)
                if reached > limit:
                    break
                self._write(stream, chunk)
        if reached > limit:
            self._discard()
            raise DownloadError(
                f"the server sends more than {limit:,} bytes, {self._sought()}", path=self.url
            )
        missing = (size if whole is None else whole) or reached
        if reached < missing:
            raise _Broken(f"the connection ended after {reached:,} of {missing:,} bytes")

    def _sought(self) -> str:
        size = self.expected.size
        return f"at most {self.expected.limit:,} are read" if size is None else f"{size:,} were expected"

    def _start(self, answer: Any, present: int) -> int:
        """The first byte of an answer: 0 where the server sends the whole file, asked for a part of it or not."""
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            return 0
        found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != present:
            self._discard()
            raise _Broken("the server sends another part of the file than was asked for")
        return present

    def _chunks(self, answer: Any) -> Any:
        """The data as they come; _Broken where too few come in time."""
        began, came = time.monotonic(), 0
        while chunk := answer.read1(_CHUNK):
            yield chunk
            came += len(chunk)
            now = time.monotonic()
            if now - began >= self.patience.timeout:
                if came < _SLOWEST:
                    raise _Broken(f"only {came} bytes came in {now - began:.0f} s")
                began, came = now, 0

    def _write(self, stream: IO[bytes], chunk: bytes) -> None:
        try:
            stream.write(chunk)
            stream.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        self.advance(len(chunk))

    def _finish(self) -> str:
        """Checks the part, and gives it its name."""
        found = hashlib.sha256()
        with open(self.part, "rb+") as stream:
            while chunk := stream.read(1 << 20):
                found.update(chunk)
            os.fsync(stream.fileno())
        if self.expected.sha256 not in (None, found.hexdigest()):
            self._discard()
            message = f"its sha256 is {found.hexdigest()}, {self.expected.sha256} was expected"
            if self.continued:
                self.continued = False
                raise _Broken(f"{message}; it was put together from parts")
            raise DownloadError(
                f"{message}: the file is damaged or another one, and was deleted", path=self.url
            )
        os.replace(self.part, self.path)
        self.version.unlink(missing_ok=True)
        flush_folder(self.path.parent)
        return found.hexdigest()

    def _discard(self) -> int:
        """Deletes the part; 0 bytes are there then."""
        self.advance(-self._present())
        self.part.unlink(missing_ok=True)
        self.version.unlink(missing_ok=True)
        return 0

    def _tag(self) -> str | None:
        """What the server called the version of which the part is, where the part is of this address."""
        try:
            record = json.loads(self.version.read_bytes())
            return str(record["tag"]) if record["url"] == self.url and record["tag"] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _keep_tag(self, answer: Any) -> None:
        tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        if tag is not None and tag.startswith("W/"):
            tag = None  # a weak one does not promise the same bytes
        write_atomically(self.version, json.dumps({"url": self.url, "tag": tag}).encode())


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows an answer to another address, never from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """The request of the new address."""
        allowed = ("https",) if req.type == "https" else ("http", "https")
        if urllib.parse.urlsplit(newurl).scheme not in allowed:
            raise DownloadError(
                f"the server sends on to {newurl}, which is not {allowed[0]}", path=req.full_url
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _length(answer: Any) -> int | None:
    """Bytes that an answer promises."""
    text = answer.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and text.isdigit() else 0.0


def _reason(error: Any) -> str:
    """Why a connection failed, in words."""
    if isinstance(error, TimeoutError):
        return "the server does not answer in time"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"the connection failed ({text})"
