"""A hub on loopback that serves one file, well or badly."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

PIECE = 1 << 16


@dataclass
class Hub:
    """Serves ``content`` at any path.

    Attributes:
        breaks: bytes after which each of the next answers breaks off.
        statuses: statuses of the next answers.
        claimed: the size that it claims; None is the true one.
        html: answer with a page, as a portal does.
        missing: have no such file.
        redirects_to: another hub, that it sends everybody to; itself makes a loop.
        knows_ranges: whether it answers with the rest when asked for it.
        wrong_start: bytes that a rest starts too early.
        etag: of the file; None is its digest, "" is none.
        silent: answer nothing at all.
        pause: seconds before each piece of the content.
        requests: headers of every request.
        starts: first byte that was asked for, of every request that got the file.
        sent: bytes that were sent of the file.
    """

    content: bytes
    breaks: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    claimed: int | None = None
    html: bool = False
    missing: bool = False
    redirects_to: Hub | None = None
    knows_ranges: bool = True
    wrong_start: int = 0
    etag: str | None = None
    silent: bool = False
    pause: float = 0.0
    requests: list[dict[str, str]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    sent: int = 0
    endpoint: str = ""

    @property
    def version(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()}"' if self.etag is None else self.etag


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    """The hub, at ``hub.endpoint``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    server.block_on_close = False
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.requests.append(dict(self.headers))
            if hub.silent:
                time.sleep(2)
                self.close_connection = True
            elif hub.statuses:
                self.send_error(hub.statuses.pop(0))
            elif hub.missing:
                self.send_error(404)
            elif hub.redirects_to:
                self.send_response(302)
                self.send_header("Location", hub.redirects_to.endpoint.replace("127.0.0.1", "localhost") + self.path)
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self._send_file()

        def _send_file(self) -> None:
            asked = self.headers.get("Range")
            same = self.headers.get("If-Range") == hub.version
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and same and hub.knows_ranges else 0
            if start >= len(hub.content):
                self.send_error(416)
                return
            hub.starts.append(start)
            content = b"<html>Log in</html>" if hub.html else hub.content[start - hub.wrong_start * bool(start) :]
            self.send_response(206 if start else 200)
            if hub.version:
                self.send_header("ETag", hub.version)
            if start:
                first = start - hub.wrong_start
                self.send_header("Content-Range", f"bytes {first}-{len(hub.content) - 1}/{len(hub.content)}")
            self.send_header("Content-Length", str(len(content) if hub.claimed is None else hub.claimed))
            self.end_headers()
            self._send(content, hub.breaks.pop(0) if hub.breaks else len(content))

        def _send(self, content: bytes, end: int) -> None:
            try:
                for begin in range(0, end, PIECE):
                    time.sleep(hub.pause)
                    piece = content[begin : min(begin + PIECE, end)]
                    self.wfile.write(piece)
                    hub.sent += len(piece)
            except ConnectionError:  # the client was killed
                self.close_connection = True
            if end < len(content):
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return Handler


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's settings for the hub."""
    for name in ("HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "/dev/null")


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A running hub with eight megabytes to fetch."""
    with running(Hub(bytes(range(256)) * 32_768)) as server:
        yield server


@pytest.fixture
def other_hub() -> Iterator[Hub]:
    """Another one, with the same file."""
    with running(Hub(bytes(range(256)) * 32_768)) as server:
        yield server
