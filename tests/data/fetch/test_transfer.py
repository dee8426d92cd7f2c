"""A download from a server that breaks off, stalls and lies ends with the right file, or with a sentence and no file."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from loopback import Behaviour, Loopback

from softbellman.data.fetch import DownloadError, Member, Patience, download, transfer

CONTENT = bytes(range(256)) * 300  # more than one chunk
SIZE = len(CONTENT)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
KNOWN = Member("file", size=SIZE, sha256=SHA256)
UNKNOWN = Member("file", at_most=10 * SIZE)
HASTY = Patience(timeout=0.3, attempts=3, backoff=0.0)

Get = Callable[..., str]


@pytest.fixture
def get(server: Loopback, tmp_path: Path) -> Get:
    server.files["file"] = CONTENT

    def run(expected: Member = KNOWN, patience: Patience = HASTY, **options: object) -> str:
        return download(
            f"{server.url}/file", tmp_path / "file", expected=expected, patience=patience, **options
        )

    return run


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("expected", [KNOWN, UNKNOWN])
def test_a_whole_file_and_its_digest(get: Get, tmp_path: Path, expected: Member) -> None:
    counted: list[int] = []
    assert get(expected, advance=counted.append) == SHA256
    assert (tmp_path / "file").read_bytes() == CONTENT and left(tmp_path) == {"file"}
    assert sum(counted) == SIZE


@pytest.mark.parametrize("expected", [KNOWN, UNKNOWN])
@pytest.mark.parametrize("stalls", [False, True])
def test_what_broke_off_or_stalled_is_continued(
    get: Get, server: Loopback, tmp_path: Path, expected: Member, stalls: bool
) -> None:
    said: list[str] = []
    counted: list[int] = []
    server.behaviours = [Behaviour(sends=70_000, stalls=stalls), Behaviour(sends=3_000, stalls=stalls)]
    assert get(expected, say=said.append, advance=counted.append) == SHA256
    assert server.ranges == [None, "bytes=70000-", "bytes=73000-"]
    assert (tmp_path / "file").read_bytes() == CONTENT and left(tmp_path) == {"file"}
    assert sum(counted) == SIZE and len(said) == 2
    assert ("does not answer in time" if stalls else "ended after 70,000 of 76,800 bytes") in said[0]


def test_a_later_call_continues_where_the_first_gave_up(get: Get, server: Loopback, tmp_path: Path) -> None:
    server.behaviours = [Behaviour(sends=50_000), *[Behaviour(status=503)] * 3]
    with pytest.raises(
        DownloadError, match=r"answers 503 .*, 3 times; 50,000 bytes are kept for the next call"
    ):
        get(UNKNOWN)
    assert left(tmp_path) == {"file.part", "file.part.json"}
    assert get(UNKNOWN) == SHA256 and server.ranges[-1] == "bytes=50000-"
    assert left(tmp_path) == {"file"}


def test_tries_that_bring_something_new_do_not_count(get: Get, server: Loopback) -> None:
    server.behaviours = [Behaviour(sends=9_000)] * 8
    assert get() == SHA256 and len(server.asked) == 9


def test_a_server_that_ignores_ranges_sends_the_whole_file_again(
    get: Get, server: Loopback, tmp_path: Path
) -> None:
    counted: list[int] = []
    server.behaviours = [Behaviour(sends=70_000), Behaviour(ignores_range=True)]
    assert get(advance=counted.append) == SHA256
    assert server.ranges == [None, "bytes=70000-"] and sum(counted) == SIZE
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_another_version_of_the_file_is_not_joined_to_what_was_begun(get: Get, server: Loopback) -> None:
    other = CONTENT[::-1]
    server.behaviours = [Behaviour(sends=40_000, content=other, tag='"zero"')]
    assert get(UNKNOWN) == SHA256  # If-Range: the version has changed, so the whole file comes


def test_parts_that_do_not_fit_together_are_fetched_anew(get: Get, server: Loopback) -> None:
    server.behaviours = [Behaviour(sends=40_000, content=CONTENT[::-1], tag="")]
    said: list[str] = []
    assert get(say=said.append) == SHA256 and server.ranges == [None, "bytes=40000-", None]
    assert "it was put together from parts" in said[-1]


def test_without_any_sign_of_the_version_a_file_of_unknown_content_starts_anew(
    get: Get, server: Loopback
) -> None:
    server.behaviours = [Behaviour(sends=40_000, tag=tag) for tag in ("", 'W/"weak"')]
    assert get(UNKNOWN) == SHA256 and server.ranges == [None, None, None]


def test_a_wrong_part_is_not_taken(get: Get, server: Loopback) -> None:
    wrong = Behaviour(headers={"Content-Range": "bytes 5-9/10"}, status=206)
    server.behaviours = [Behaviour(sends=40_000), wrong]
    wrong.tag = '"one"'
    assert get() == SHA256


def test_a_part_that_is_whole_already(get: Get, server: Loopback, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert get() == SHA256 and server.ranges == [f"bytes={SIZE}-"]


def test_a_whole_part_with_another_content_is_fetched_anew(
    get: Get, server: Loopback, tmp_path: Path
) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[::-1])
    assert get() == SHA256 and server.ranges == [f"bytes={SIZE}-", None]


def test_a_file_that_comes_compressed_is_refused(get: Get, server: Loopback, tmp_path: Path) -> None:
    server.behaviours = [Behaviour(headers={"Content-Encoding": "gzip"})]
    with pytest.raises(DownloadError, match="sends the file compressed"):
        get(UNKNOWN)
    assert left(tmp_path) == set()


def test_a_part_that_is_longer_than_the_file_is_thrown_away(
    get: Get, server: Loopback, tmp_path: Path
) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT + b"more")
    assert get() == SHA256 and server.ranges == [f"bytes={SIZE + 4}-", None]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_what_is_not_there_is_not_asked_for_again(
    get: Get, server: Loopback, tmp_path: Path, status: int
) -> None:
    server.behaviours = [Behaviour(status=status)]
    with pytest.raises(DownloadError, match=rf"http://127\.0\.0\.1.*/file: the server answers {status}"):
        get()
    assert len(server.asked) == 1 and left(tmp_path) == set()


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_server_in_trouble_is_asked_again(get: Get, server: Loopback, status: int) -> None:
    server.behaviours = [Behaviour(status=status)] * 2
    assert get() == SHA256
    server.behaviours = [Behaviour(status=status)] * 3
    with pytest.raises(DownloadError, match=rf"answers {status} .*, 3 times$"):
        get()


def test_the_waits_double_and_follow_the_server_up_to_a_limit(
    get: Get, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(transfer.time, "sleep", waits.append)
    server.behaviours = [
        Behaviour(status=500),
        Behaviour(status=500),
        Behaviour(status=503, headers={"Retry-After": "7"}),
        Behaviour(status=503, headers={"Retry-After": "3600"}),
        Behaviour(status=500),
    ]
    assert get(patience=Patience(timeout=1, attempts=6, backoff=1.0, longest_wait=20.0)) == SHA256
    assert waits == [1.0, 2.0, 7.0, 20.0, 16.0]


def test_a_wrong_content_is_refused_and_deleted(get: Get, server: Loopback, tmp_path: Path) -> None:
    server.behaviours = [Behaviour(content=CONTENT[::-1])]
    with pytest.raises(DownloadError, match=rf"sha256 is [0-9a-f]{{64}}, {SHA256} was expected.*deleted"):
        get()
    assert left(tmp_path) == set() and len(server.asked) == 1


@pytest.mark.parametrize("promised", [SIZE - 1, SIZE + 1, 3])
def test_another_length_than_that_of_the_table_is_refused(
    get: Get, server: Loopback, tmp_path: Path, promised: int
) -> None:
    server.behaviours = [Behaviour(promises=promised)]
    with pytest.raises(DownloadError, match=rf"has {promised:,} bytes, {SIZE:,} were expected"):
        get()
    assert "file" not in left(tmp_path)


def test_a_promise_of_more_than_comes_is_a_broken_connection(
    get: Get, server: Loopback, tmp_path: Path
) -> None:
    server.behaviours = [Behaviour(promises=SIZE + 500, ignores_range=True)] * 9
    with pytest.raises(DownloadError, match=r"ended after 76,800 of 77,300 bytes, 3 times"):
        get(UNKNOWN)
    assert "file" not in left(tmp_path)


def test_no_promise_at_all(get: Get, server: Loopback) -> None:
    server.behaviours = [Behaviour(promises=-1, sends=1000), Behaviour(promises=-1)]
    assert get() == SHA256 and server.ranges == [None, "bytes=1000-"]


@pytest.mark.parametrize("promises", [None, -1])
def test_more_than_is_allowed_is_not_read(
    get: Get, server: Loopback, tmp_path: Path, promises: int | None
) -> None:
    server.behaviours = [Behaviour(promises=promises)]
    with pytest.raises(DownloadError, match=r"at most 5,000 are read"):
        get(Member("file", at_most=5_000))
    assert left(tmp_path) == set()


def test_a_trickle_is_a_stall(get: Get, server: Loopback) -> None:
    server.behaviours = [Behaviour(drips=0.05)]
    said: list[str] = []
    assert get(say=said.append) == SHA256
    assert "bytes came in 0 s" in said[0] and server.ranges[1] is not None


def test_other_addresses_are_followed_but_not_out_of_http(get: Get, server: Loopback) -> None:
    server.files["elsewhere"] = CONTENT
    server.behaviours = [Behaviour(to="/elsewhere")]
    assert get() == SHA256 and server.asked[-1][0] == "/elsewhere"
    server.behaviours = [Behaviour(to="ftp://127.0.0.1/file")]
    with pytest.raises(DownloadError, match=r"sends on to ftp://127\.0\.0\.1/file"):
        get()


def test_https_is_not_followed_to_http() -> None:
    from urllib.request import Request

    request = Request("https://example.invalid/file", headers={"Range": "bytes=3-"})
    answer = (request, None, 302, "Found", {})
    with pytest.raises(DownloadError, match="which is not https"):
        transfer._Redirects().redirect_request(*answer, "http://example.invalid/file")
    followed = transfer._Redirects().redirect_request(*answer, "https://other.invalid/file")
    assert followed is not None and followed.get_header("Range") == "bytes=3-"


def test_nobody_there(tmp_path: Path, server: Loopback) -> None:
    url = f"{server.url}/file"
    server.close()
    with pytest.raises(DownloadError, match=r"the connection failed .*, 3 times$"):
        download(url, tmp_path / "file", expected=KNOWN, patience=HASTY)
    with pytest.raises(DownloadError, match="must begin with http:// or https://"):
        download("file:///etc/passwd", tmp_path / "file", expected=KNOWN)


def test_a_full_disk_names_the_file(get: Get, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    def opened(path: Path, mode: str) -> object:
        return Full() if mode == "ab" else open(path, mode)

    monkeypatch.setattr(transfer, "open", opened, raising=False)
    with pytest.raises(OSError, match="No space left") as caught:
        get()
    assert caught.value.filename == str(tmp_path / "file")


@pytest.mark.parametrize("options", [{"timeout": 0}, {"attempts": 0}, {"backoff": -1}, {"longest_wait": -1}])
def test_patience_has_limits(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive timeout and at least one attempt"):
        Patience(**options)
