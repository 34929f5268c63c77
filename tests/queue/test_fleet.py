"""Servers that go and come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from batch import Quiet

from firstframe.queue import fleet as module
from firstframe.queue.connection import open_session
from firstframe.queue.fleet import Fleet
from firstframe.queue.rules import Rules
from firstframe.queue.server import Retries, Server


def scene(act: Callable[[Fleet, Server], object], rules: Rules | None = None) -> Quiet:
    """Play with a fleet of one server that is down; what was told."""
    view = Quiet()

    async def on_stage() -> None:
        async with open_session() as session:
            server = Server("http://127.0.0.1:9", "client", session, Retries())
            fleet = Fleet([server], rules or Rules(), view)
            fleet.mark_down(server, "no answer")
            await act(fleet, server)

    asyncio.run(on_stage())
    return view


def test_of_several_that_wait_for_a_server_one_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["trouble", None]

    async def act(fleet: Fleet, server: Server) -> None:
        async def probe(_: Server) -> str | None:
            await asyncio.sleep(0.01)
            return answers.pop(0)

        await asyncio.wait_for(asyncio.gather(*(fleet.until_back(server, probe) for _ in range(3))), 0.5)
        assert fleet.is_up(server) and not answers

    monkeypatch.setattr(module, "PROBE_WAIT", 0.01)
    assert scene(act).notes == ["gone: no answer", "back: http://127.0.0.1:9"]


def test_a_server_that_ends_nothing_is_asked_later_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def act(fleet: Fleet, server: Server) -> None:
        async def good(_: Server) -> None:
            return None

        for _ in range(7):
            fleet.mark_down(server, "nonsense")
            await fleet.until_back(server, good)
        fleet.mark_good(server)
        fleet.mark_down(server, "nonsense")
        await fleet.until_back(server, good)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    scene(act)
    assert waits == [1, 2, 4, 8, 10, 10]


def test_without_any_server_it_is_given_up_once() -> None:
    async def act(fleet: Fleet, server: Server) -> None:
        async def bad(_: Server) -> str:
            return "trouble"

        waiting = [asyncio.create_task(fleet.until_back(server, bad)) for _ in range(2)]
        await asyncio.wait_for(fleet.gave_up.wait(), 3)
        for task in waiting:
            task.cancel()

    assert scene(act, Rules(give_up=0)).notes == ["gone: no answer", "no server has answered for 0 s"]
