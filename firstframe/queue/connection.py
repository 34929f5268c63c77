"""HTTP to one server that may be slow, broken or hostile: every answer is bounded in size and time, and checked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
from pydantic import BaseModel

from .answers import Event, one_line, read
from .errors import JobFailedError, ServerTroubleError

CONNECT_SECONDS = 5.0
HEARTBEAT_SECONDS = 20.0
GOODBYE_SECONDS = 1.0  # for a websocket's other end to say goodbye

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True)
class Limits:
    """What is taken from a server.

    Attributes:
        answer: Bytes of an answer in JSON. The queue of a server holds its graphs: about 3,000 of 20 kB.
        message: Bytes of a message of the websocket; previews are among them.
        output: Bytes of a file.
        seconds: How long it may say nothing at all.
        rate: Bytes per second that it has to send or take on average, after the first ``seconds``.
    """

    answer: int = 64 << 20
    message: int = 16 << 20
    output: int = 8 << 30
    seconds: float = 30.0
    rate: float = 10_000.0

    def seconds_for(self, size: int) -> float:
        """How long so many bytes may take."""
        return self.seconds + size / self.rate


def open_session() -> aiohttp.ClientSession:
    """A session that follows no redirect, keeps no cookie and unpacks nothing."""
    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_refuse_redirect)
    return aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity"},
        auto_decompress=False,
        trace_configs=[trace],
    )


async def _refuse_redirect(*_: object) -> None:
    raise ServerTroubleError("it redirects to another address; name that one if it is meant")


class Connection:
    """Requests to the server at ``url``."""

    def __init__(self, url: str, session: aiohttp.ClientSession, limits: Limits) -> None:
        self.url = url
        self._session = session
        self._limits = limits
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=limits.seconds)

    async def ask(
        self,
        kind: type[T],
        method: str,
        route: str,
        *,
        answered: Collection[int] = (200,),
        refused: Collection[int] = (),
        sends: int = 0,
        **content: Any,
    ) -> T:
        """One request; the JSON that comes back, as a model.

        Args:
            kind: The model.
            method: GET or POST.
            route: What follows the address.
            answered: Statuses that come with such JSON.
            refused: Statuses that are about this job. All others are about the server, or a proxy.
            sends: Bytes in ``content``.
            content: What aiohttp sends.

        Raises:
            JobFailedError: A status in ``refused``.
            ServerTroubleError: The request failed, or the answer is of another form.
        """
        what = f"{method} {route}"
        async with self._request(method, route, sends, **content) as response:
            self._check_status(response, what, answered, refused)
            body = b"".join([chunk async for chunk in self._chunks(response, self._limits.answer)])
        try:
            return read(kind, body)
        except ServerTroubleError as error:
            raise ServerTroubleError(f"{what}: {error}") from error

    async def tell(self, route: str, content: dict[str, Any]) -> None:
        """One POST whose answer is its status."""
        async with self._request("POST", route, json=content) as response:
            self._check_status(response, f"POST {route}")

    async def download(self, route: str, params: dict[str, str], what: str) -> AsyncIterator[bytes]:
        """A file in pieces. Raises JobFailedError where the server does not have it (404)."""
        async with self._request("GET", route, params=params) as response:
            self._check_status(response, what, refused=(404,))
            async for chunk in self._chunks(response, self._limits.output):
                yield chunk

    async def events(self, client: str) -> AsyncIterator[Event]:
        """Messages of the websocket that are about jobs, while it lasts. Others, and nonsense, are passed over: they
        only say when to ask."""
        socket = self._session.ws_connect(
            f"{self.url}/ws?clientId={client}",
            heartbeat=HEARTBEAT_SECONDS,
            max_msg_size=self._limits.message,
            timeout=aiohttp.ClientWSTimeout(ws_close=GOODBYE_SECONDS),
        )
        async with _trouble_told(), socket as messages:
            async for message in messages:
                event = _event(message)
                if event:
                    yield event

    @asynccontextmanager
    async def _request(
        self, method: str, route: str, sends: int = 0, **content: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        async with _trouble_told():
            asking = self._session.request(method, self.url + route, timeout=self._timeout, **content)
            async with await asyncio.wait_for(asking, self._limits.seconds_for(sends)) as response:
                yield response

    def _check_status(
        self,
        response: aiohttp.ClientResponse,
        what: str,
        answered: Collection[int] = (200,),
        refused: Collection[int] = (),
    ) -> None:
        told = f"{what}: status {response.status} {one_line(response.reason or '')}".strip()
        if response.status in refused:
            raise JobFailedError(f"{self.url}: {told}")
        if response.status not in answered:
            raise ServerTroubleError(f"{told}; is this a ComfyUI server?")

    async def _chunks(self, response: aiohttp.ClientResponse, limit: int) -> AsyncIterator[bytes]:
        """The body of an answer."""
        received, start = 0, time.monotonic()
        async for chunk in response.content.iter_any():
            received += len(chunk)
            if received > limit:
                raise ServerTroubleError(f"{response.url.path}: more than {limit:,} bytes")
            if time.monotonic() - start > self._limits.seconds_for(received):
                raise ServerTroubleError(f"{response.url.path}: {received:,} bytes took too long")
            yield chunk


@asynccontextmanager
async def _trouble_told() -> AsyncIterator[None]:
    """Turn what aiohttp raises into ServerTroubleError."""
    try:
        yield
    except (aiohttp.ClientError, asyncio.TimeoutError) as error:
        raise ServerTroubleError(one_line(str(error)) or "no answer in time") from error


def _event(message: aiohttp.WSMessage) -> Event | None:
    if message.type is not aiohttp.WSMsgType.TEXT:  # binary ones are previews
        return None
    try:
        return read(Event, message.data)
    except ServerTroubleError:
        return None
