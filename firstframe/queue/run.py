"""Jobs to servers: each takes the next one when it has room, and what a dead server leaves goes to the others."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..errors import FirstFrameError
from .manifest import Event, Manifest, facts_of
from .plan import Job
from .server import Ended, JobFailedError, Server, ServerGoneError

CANCEL_SECONDS = 15.0
PROBE_WAIT, LONGEST_PROBE_WAIT = 1.0, 10.0
LISTEN_AGAIN_SECONDS = 1.0


class View(Protocol):
    """Where the user sees how it goes."""

    def working(self, server: str, job: str, node: str, value: float, of: float) -> None: ...

    def ended(self, job: str, event: Event) -> None: ...

    def note(self, text: str) -> None: ...


@dataclass(frozen=True)
class Rules:
    """``in_flight``: jobs that one server has at a time. ``attempts``: how often a job is sent at most, where servers
    die or lose it. ``give_up``: seconds without any server. ``poll``: seconds after which a job is asked for although
    no event came."""

    in_flight: int = 2
    attempts: int = 3
    give_up: float = 60.0
    poll: float = 5.0


class LostError(FirstFrameError):
    """The server does not know a job that it was sent."""


@dataclass
class Sent:
    """A job at a server; ``news`` is set when something has happened to it."""

    job: Job
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Run:
    """One run of a queue: `run` it once."""

    def __init__(
        self, servers: Sequence[Server], jobs: Sequence[Job], manifest: Manifest, folder: Path, rules: Rules, view: View
    ) -> None:
        self.servers, self.manifest, self.folder, self.rules, self.view = servers, manifest, folder, rules, view
        self._waiting: asyncio.Queue[Job] = asyncio.Queue()
        self._adopted: dict[Server, deque[tuple[Job, str]]] = {server: deque() for server in servers}
        self._sent: dict[str, Sent] = {}
        self._attempts: Counter[str] = Counter()
        self._down_since: dict[Server, float] = {}
        self._jobs = {job.id: job for job in jobs}
        self._left = len(jobs)
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Until every job has ended, or no server has answered for too long. Where it is cancelled or fails, its jobs
        are taken off the servers.

        Raises FirstFrameError where no server answers at the start.
        """
        if not self._jobs:
            return
        await self._look_around()
        ended = asyncio.create_task(self._ended.wait())
        slots = [
            asyncio.create_task(self._slot(server)) for server in self.servers for _ in range(self.rules.in_flight)
        ]
        listeners = [asyncio.create_task(self._listen(server)) for server in self.servers]
        tasks = [ended, *slots, *listeners]
        try:
            finished, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in finished:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(self._cancel_open(server) for server in self.servers))

    async def _look_around(self) -> None:
        """See which servers there are, and what they have of an earlier run."""
        troubles = await asyncio.gather(*(self._trouble(server) for server in self.servers))
        if all(troubles):
            raise FirstFrameError(f"no server answers: {'; '.join(map(str, troubles))}")
        for server, trouble in zip(self.servers, troubles, strict=True):
            if trouble:
                self._is_down(server, trouble)
        jobs = dict(self._jobs)
        for id, sent in self.manifest.open().items():
            if id in jobs and await self._adopt(jobs[id], sent):
                del jobs[id]
            else:
                self._release(sent, "not found by the next run")
        for job in jobs.values():
            self._waiting.put_nowait(job)

    async def _adopt(self, job: Job, sent: Event) -> bool:
        """Whether a server still has a job that an earlier client sent."""
        for server in [server for server in self.servers if server not in self._down_since]:
            try:
                if await self._has(server, sent):
                    self._adopted[server].append((job, sent["prompt_id"]))
                    self._note_sent(server, job, sent["prompt_id"])
                    return True
            except ServerGoneError as error:
                self._is_down(server, str(error))
        return False

    async def _slot(self, server: Server) -> None:
        """Do one job after another on a server."""
        while True:
            if server in self._down_since:
                await self._until_back(server)
            job, prompt_id = await self._next(server)
            try:
                await self._do(server, job, prompt_id)
            except JobFailedError as error:
                self._end("failed", server, job, reason=str(error), **error.facts)
            except LostError as error:
                self._send_again(server, job, str(error))
            except ServerGoneError as error:
                self._send_again(server, job, str(error))
                self._is_down(server, str(error))

    async def _next(self, server: Server) -> tuple[Job, str | None]:
        """A job, and its id at the server if that has it already."""
        if self._adopted[server]:
            return self._adopted[server].popleft()
        job = await self._waiting.get()
        while server in self._down_since:  # it went while this slot was waiting
            self._waiting.put_nowait(job)
            await self._until_back(server)
            job = await self._waiting.get()
        return job, None

    async def _do(self, server: Server, job: Job, prompt_id: str | None) -> None:
        prompt_id = prompt_id or await self._kept(server, job) or await self._send(server, job)
        ended = await self._wait(server, prompt_id)
        if ended.failure:
            raise ended.failure
        files = [await server.fetch(file, target) for file, target in self._targets(job, ended)]
        self._end("done", server, job, prompt_id=prompt_id, files=files, seconds=ended.seconds)

    async def _kept(self, server: Server, job: Job) -> str | None:
        """The job's id at a server that was gone for a while, is back, and still has it."""
        for event in self._released(server):
            if event["job"] == job.id and await self._has(server, event):
                self._note_sent(server, job, event["prompt_id"])
                return str(event["prompt_id"])
        return None

    async def _has(self, server: Server, sent: Event) -> bool:
        """Whether a server has a job that it was sent. One that was cancelled counts if it had ended well before."""
        found = await server.find(sent["prompt_id"])
        cancelled = sent["prompt_id"] in {event["prompt_id"] for event in self.manifest.of_kind("cancelled")}
        return found is not None and (not cancelled or (isinstance(found, Ended) and found.failure is None))

    async def _send(self, server: Server, job: Job) -> str:
        """Send a job; its id at the server, which is on the disk before."""
        if job.picture:
            await server.upload(job.picture)
        prompt_id = str(uuid.uuid4())
        self._note_sent(server, job, prompt_id)
        await server.submit(job, prompt_id)
        return prompt_id

    def _note_sent(self, server: Server, job: Job, prompt_id: str) -> None:
        self.manifest.add("sent", job=job.id, prompt_id=prompt_id, server=server.url)
        self._sent[prompt_id] = Sent(job)

    async def _wait(self, server: Server, prompt_id: str) -> Ended:
        """The end of a job. Events say when to ask; the history says what happened."""
        news = self._sent[prompt_id].news
        while True:
            news.clear()
            found = await server.find(prompt_id)
            if isinstance(found, Ended):
                return found
            if found is None:
                raise LostError(f"{server.url} does not know it any more")
            try:
                await asyncio.wait_for(news.wait(), self.rules.poll)
            except asyncio.TimeoutError:
                continue

    def _targets(self, job: Job, ended: Ended) -> list[tuple[dict[str, str], Path]]:
        """Each output and the file that it becomes."""
        several = len(ended.files) > 1
        return [
            (file, self.folder / f"{job.name}{f'_{number}' if several else ''}{Path(file['filename']).suffix}")
            for number, file in enumerate(ended.files, 1)
        ]

    def _end(self, event: str, server: Server, job: Job, **facts: Any) -> None:
        self.view.ended(job.name, self.manifest.add(event, **facts_of(job), server=server.url, **facts))
        self._left -= 1
        if not self._left:
            self._ended.set()

    def _send_again(self, server: Server, job: Job, reason: str) -> None:
        """Give a job back, so that whichever server has room takes it."""
        sent = self.manifest.open().get(job.id)
        if sent:
            self._release(sent, reason)
        self._attempts[job.id] += 1
        if self._attempts[job.id] == self.rules.attempts:
            self._end("failed", server, job, reason=f"sent {self.rules.attempts} times; {reason}")
        else:
            self._waiting.put_nowait(job)

    def _release(self, sent: Event, reason: str) -> None:
        facts = {name: sent[name] for name in ("job", "prompt_id", "server")}
        self.manifest.add("released", **facts, reason=reason)

    def _is_down(self, server: Server, reason: str) -> None:
        if server not in self._down_since:
            self._down_since[server] = time.monotonic()
            self.view.note(f"gone: {reason}")
        while self._adopted[server]:
            job, _ = self._adopted[server].popleft()
            self._send_again(server, job, reason)

    async def _until_back(self, server: Server) -> None:
        """Wait for a server that is gone."""
        wait = PROBE_WAIT
        while await self._trouble(server):
            self._give_up_without_servers()
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_PROBE_WAIT)
        if self._down_since.pop(server, None):
            self.view.note(f"back: {server.url}")

    async def _trouble(self, server: Server) -> str | None:
        """Why a server cannot be given jobs now; None if it can. What others took over from it is cancelled there."""
        trouble = await server.trouble()
        if trouble:
            return f"{server.url}: {trouble}"
        try:
            await self._cancel(server, self._taken_over(server))
        except ServerGoneError as error:
            return str(error)
        return None

    def _give_up_without_servers(self) -> None:
        all_down = len(self._down_since) == len(self.servers)
        if all_down and time.monotonic() - max(self._down_since.values()) > self.rules.give_up:
            self.view.note(f"no server has answered for {self.rules.give_up:g} s")
            self._ended.set()

    def _released(self, server: Server) -> list[Event]:
        return [event for event in self.manifest.of_kind("released") if event["server"] == server.url]

    def _taken_over(self, server: Server) -> list[Event]:
        """What a server was sent and others have done or are doing since it was gone."""
        sent = self.manifest.open()
        elsewhere = {event["job"] for event in self.manifest.of_kind("done")} | sent.keys()
        settled = {event["prompt_id"] for event in (*sent.values(), *self.manifest.of_kind("cancelled"))}
        released = self._released(server)
        return [event for event in released if event["job"] in elsewhere and event["prompt_id"] not in settled]

    async def _cancel(self, server: Server, sent: list[Event]) -> None:
        """Take these jobs off a server. One that has ended in the meantime is found there by the next run."""
        if sent:
            await server.cancel(event["prompt_id"] for event in sent)
        for event in sent:
            self.manifest.add("cancelled", job=event["job"], prompt_id=event["prompt_id"], server=server.url)

    async def _listen(self, server: Server) -> None:
        """Follow a server's events; where they break off, wake all that wait for one, and connect again."""
        while True:
            async for message in server.events():
                self._hear(server, message["type"], message.get("data") or {})
            for sent in self._sent.values():
                sent.news.set()
            await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    def _hear(self, server: Server, kind: str, data: dict[str, Any]) -> None:
        sent = self._sent.get(data.get("prompt_id", ""))
        if sent is None:
            return
        node = data.get("node")
        if node is not None and kind in ("executing", "progress"):
            label = sent.job.graph.get(str(node), {}).get("class_type", str(node))
            self.view.working(server.url, sent.job.name, label, data.get("value", 0), data.get("max", 1))
        elif kind == "executing" or kind in ("execution_error", "execution_interrupted"):
            sent.news.set()

    async def _cancel_open(self, server: Server) -> None:
        """Take our jobs off a server, if it can be done soon."""
        if server in self._down_since:
            return
        ours = [event for event in self.manifest.open().values() if event["server"] == server.url]
        try:
            await asyncio.wait_for(self._cancel(server, ours), CANCEL_SECONDS)
        except (ServerGoneError, asyncio.TimeoutError) as error:
            self.view.note(f"not cancelled at {server.url}: {error or 'no answer'}")
