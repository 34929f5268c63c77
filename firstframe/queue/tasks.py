"""Ending tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

AGAIN_SECONDS = 0.5


async def stop(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks until each has ended: before Python 3.12, `asyncio.wait_for` forgets a cancellation that meets its
    result, and the task goes on."""
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=AGAIN_SECONDS)
