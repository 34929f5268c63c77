"""What is attacked. A case follows from a target and a seed alone."""

from __future__ import annotations

import asyncio
import io
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from aiohttp import web
from batch import Batch, jobs_of
from fake_comfy import FakeComfy, serving
from hostile import Lie, body, changed
from mutate import JUNK, damage_json, damage_tensors, mutate
from PIL import Image
from safetensors.torch import save_file
from valid import read_as, write_valid

from firstframe.clips.reference import prepare_image
from firstframe.clips.video import read_clip, write_clip
from firstframe.errors import FirstFrameError
from firstframe.queue import fleet
from firstframe.queue.connection import Limits
from firstframe.queue.plan import Job
from firstframe.queue.rules import Rules
from firstframe.weights import LAYOUTS
from firstframe.weights.convert import to_safetensors
from firstframe.weights.inspect import inspect

Target = Callable[[random.Random, Path], bool]
"""One case in an empty folder: whether it was accepted, else refused. Whatever it raises is a crash."""

IMAGES = ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"]
CLIPS = [".webp", ".mp4", ".webm", ".gif"]
ROUTES = ["/queue", "/history", "/prompt"]
LIMITS = Limits(answer=4 << 20, message=1 << 16, output=2 << 20, seconds=1.0, rate=1e6)
PATIENT = Rules(poll=0.1, give_up=5, attempts=100)
RULES = Rules(in_flight=1, poll=0.1, give_up=5)


def refusal_of(read: Callable[[Path], object], file: Path) -> FirstFrameError | None:
    """The error by which ``read`` refuses a file, which names it and cannot steer a terminal; None if it is read."""
    try:
        read(file)
    except FirstFrameError as error:
        assert file.name in str(error), f"the message does not name the file: {error}"
        assert str(error).isprintable(), f"the message would steer a terminal: {error!r}"
        return error
    return None


def weights(dice: random.Random, folder: Path) -> bool:
    """A file of any layout, as safetensors or as a pickle: loaded, inspected and converted."""
    layout, ending = dice.choice(LAYOUTS), dice.choice(["safetensors", "pt"])
    tensors, metadata = write_valid(layout, folder)
    file = folder / f"x.{ending}"
    for _ in range(dice.choice([0, 1, 1, 1, 3])):
        damage_tensors(tensors, metadata, dice)
    if ending == "pt":
        torch.save(tensors, file)
    else:
        save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, file, metadata)
    if dice.random() < 0.5:
        file.write_bytes(mutate(file.read_bytes(), dice))
    refused = [
        refusal_of(read, file)
        for read in (
            lambda path: read_as(layout, path),
            inspect,
            lambda path: to_safetensors(path, folder / "o.safetensors"),
        )
    ]
    assert {path.name for path in folder.iterdir()} <= {file.name, "valid.safetensors", "o.safetensors"}
    return refused[0] is None


@cache
def image_bytes(format: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    exif, data = Image.Exif(), io.BytesIO()
    exif[0x0112], exif[0x010F] = 6, "maker"
    extras = {} if format in ("GIF", "BMP") else {"exif": exif, "icc_profile": b"\0\0\2\x0c" + 128 * b"icc "}
    Image.fromarray(noise).save(data, format, **extras)
    return data.getvalue()


def images(dice: random.Random, folder: Path) -> bool:
    """An image file, prepared in one of the three ways."""
    format = dice.choice(IMAGES)
    file = folder / f"image.{format.lower()}"
    file.write_bytes(mutate(image_bytes(format), dice))
    fit: Any = dice.choice(["cover", "contain", "stretch"])
    return refusal_of(lambda path: prepare_image(path, 32, 24, fit), file) is None


@cache
def clip_bytes(suffix: str) -> bytes:
    frames = torch.rand(3, 16, 24, 3, generator=torch.Generator().manual_seed(0))
    folder = Path.cwd() / f".fuzz_{suffix[1:]}"
    folder.mkdir(exist_ok=True)
    try:
        whole = write_clip(folder / f"whole{suffix}", frames, metadata={"prompt": "{}", "workflow": "[1]"})
        return whole.read_bytes()
    finally:
        shutil.rmtree(folder)


def clips(dice: random.Random, folder: Path) -> bool:
    """A video file."""
    suffix = dice.choice(CLIPS)
    file = folder / f"clip{suffix}"
    file.write_bytes(mutate(clip_bytes(suffix), dice))
    return refusal_of(read_clip, file) is None


def damaged_answers(dice: random.Random) -> Lie:
    """True JSON with a damage of its own in each answer, or damaged bytes of it."""

    async def bytes_of(_: web.Request, true: web.StreamResponse) -> web.StreamResponse:
        assert isinstance(true, web.Response)
        return web.Response(body=mutate(bytes(true.body or b"{}"), dice), status=true.status)

    ways: list[Lie] = [
        changed(lambda answer: damage_json(answer, dice)),
        bytes_of,
        body(dice.randbytes(dice.randrange(2000)), dice.choice([200, 200, 204, 301, 400, 404, 500])),
    ]
    return dice.choice(ways)


def chatter(dice: random.Random) -> list[str | bytes]:
    """What a websocket says that is none of ours, or nearly."""
    true = '{"type": "progress", "data": {"prompt_id": "x", "node": "2", "value": 1, "max": 2}}'
    return [
        mutate(true.encode(), dice).decode("latin-1") if dice.random() < 0.7 else repr(dice.choice(JUNK))
        for _ in range(20)
    ]


def servers(dice: random.Random, folder: Path) -> bool:
    """A hostile server beside a good one: every job has one result."""
    fleet.PROBE_WAIT, fleet.LONGEST_PROBE_WAIT = 0.05, 0.1
    jobs, fakes = jobs_of(3), [FakeComfy(), FakeComfy()]
    fakes[0].lies = {route: damaged_answers(dice) for route in dice.sample(ROUTES, dice.randrange(4))}
    fakes[0].chatter = chatter(dice)
    fakes[0].lose_answers, fakes[0].breaks = dice.randrange(2), dice.randrange(3)
    batch = Batch(folder, *fakes)

    async def play() -> None:
        async with serving(*fakes):
            await batch.run(jobs, RULES, LIMITS, tries=1)

    asyncio.run(play())
    batch.check_done_once(jobs)
    assert not list(folder.glob(".firstframe-*")), "an unfinished file stays"
    assert all(note.isprintable() for note in batch.view.notes), batch.view.notes
    return any(event["server"] == fakes[0].url for event in batch.events("done"))


async def chaos_at(fakes: list[FakeComfy], dice: random.Random) -> None:
    """Servers that are killed, forget, slow down, lie, have full disks, and are well again."""
    while True:
        await asyncio.sleep(dice.uniform(0.01, 0.15))
        fake = dice.choice(fakes)
        fake.down, fake.paused, fake.lies, fake.statuses = False, False, {}, {}
        match dice.randrange(7):
            case 0:
                fake.down = True
                fake.restart()
            case 1:
                fake.restart()
            case 2:
                fake.paused = True
            case 3:
                fake.lies = {dice.choice(ROUTES): damaged_answers(dice)}
            case 4:
                fake.statuses = {"/prompt": [507] * 3, "/view": [507]}
            case 5:
                fake.lose_answers, fake.breaks = 1, 1


async def run_with_kills(batch: Batch, jobs: list[Job], dice: random.Random) -> None:
    """Run the client; now and then it ends in the middle, and is started again."""
    for _ in range(dice.randrange(3)):
        with suppress(asyncio.TimeoutError, FirstFrameError):
            await asyncio.wait_for(batch.run(jobs, PATIENT, LIMITS, tries=1), dice.uniform(0.05, 0.6))


def chaos(dice: random.Random, folder: Path) -> bool:
    """Three servers in trouble and a client that is stopped: every job has one result."""
    fleet.PROBE_WAIT, fleet.LONGEST_PROBE_WAIT = 0.05, 0.1
    jobs, fakes = jobs_of(10), [FakeComfy() for _ in range(3)]
    batch = Batch(folder, *fakes)

    async def play() -> None:
        async with serving(*fakes):
            trouble = asyncio.create_task(chaos_at(fakes, dice))
            await run_with_kills(batch, jobs, dice)
            await asyncio.sleep(dice.uniform(0, 0.5))
            trouble.cancel()
            for fake in fakes:
                fake.down, fake.paused, fake.lies, fake.statuses = False, False, {}, {}
            await batch.run(jobs, PATIENT, LIMITS, tries=3)

    asyncio.run(play())
    batch.check_done_once(jobs)
    assert not list(folder.glob(".firstframe-*")), "an unfinished file stays"
    return True


TARGETS: dict[str, Target] = {
    "weights": weights,
    "images": images,
    "clips": clips,
    "servers": servers,
    "chaos": chaos,
}
