"""One ComfyUI server, over its public API. What may be tried again is tried again, with growing waits.

Routes: POST /upload/image, POST /prompt, GET /queue, GET /history/{id}, GET /view, POST /queue {"delete": …},
POST /interrupt, and the websocket /ws?clientId=….
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import aiohttp
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from ..clips.leftovers import part_name
from .answers import Accepted, Event, File, History, Queued, Stored
from .connection import Connection, Limits
from .errors import JobFailedError, ServerGoneError, ServerTroubleError
from .plan import Job, SourceImage
from .results import JobResult, job_result, refusal

LONGEST_WAIT = 8.0  # seconds between two tries

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Retries:
    """How often a request is sent, and how long the first wait is (seconds); each further one is twice as long."""

    tries: int = 5
    first_wait: float = 0.5


class Server:
    """A server at a URL. ``client`` is the id that it sends the events of our jobs to.

    Every method but `probe` raises ServerGoneError where the server does not answer, or not as ComfyUI does, in all
    tries. The message starts with the URL.
    """

    def __init__(
        self, url: str, client: str, session: aiohttp.ClientSession, retries: Retries, limits: Limits | None = None
    ) -> None:
        self.url = url
        self.client = client
        self._connection = Connection(url, session, limits or Limits())
        self._retries = retries
        self._uploaded: set[str] = set()

    async def probe(self) -> str | None:
        """Why it does not answer now, in one try; None if it does."""
        try:
            await self._queued()
        except ServerTroubleError as error:
            return str(error)
        return None

    async def upload(self, image: SourceImage) -> None:
        """Bring an image into the server's input folder, once.

        Raises:
            JobFailedError: The file has gone or changed since the jobs were planned.
        """
        if image.sha256 in self._uploaded:
            return
        try:
            content = image.path.read_bytes()
        except OSError as error:
            raise JobFailedError(f"{image.path} cannot be read: {error}") from error
        if hashlib.sha256(content).hexdigest() != image.sha256:
            raise JobFailedError(f"{image.path} was changed while the queue was at work; start it again")
        stored = await self._with_retries(self._upload_once, image.upload_name, content)
        if stored.name != image.upload_name:
            raise ServerGoneError(f"{self.url}: another file is in the way; remove input/{image.upload_name} there")
        self._uploaded.add(image.sha256)

    async def _upload_once(self, name: str, content: bytes) -> Stored:
        form = aiohttp.FormData()
        form.add_field("image", content, filename=name)
        form.add_field("type", "input")
        return await self._connection.ask(
            Stored, "POST", "/upload/image", refused=(400, 413), sends=len(content), data=form
        )

    async def submit(self, job: Job, prompt_id: str) -> None:
        """Queue a job under an id of ours, unless it is there already: a try whose answer was lost may have arrived.

        Raises:
            JobFailedError: The server refuses the graph, or a part of it.
        """
        answer = await self._with_retries(self._submit_once, job, prompt_id)
        refused = refusal(answer)
        if refused:
            await self.cancel([prompt_id])  # the other outputs of a graph that is refused in part
            raise refused

    async def _submit_once(self, job: Job, prompt_id: str) -> Accepted:
        if await self._find_once(prompt_id) is not None:
            return Accepted(prompt_id=prompt_id)
        body = {
            "prompt": job.graph,
            "prompt_id": prompt_id,
            "client_id": self.client,
            "extra_data": {"firstframe_queue": {"job": job.id, "name": job.name}},
        }
        return await self._connection.ask(Accepted, "POST", "/prompt", answered=(200, 400), json=body)

    async def find(self, prompt_id: str) -> JobResult | bool | None:
        """`JobResult` where the job is in the history, True where it waits or runs, None where the server does not know
        it: then it never arrived, or the server was restarted, or someone took it off the queue."""
        return await self._with_retries(self._find_once, prompt_id)

    async def _find_once(self, prompt_id: str) -> JobResult | bool | None:
        # In this order: a job that ends between the two requests is still seen.
        queued = await self._queued()
        history = (await self._connection.ask(History, "GET", f"/history/{prompt_id}")).root
        if prompt_id in history:
            return job_result(history[prompt_id])
        return True if prompt_id in (*queued.queue_running, *queued.queue_pending) else None

    async def _queued(self) -> Queued:
        return await self._connection.ask(Queued, "GET", "/queue")

    async def fetch(self, file: File, target: Path) -> dict[str, Any]:
        """Download an output; its name, size and digest. ``target`` gets its name when all of it is on the disk."""
        part = target.with_name(part_name(target.name))
        try:
            digest = await self._with_retries(self._download, file, part)
            size = part.stat().st_size
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return {"file": target.name, "bytes": size, "sha256": digest}

    async def _download(self, file: File, part: Path) -> str:
        digest = hashlib.sha256()
        with part.open("wb") as sink:
            async for chunk in self._connection.download("/view", file.model_dump(), f"output {file.filename}"):
                digest.update(chunk)
                sink.write(chunk)
            sink.flush()
            os.fsync(sink.fileno())
        return digest.hexdigest()

    async def cancel(self, prompt_ids: Iterable[str]) -> None:
        """Take these jobs off the queue, and stop the one of them that runs. Nothing else is touched: a host too old to
        know ``prompt_id`` in /interrupt is asked only while what runs is one of these."""
        await self._with_retries(self._cancel_once, list(prompt_ids))

    async def _cancel_once(self, ids: list[str]) -> None:
        await self._connection.tell("/queue", {"delete": ids})
        for id in set(ids) & set((await self._queued()).queue_running):
            await self._connection.tell("/interrupt", {"prompt_id": id})

    async def events(self) -> AsyncIterator[Event]:
        """Messages of the websocket about jobs, while it lasts."""
        with suppress(ServerTroubleError):
            async for event in self._connection.events(self.client):
                yield event

    async def _with_retries(self, act: Callable[P, Awaitable[T]], *of: P.args, **how: P.kwargs) -> T:
        """What ``act`` gives, after as many tries as it takes or are allowed."""
        trying = AsyncRetrying(
            retry=retry_if_exception_type(ServerTroubleError),
            stop=stop_after_attempt(self._retries.tries),
            wait=wait_exponential_jitter(self._retries.first_wait, LONGEST_WAIT, jitter=self._retries.first_wait),
            reraise=True,
        )
        try:
            return await trying(act, *of, **how)
        except ServerTroubleError as error:
            self._uploaded.clear()  # it may come back with another input folder
            raise ServerGoneError(f"{self.url}: {error}") from error
