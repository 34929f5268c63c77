"""Ways in which a server misbehaves: each turns a true answer of `FakeComfy` into another one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

Lie = Callable[[web.Request, web.StreamResponse], Awaitable[web.StreamResponse]]
"""From a request and its true answer to what is sent instead."""

MIB = b" " * (1 << 20)


def body(content: bytes, status: int = 200) -> Lie:
    """The same bytes to everybody."""

    async def lie(_: web.Request, __: web.StreamResponse) -> web.StreamResponse:
        return web.Response(body=content, status=status, content_type="application/json")

    return lie


def changed(change: Callable[[Any], Any]) -> Lie:
    """The true JSON, changed."""

    async def lie(_: web.Request, true: web.StreamResponse) -> web.StreamResponse:
        assert isinstance(true, web.Response) and isinstance(true.body, bytes)
        return web.Response(body=json.dumps(change(json.loads(true.body or b"{}"))).encode())

    return lie


def at(path: str, value: Any) -> Callable[[Any], Any]:
    """Sets what is at a path, where it is there. ``*`` is every key or index."""

    def change(answer: Any) -> Any:
        _set(answer, path.split("."), value)
        return answer

    return change


def _set(answer: Any, path: list[str], value: Any) -> None:
    if not isinstance(answer, dict | list):
        return
    places = list(range(len(answer))) if isinstance(answer, list) else list(answer)
    for place in (p for p in places if path[0] in ("*", str(p))):
        if len(path) == 1:
            answer[place] = value
        else:
            _set(answer[place], path[1:], value)


def without(name: str) -> Lie:
    """The true JSON without a field, wherever that is."""

    def change(answer: Any) -> Any:
        if isinstance(answer, dict):
            return {key: change(value) for key, value in answer.items() if key != name}
        return [change(value) for value in answer] if isinstance(answer, list) else answer

    return changed(change)


def streamed(piece: bytes, pieces: int, seconds: float = 0.0, **headers: str) -> Lie:
    """A body in pieces, with a wait before each."""

    async def lie(request: web.Request, _: web.StreamResponse) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        for _ in range(pieces):
            await asyncio.sleep(seconds)
            await response.write(piece)
        return response

    return lie


async def no_answer(_: web.Request, true: web.StreamResponse) -> web.StreamResponse:
    """No header for a long time."""
    await asyncio.sleep(5)
    return true


async def redirect(request: web.Request, _: web.StreamResponse) -> web.StreamResponse:
    """To itself."""
    raise web.HTTPTemporaryRedirect(request.path_qs)


async def no_http(request: web.Request, true: web.StreamResponse) -> web.StreamResponse:
    """Something else than HTTP."""
    assert request.transport
    request.transport.write(b"SSH-2.0-OpenSSH_9.6\r\n\x00\xff" + b"A" * 100_000)
    request.transport.close()
    return true


HUGE = streamed(MIB, 1500)
DRIP = streamed(b" ", 500, 0.02)
DEEP = body(b"[" * 200_000)
JSON_ROUTES = ("/queue", "/history", "/prompt", "/upload")

BEHAVIOURS: dict[str, dict[str, Lie]] = {
    "another status": {"/history": body(b"{}", 302)},
    "arrays for objects": {route: body(b"[]") for route in JSON_ROUTES},
    "bare null": {"/history": body(b"null")},
    "bomb of brackets": {"/history": DEEP},
    "cut json": {"/history": body(b'{"a": {"status"')},
    "drips": {"/history": DRIP},
    "drips a film": {"/view": DRIP},
    "empty": {"/history": body(b"")},
    "endless film": {"/view": HUGE},
    "films above their folder": {"/history": changed(at("*.outputs.*.*.*.filename", "../../above.mp4"))},
    "films at the root": {"/history": changed(at("*.outputs.*.*.*.filename", "/tmp/root.mp4"))},
    "folder above": {"/history": changed(at("*.outputs.*.*.*.subfolder", "../.."))},
    "huge number": {"/history": body(b'{"a": 1' + b"0" * 10_000 + b"}")},
    "huge queue": {"/queue": HUGE},
    "long name": {"/history": changed(at("*.outputs.*.*.*.filename", "x" * 100_000))},
    "login page": {route: body(b"<html>Log in</html>") for route in JSON_ROUTES},
    "no history": {"/history": body(b"{}")},
    "no http": {"/history": no_http},
    "no messages": {"/history": without("messages")},
    "no outputs": {"/history": without("outputs")},
    "no text": {"/history": body(b'{"\xff\xfe": 1}')},
    "not gzip": {"/history": streamed(b"nonsense", 1, **{"Content-Encoding": "gzip"})},
    "null byte": {"/history": changed(at("*.outputs.*.*.*.filename", "a\x00.mp4"))},
    "null status": {"/history": changed(at("*.status", None))},
    "redirects": dict.fromkeys((*JSON_ROUTES, "/view", "/ws"), redirect),
    "start of another type": {"/history": changed(at("*.status.messages.0.1.timestamp", "noon"))},
}

UNCLEAR: dict[str, Lie] = {
    "no answer": no_answer,
    "no id": body(b"{}"),
    "null refusal": body(b'{"error": null, "node_errors": null}', 400),
}
"""Answers to /prompt that leave open whether the job was queued."""

CHATTER: list[str | bytes] = [
    b"\x00\xff" * 1000,
    "",
    "null",
    "[]",
    "{",
    "[" * 10_000,
    '{"type": null, "data": null}',
    '{"type": "progress", "data": {"prompt_id": ["x"], "value": "x"}}',
    '{"type": "progress", "data": {"prompt_id": "x", "value": 1e400, "max": -1}}',
    '{"type": "executing", "data": "x"}',
    '{"type": "some.pack.of.nodes", "data": [1, 2]}',
]
"""Messages of a websocket that are none of ours."""
