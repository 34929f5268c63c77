from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the modules that the tests here share

from batch import Batch
from fake_comfy import FakeComfy, serving

from firstframe.queue import fleet


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Batch]:
    """Play a scene with so many servers, which are asked often where they are gone; the batch that it was about."""
    monkeypatch.setattr(fleet, "PROBE_WAIT", 0.1)
    monkeypatch.setattr(fleet, "LONGEST_PROBE_WAIT", 0.2)

    def play(scene: Callable[..., Awaitable[None]], servers: int = 1) -> Batch:
        fakes = [FakeComfy() for _ in range(servers)]
        batch = Batch(tmp_path, *fakes)

        async def on_stage() -> None:
            async with serving(*fakes):
                await asyncio.wait_for(scene(batch, *fakes), 40)

        asyncio.run(on_stage())
        return batch

    return play
