from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the modules that the tests here share

from batch import Batch
from fake_comfy import FakeComfy, serving


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., Batch]:
    """Play a scene with so many servers; the batch that it was about."""

    def play(scene: Callable[..., Awaitable[None]], servers: int = 1) -> Batch:
        fakes = [FakeComfy() for _ in range(servers)]
        batch = Batch(tmp_path, *fakes)

        async def on_stage() -> None:
            async with serving(*fakes):
                await asyncio.wait_for(scene(batch, *fakes), 40)

        asyncio.run(on_stage())
        return batch

    return play
