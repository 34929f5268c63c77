"""Jobs that no server has."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Collection

from .plan import Job


class Waiting:
    """A line of jobs, of which each server takes the first that is for it.

    A job that came back from a server is for the others first: a server that answers nonsense cannot use up all
    attempts of a job.

    Args:
        up: Gives the servers (by URL) that can be given jobs now.
    """

    def __init__(self, up: Callable[[], Collection[str]]) -> None:
        self._up = up
        self._jobs: deque[Job] = deque()
        self._came_back_from: defaultdict[str, set[str]] = defaultdict(set)
        self._news = asyncio.Event()

    def put(self, job: Job, came_back_from: str | None = None) -> None:
        """Add a job at the end."""
        if came_back_from:
            self._came_back_from[job.id].add(came_back_from)
        self._jobs.append(job)
        self.look_again()

    def look_again(self) -> None:
        """Wake those who wait: a job was added, or another server is up or down."""
        self._news.set()

    async def take(self, server: str) -> Job:
        """The next job for a server, when there is one and the server is up."""
        while True:
            for job in self._jobs:
                if self._is_for(server, job):
                    self._jobs.remove(job)
                    return job
            self._news.clear()
            await self._news.wait()

    def _is_for(self, server: str, job: Job) -> bool:
        up = set(self._up())
        tried = self._came_back_from[job.id]
        return server in up and (server not in tried or up <= tried)
