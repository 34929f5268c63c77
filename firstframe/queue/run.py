"""Jobs to servers: each takes the next one when it has room, and what a dead server leaves goes to the others."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import FirstFrameError
from .answers import File
from .errors import JobFailedError, LostError, ServerGoneError
from .events import Event
from .fleet import Fleet
from .manifest import Manifest, facts_of
from .plan import Job
from .results import JobResult
from .rules import Rules, View
from .sent import SentJobs
from .server import Server
from .tasks import stop
from .waiting import Waiting

CANCEL_SECONDS = 8.0


class Run:
    """One run of a queue: `run` it once."""

    def __init__(
        self, servers: Sequence[Server], jobs: Sequence[Job], manifest: Manifest, folder: Path, rules: Rules, view: View
    ) -> None:
        self.servers, self.manifest, self.folder, self.rules, self.view = servers, manifest, folder, rules, view
        self._fleet = Fleet(servers, rules, view)
        self._waiting = Waiting(lambda: [server.url for server in self._fleet.up()])
        self._adopted: dict[Server, deque[tuple[Job, str]]] = {server: deque() for server in servers}
        self._sent = SentJobs(view)
        self._attempts: Counter[str] = Counter()
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
        ends = [asyncio.create_task(event.wait()) for event in (self._ended, self._fleet.gave_up)]
        slots = [
            asyncio.create_task(self._slot(server)) for server in self.servers for _ in range(self.rules.in_flight)
        ]
        listeners = [asyncio.create_task(self._sent.listen(server)) for server in self.servers]
        tasks = [*ends, *slots, *listeners]
        try:
            finished, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in finished:
                task.result()
        finally:
            await stop(tasks)
            await asyncio.gather(*(self._cancel_open(server) for server in self._fleet.up()))

    async def _look_around(self) -> None:
        """See which servers there are, and what they have of an earlier run."""
        troubles = await asyncio.gather(*(self._probe(server) for server in self.servers))
        if all(troubles):
            raise FirstFrameError(f"no server answers: {'; '.join(map(str, troubles))}")
        for server, trouble in zip(self.servers, troubles, strict=True):
            if trouble:
                self._mark_down(server, trouble)
        jobs = dict(self._jobs)
        for id, sent in self.manifest.open().items():
            if id in jobs and await self._adopt(jobs[id], sent):
                del jobs[id]
            else:
                self._release(sent, "not found by the next run")
        for job in jobs.values():
            self._waiting.put(job)

    async def _adopt(self, job: Job, sent: Event) -> bool:
        """Whether a server still has a job that an earlier client sent."""
        for server in self._fleet.up():
            try:
                if await self._has(server, sent):
                    self._adopted[server].append((job, sent["prompt_id"]))
                    self._note_sent(server, job, sent["prompt_id"])
                    return True
            except ServerGoneError as error:
                self._mark_down(server, str(error))
        return False

    async def _slot(self, server: Server) -> None:
        """Do one job after another on a server."""
        while True:
            if not self._fleet.is_up(server):
                await self._fleet.until_back(server, self._probe)
                self._waiting.look_again()
            job, prompt_id = await self._next(server)
            try:
                await self._do(server, job, prompt_id)
            except JobFailedError as error:
                self._end("failed", server, job, reason=str(error), **error.facts)
            except LostError as error:
                self._send_again(server, job, str(error))
            except ServerGoneError as error:
                self._send_again(server, job, str(error))
                self._mark_down(server, str(error))

    async def _next(self, server: Server) -> tuple[Job, str | None]:
        """A job, and its id at the server if that has it already."""
        if self._adopted[server]:
            return self._adopted[server].popleft()
        return await self._waiting.take(server.url), None

    async def _do(self, server: Server, job: Job, prompt_id: str | None) -> None:
        prompt_id = prompt_id or await self._kept(server, job) or await self._send(server, job)
        result = await self._wait(server, prompt_id)
        if result.failure:
            raise result.failure
        files = [await server.fetch(file, target) for file, target in self._targets(job, result)]
        self._fleet.mark_good(server)
        self._end("done", server, job, prompt_id=prompt_id, files=files, seconds=result.seconds)

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
        return found is not None and (not cancelled or (isinstance(found, JobResult) and found.failure is None))

    async def _send(self, server: Server, job: Job) -> str:
        """Send a job; its id at the server, which is on the disk before."""
        if job.image:
            await server.upload(job.image)
        prompt_id = str(uuid.uuid4())
        self._note_sent(server, job, prompt_id)
        await server.submit(job, prompt_id)
        return prompt_id

    def _note_sent(self, server: Server, job: Job, prompt_id: str) -> None:
        self.manifest.add("sent", job=job.id, prompt_id=prompt_id, server=server.url)
        self._sent.add(job, prompt_id)

    async def _wait(self, server: Server, prompt_id: str) -> JobResult:
        """The end of a job. Events say when to ask; the history says what happened."""
        while True:
            self._sent.forget_news(prompt_id)
            found = await server.find(prompt_id)
            if isinstance(found, JobResult):
                return found
            if found is None:
                raise LostError(f"{server.url} does not know it any more")
            await self._sent.news(prompt_id, self.rules.poll)

    def _targets(self, job: Job, result: JobResult) -> list[tuple[File, Path]]:
        """Each output and the file that it becomes."""
        several = len(result.files) > 1
        return [
            (file, self.folder / f"{job.name}{f'_{number}' if several else ''}{_suffix(file)}")
            for number, file in enumerate(result.files, 1)
        ]

    def _end(self, event: str, server: Server, job: Job, **facts: Any) -> None:
        self.view.ended(job.name, self.manifest.add(event, **facts_of(job), server=server.url, **facts))
        self._left -= 1
        if not self._left:
            self._ended.set()

    def _send_again(self, server: Server, job: Job, reason: str) -> None:
        """Give a job back, so that whichever server has room takes it; this one last."""
        sent = self.manifest.open().get(job.id)
        if sent:
            self._release(sent, reason)
        self._attempts[job.id] += 1
        if self._attempts[job.id] == self.rules.attempts:
            self._end("failed", server, job, reason=f"sent {self.rules.attempts} times; {reason}")
        else:
            self._waiting.put(job, came_back_from=server.url)

    def _release(self, sent: Event, reason: str) -> None:
        facts = {name: sent[name] for name in ("job", "prompt_id", "server")}
        self.manifest.add("released", **facts, reason=reason)

    def _mark_down(self, server: Server, reason: str) -> None:
        self._fleet.mark_down(server, reason)
        self._waiting.look_again()
        while self._adopted[server]:
            job, _ = self._adopted[server].popleft()
            self._send_again(server, job, reason)

    async def _probe(self, server: Server) -> str | None:
        """Why a server cannot be given jobs now; None if it can. What others took over from it is cancelled there."""
        trouble = await server.probe()
        if trouble:
            return f"{server.url}: {trouble}"
        try:
            await self._cancel(server, self._taken_over(server))
        except ServerGoneError as error:
            return str(error)
        return None

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

    async def _cancel_open(self, server: Server) -> None:
        """Take our jobs off a server, if it can be done soon."""
        ours = [event for event in self.manifest.open().values() if event["server"] == server.url]
        try:
            await asyncio.wait_for(self._cancel(server, ours), CANCEL_SECONDS)
        except (ServerGoneError, asyncio.TimeoutError) as error:
            self.view.note(f"not cancelled at {server.url}: {error or 'no answer'}")


def _suffix(file: File) -> str:
    """The suffix of a file's name where it is a usual one."""
    found = re.search(r"\.[A-Za-z0-9]{1,10}\Z", file.filename)
    return found[0] if found else ""
