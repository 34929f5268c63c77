"""A hub on loopback that serves one file, well or badly."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Hub:
    """Serves ``content`` at any path.

    Attributes:
        drop_after: bytes after which the first answer breaks off; None never does.
        claimed: the size that it claims; None is the true one.
        html: answer with a page, as a portal does.
        missing: have no such file.
        requests: method and first byte asked for, of every request.
    """

    content: bytes
    drop_after: int | None = None
    claimed: int | None = None
    html: bool = False
    missing: bool = False
    requests: list[tuple[str, int]] = field(default_factory=list)
    endpoint: str = ""


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    """The hub, at ``hub.endpoint``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
            hub.requests.append((self.command, start))
            if hub.missing:
                self.send_error(404)
                return
            content = b"<html>Log in</html>" if hub.html else hub.content[start:]
            self.send_response(206 if start else 200)
            if not hub.html:
                self.send_header("ETag", f'"{hashlib.sha256(hub.content).hexdigest()}"')
                self.send_header("X-Repo-Commit", "0" * 40)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(hub.content) - 1}/{len(hub.content)}")
            length = len(content) if hub.claimed is None else hub.claimed
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if body:
                self.wfile.write(content[: hub.drop_after])
                if hub.drop_after is not None:
                    hub.drop_after = None
                    self.connection.close()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return Handler


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A running hub with 25 megabytes to fetch."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with running(Hub(bytes(range(256)) * 100_000)) as server:
        yield server
