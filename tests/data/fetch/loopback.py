"""A server on the loopback that breaks off, stalls and lies: for each request one behaviour, in the order they are given."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Behaviour:
    """What one answer does.

    Attributes:
        status: 200 (206 where a part is asked for), or an error's.
        sends: bytes after which the connection is closed; None: all.
        stalls: after these bytes it waits until the test is over.
        drips: seconds between two bytes.
        ignores_range: the whole file whatever was asked for.
        promises: a Content-Length of its own; -1: none.
        content: another content than the file's.
        tag: an ETag of its own; "" none.
        to: an address that is sent on to.
        headers: further ones.
    """

    status: int = 200
    sends: int | None = None
    stalls: bool = False
    drips: float = 0.0
    ignores_range: bool = False
    promises: int | None = None
    content: bytes | None = None
    tag: str = '"one"'
    to: str = ""
    headers: dict[str, str] = field(default_factory=dict)


class Loopback:
    """Serves `files` by their path; `behaviours` are used up by the requests, afterwards it behaves well.

    Attributes:
        asked: (path, Range) of every request.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.behaviours: list[Behaviour] = []
        self.asked: list[tuple[str, str | None]] = []
        self.over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        """The address of its folder."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def ranges(self) -> list[str | None]:
        """The parts that were asked for."""
        return [asked for _, asked in self.asked]

    def close(self) -> None:
        """Ends all answers and the server."""
        self.over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(server: Loopback) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            server.asked.append((self.path, asked))
            behaviour = server.behaviours.pop(0) if server.behaviours else Behaviour()
            name = self.path.lstrip("/")
            if behaviour.to:
                self.send_response(302)
                self.send_header("Location", behaviour.to)
                self.end_headers()
                return
            if behaviour.status >= 400 or name not in server.files:
                self.answer(behaviour, behaviour.status if behaviour.status >= 400 else 404, b"an error", {})
                return
            content = server.files[name] if behaviour.content is None else behaviour.content
            headers = {"ETag": behaviour.tag} if behaviour.tag else {}
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
            fits = self.headers.get("If-Range") in (None, behaviour.tag)
            if behaviour.ignores_range or not asked or not fits:
                self.answer(behaviour, 200, content, headers)
            elif start >= len(content):
                self.answer(behaviour, 416, b"", {"Content-Range": f"bytes */{len(content)}"})
            else:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                self.answer(behaviour, 206, content[start:], headers)

        def answer(self, behaviour: Behaviour, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            length = len(content) if behaviour.promises is None else behaviour.promises
            for name, value in {**headers, **behaviour.headers}.items():
                self.send_header(name, value)
            if length >= 0:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            sent = content if behaviour.sends is None else content[: behaviour.sends]
            try:
                if behaviour.drips:
                    for byte in sent:
                        self.wfile.write(bytes([byte]))
                        if server.over.wait(behaviour.drips):
                            return
                else:
                    self.wfile.write(sent)
                if behaviour.stalls:
                    server.over.wait(20)
            except OSError:
                pass  # the client has left

    return Handler
