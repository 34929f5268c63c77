"""Jobs at servers, and what the servers' events say of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from .answers import Event
from .plan import Job
from .rules import View
from .server import Server

LISTEN_AGAIN_SECONDS = 1.0
ENDS = ("execution_error", "execution_interrupted")


@dataclass
class _Sent:
    """A job at a server; ``news`` is set when something has happened to it."""

    job: Job
    news: asyncio.Event = field(default_factory=asyncio.Event)


class SentJobs:
    """The jobs that were sent, by their ids at the servers."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._sent: dict[str, _Sent] = {}

    def add(self, job: Job, prompt_id: str) -> None:
        """Remember a job that is at a server."""
        self._sent[prompt_id] = _Sent(job)

    def forget_news(self, prompt_id: str) -> None:
        """From now on, wait for the next event."""
        self._sent[prompt_id].news.clear()

    async def news(self, prompt_id: str, seconds: float) -> None:
        """Wait for an event about a job, so many seconds at most."""
        try:
            await asyncio.wait_for(self._sent[prompt_id].news.wait(), seconds)
        except asyncio.TimeoutError:
            return

    async def listen(self, server: Server) -> None:
        """Follow a server's events; where they break off, wake all that wait for one, and connect again."""
        while True:
            async for event in server.events():
                self._on_message(server, event)
            for sent in self._sent.values():
                sent.news.set()
            await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    def _on_message(self, server: Server, event: Event) -> None:
        sent = self._sent.get(event.data.prompt_id)
        if sent is None:
            return
        node = event.data.node
        if node is not None and event.type in ("executing", "progress"):
            label = sent.job.graph.get(node, {}).get("class_type", node)
            self._view.working(server.url, sent.job.name, label, event.data.value, event.data.max)
        elif event.type == "executing" or event.type in ENDS:
            sent.news.set()
