"""A batch of jobs, a folder and fake servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fake_comfy import CONTENT, FakeComfy

from firstframe.queue.connection import Limits, open_session
from firstframe.queue.manifest import Manifest, done_jobs
from firstframe.queue.plan import Job, graph_id
from firstframe.queue.rules import Rules
from firstframe.queue.run import Run
from firstframe.queue.server import Retries, Server

RULES = Rules(poll=0.2, give_up=0.5)


class Quiet:
    def __init__(self) -> None:
        self.steps: list[tuple[str, float, float]] = []
        self.notes: list[str] = []

    def working(self, server: str, job: str, node: str, value: float, of: float) -> None:
        self.steps.append((node, value, of))

    def ended(self, job: str, event: dict[str, Any]) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)


def make_job(seed: int, **inputs: Any) -> Job:
    graph = {
        "1": {"class_type": "Make", "inputs": {"seed": seed, **inputs}},
        "2": {"class_type": "Save", "inputs": {"film": ["1", 0]}},
    }
    return Job(graph_id(graph), graph, None, None, None, seed)


def jobs_of(count: int, **inputs: Any) -> list[Job]:
    return [make_job(seed, **inputs) for seed in range(count)]


class Batch:
    """One folder, one or several fake servers; `run` may be called again, as a client that was started again."""

    def __init__(self, folder: Path, *fakes: FakeComfy) -> None:
        self.folder, self.fakes, self.view = folder, fakes, Quiet()

    async def run(self, jobs: list[Job], rules: Rules = RULES, limits: Limits | None = None, tries: int = 4) -> None:
        todo = [job for job in jobs if job.id not in done_jobs(self.folder)]
        with Manifest(self.folder / "manifest.jsonl") as self.manifest:
            client = self.manifest.begin()
            async with open_session() as session:
                servers = [Server(fake.url, client, session, Retries(tries, 0.02), limits) for fake in self.fakes]
                await asyncio.wait_for(Run(servers, todo, self.manifest, self.folder, rules, self.view).run(), 30)

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        return [event for event in self.manifest.events if event["event"] in kinds]

    def check_done_once(self, jobs: list[Job]) -> None:
        assert sorted(event["job"] for event in self.events("done")) == sorted(job.id for job in jobs)
        films = {path.name: path.read_bytes() for path in self.folder.glob("*.mp4")}
        assert films == {f"{job.name}.mp4": CONTENT for job in jobs}
        assert not list(self.folder.glob("*.part"))


async def until(reached: Callable[[], Any]) -> None:
    while not reached():
        await asyncio.sleep(0.005)
