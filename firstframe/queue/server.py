"""One ComfyUI server, over its public API. What may be tried again is tried again, with growing waits.

Routes: POST /upload/image, POST /prompt, GET /queue, GET /history/{id}, GET /view, POST /queue {"delete": …},
POST /interrupt, and the websocket /ws?clientId=….
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import aiohttp
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from ..errors import FirstFrameError
from .plan import Job, Picture

CHUNK = 1 << 20  # bytes
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=60.0)
HEARTBEAT_SECONDS = 20.0
LONGEST_WAIT = 8.0  # seconds between two tries
TROUBLE = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, asyncio.TimeoutError)
"""A connection that could not be made or that broke. With `_ServerError`: what is tried again."""

P = ParamSpec("P")
T = TypeVar("T")


class ServerGoneError(FirstFrameError):
    """A server that cannot be reached, or does not answer as it should, after all tries."""


class JobFailedError(FirstFrameError):
    """The server says that this job cannot be done. Sending it again would not help."""

    def __init__(self, reason: str, **facts: Any) -> None:
        super().__init__(reason)
        self.facts = facts


class _ServerError(Exception):
    """An answer that is not about the job: status 5xx, or something else that is no ComfyUI."""


@dataclass(frozen=True)
class Retries:
    """How often a request is sent, and how long the first wait is (seconds); each further one is twice as long."""

    tries: int = 5
    first_wait: float = 0.5


@dataclass(frozen=True)
class Ended:
    """A job in the server's history: its files (as /view wants them), or why there are none, and how long the server
    was at it (seconds)."""

    files: list[dict[str, str]]
    failure: JobFailedError | None
    seconds: float = 0.0


class Server:
    """A server at a URL. ``client`` is the id that it sends the events of our jobs to."""

    def __init__(self, url: str, client: str, session: aiohttp.ClientSession, retries: Retries) -> None:
        self.url = url
        self.client = client
        self._session = session
        self._retries = retries
        self._uploaded: set[str] = set()

    async def trouble(self) -> str | None:
        """Why it does not answer now; None if it does."""
        try:
            await self._queued()
        except (*TROUBLE, _ServerError) as error:
            return str(error) or type(error).__name__
        return None

    async def upload(self, picture: Picture) -> None:
        """Bring a picture into the server's input folder, once.

        Raises JobFailedError where the file has gone or changed since the jobs were planned.
        """
        if picture.sha256 in self._uploaded:
            return
        try:
            content = picture.path.read_bytes()
        except OSError as error:
            raise JobFailedError(f"{picture.path} cannot be read: {error}") from error
        if hashlib.sha256(content).hexdigest() != picture.sha256:
            raise JobFailedError(f"{picture.path} was changed while the queue was at work; start it again")
        stored = await self._patiently(self._upload_once, picture.upload_name, content)
        if stored["name"] != picture.upload_name:
            raise JobFailedError(f"{self.url}: another file is in the way; remove input/{picture.upload_name} there")
        self._uploaded.add(picture.sha256)

    async def _upload_once(self, name: str, content: bytes) -> dict[str, Any]:
        form = aiohttp.FormData()
        form.add_field("image", content, filename=name)
        form.add_field("type", "input")
        return await self._once("POST", "/upload/image", {400, 413}, data=form)

    async def submit(self, job: Job, prompt_id: str) -> None:
        """Queue a job under an id of ours, unless it is there already: a try whose answer was lost may have arrived.

        Raises JobFailedError where the server refuses the graph, or a part of it.
        """
        answer = await self._patiently(self._submit_once, job, prompt_id)
        if answer.get("error") or answer.get("node_errors"):
            await self.cancel([prompt_id])  # the other outputs of a graph that is refused in part
            raise _refusal(answer)

    async def _submit_once(self, job: Job, prompt_id: str) -> dict[str, Any]:
        if await self._find_once(prompt_id) is not None:
            return {}
        body = {
            "prompt": job.graph,
            "prompt_id": prompt_id,
            "client_id": self.client,
            "extra_data": {"firstframe_queue": {"job": job.id, "name": job.name}},
        }
        return await self._once("POST", "/prompt", json=body)

    async def find(self, prompt_id: str) -> Ended | bool | None:
        """`Ended` where the job is in the history, True where it waits or runs, None where the server does not know
        it: then it never arrived, or the server was restarted, or someone took it off the queue."""
        return await self._patiently(self._find_once, prompt_id)

    async def _find_once(self, prompt_id: str) -> Ended | bool | None:
        # In this order: a job that ends between the two requests is still seen.
        running, waiting = await self._queued()
        history = await self._once("GET", f"/history/{prompt_id}")
        if prompt_id in history:
            return _ended(history[prompt_id])
        return True if prompt_id in (*running, *waiting) else None

    async def _queued(self) -> tuple[list[str], list[str]]:
        """Ids of what runs, and of what waits."""
        queue = await self._once("GET", "/queue")
        return [item[1] for item in queue["queue_running"]], [item[1] for item in queue["queue_pending"]]

    async def fetch(self, file: dict[str, str], target: Path) -> dict[str, Any]:
        """Download an output; its name, size and digest. ``target`` gets its name when all of it is on the disk."""
        part = target.with_name(f".{target.name}.part")
        digest = await self._patiently(self._download, file, part)
        size = part.stat().st_size
        part.replace(target)
        return {"file": target.name, "bytes": size, "sha256": digest}

    async def _download(self, file: dict[str, str], part: Path) -> str:
        digest = hashlib.sha256()
        async with self._session.get(f"{self.url}/view", params=file) as response:
            self._check(response, f"output {file['filename']}", {404})
            with part.open("wb") as sink:
                async for chunk in response.content.iter_chunked(CHUNK):
                    digest.update(chunk)
                    sink.write(chunk)
                sink.flush()
                os.fsync(sink.fileno())
        return digest.hexdigest()

    async def cancel(self, prompt_ids: Iterable[str]) -> None:
        """Take these jobs off the queue, and stop the one of them that runs. Nothing else is touched: a host too old to
        know ``prompt_id`` in /interrupt is asked only while what runs is one of these."""
        ids = list(prompt_ids)
        await self._patiently(self._cancel_once, ids)

    async def _cancel_once(self, ids: list[str]) -> None:
        await self._once("POST", "/queue", json={"delete": ids})
        running, _ = await self._queued()
        for id in set(ids) & set(running):
            await self._once("POST", "/interrupt", json={"prompt_id": id})

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Messages of the websocket, while it lasts."""
        address = f"{self.url}/ws?clientId={self.client}"
        with suppress(*TROUBLE, aiohttp.WSServerHandshakeError):
            async with self._session.ws_connect(address, heartbeat=HEARTBEAT_SECONDS, max_msg_size=0) as socket:
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:  # binary ones are preview pictures
                        yield message.json()

    async def _patiently(self, act: Callable[P, Awaitable[T]], *of: P.args, **how: P.kwargs) -> T:
        """What ``act`` gives, after as many tries as it takes or are allowed."""
        trying = AsyncRetrying(
            retry=retry_if_exception_type((*TROUBLE, _ServerError)),
            stop=stop_after_attempt(self._retries.tries),
            wait=wait_exponential_jitter(self._retries.first_wait, LONGEST_WAIT, jitter=self._retries.first_wait),
            reraise=True,
        )
        try:
            return await trying(act, *of, **how)
        except (*TROUBLE, _ServerError) as error:
            self._uploaded.clear()  # it may come back with another input folder
            raise ServerGoneError(f"{self.url}: {error or type(error).__name__}") from error

    async def _once(self, method: str, route: str, refusals: Iterable[int] = (), **content: Any) -> dict[str, Any]:
        """One request; the JSON that comes back."""
        async with self._session.request(method, self.url + route, **content) as response:
            text = await response.text()
            if not (response.status == 400 and route == "/prompt"):
                self._check(response, f"{method} {route}", refusals)
        try:
            answer: dict[str, Any] = json.loads(text or "{}")
        except ValueError as error:
            raise _ServerError(f"{method} {route} gave no JSON; is this a ComfyUI server?") from error
        return answer

    def _check(self, response: aiohttp.ClientResponse, what: str, refusals: Iterable[int]) -> None:
        """``refusals``: statuses that are about this job. All others but 200 are about the server, or a proxy."""
        if response.status in refusals:
            raise JobFailedError(f"{self.url}: {what}: status {response.status} {response.reason}")
        if response.status != 200:
            raise _ServerError(f"{what}: status {response.status} {response.reason}; is this a ComfyUI server?")


def _ended(entry: dict[str, Any]) -> Ended:
    """An entry of the history. Also where everything was remembered from an earlier run, it lists the files."""
    messages = dict(entry["status"]["messages"])
    if "execution_error" in messages:
        return Ended([], _execution_error(messages["execution_error"]))
    if "execution_success" not in messages:
        return Ended([], JobFailedError("interrupted at the server"))
    files = _files(entry["outputs"])
    began, ended = (messages[event]["timestamp"] for event in ("execution_start", "execution_success"))
    failure = None if files else JobFailedError("it ended well, but no node saved a file")
    return Ended(files, failure, (ended - began) / 1000)


def _execution_error(data: dict[str, Any]) -> JobFailedError:
    node, kind = data["node_id"], data["node_type"]
    reason = f"node {node} ({kind}): {data['exception_type']}: {data['exception_message'].strip()}"
    return JobFailedError(reason, node_id=node, node_type=kind)


def _refusal(answer: dict[str, Any]) -> JobFailedError:
    """What a server said to a graph that it does not take."""
    reasons = [
        f"node {node} ({found['class_type']}): {error['message']}: {error['details']}"
        for node, found in answer.get("node_errors", {}).items()
        for error in found["errors"]
    ]
    first = next(iter(answer["node_errors"].items()), None) if reasons else None
    facts = {"node_id": first[0], "node_type": first[1]["class_type"]} if first else {}
    error = answer.get("error") or {}
    return JobFailedError("; ".join(reasons) or f"{error['message']} {error['details']}".strip(), **facts)


def _files(outputs: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
    """What nodes saved, in the order of their ids: outputs, or else the previews."""
    lists = [found for _, output in sorted(outputs.items()) for found in output.values() if isinstance(found, list)]
    files = [file for found in lists for file in found if isinstance(file, dict) and "filename" in file]
    wanted = [file for file in files if file["type"] == "output"] or files
    return [{name: file[name] for name in ("filename", "subfolder", "type")} for file in wanted]
