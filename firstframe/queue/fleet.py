"""Which servers can be given jobs now."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from .rules import Rules, View
from .server import Server

PROBE_WAIT, LONGEST_PROBE_WAIT = 1.0, 10.0


class Fleet:
    """The servers, and since when some of them are down."""

    def __init__(self, servers: Sequence[Server], rules: Rules, view: View) -> None:
        self.servers, self._rules, self._view = servers, rules, view
        self._down_since: dict[Server, float] = {}
        self._failures: Counter[Server] = Counter()
        self._asking = {server: asyncio.Lock() for server in servers}
        self.gave_up = asyncio.Event()

    def is_up(self, server: Server) -> bool:
        """Whether it can be given jobs."""
        return server not in self._down_since

    def up(self) -> list[Server]:
        """All that can be given jobs."""
        return [server for server in self.servers if self.is_up(server)]

    def mark_down(self, server: Server, reason: str) -> None:
        """Give it no jobs until it is back."""
        if self.is_up(server):
            self._down_since[server] = time.monotonic()
            self._failures[server] += 1
            self._view.note(f"gone: {reason}")

    def mark_good(self, server: Server) -> None:
        """It has ended a job: forget how often it was down before."""
        self._failures[server] = 0

    async def until_back(self, server: Server, probe: Callable[[Server], Awaitable[str | None]]) -> None:
        """Wait for a server that is down.

        The first probe comes at once; where the server was down before and has ended nothing since, later each time.

        Args:
            server: One that is down.
            probe: Why it cannot be given jobs now; None if it can.
        """
        async with self._asking[server]:  # the slots of a server wait for one of them
            if not self.is_up(server):
                await self._ask_until_back(server, probe)

    async def _ask_until_back(self, server: Server, probe: Callable[[Server], Awaitable[str | None]]) -> None:
        if self._failures[server] > 1:
            await asyncio.sleep(min(PROBE_WAIT * 2.0 ** (self._failures[server] - 2), LONGEST_PROBE_WAIT))
        wait = PROBE_WAIT
        while await probe(server):
            self._give_up_without_servers()
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_PROBE_WAIT)
        del self._down_since[server]
        self._view.note(f"back: {server.url}")

    def _give_up_without_servers(self) -> None:
        if self.up() or self.gave_up.is_set():
            return
        if time.monotonic() - max(self._down_since.values()) > self._rules.give_up:
            self._view.note(f"no server has answered for {self._rules.give_up:g} s")
            self.gave_up.set()
