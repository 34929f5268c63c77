"""Damaged images and clips: read, or refused by our error. FIRSTFRAME_FUZZ=10 tries ten times as many."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from firstframe.clips.reference import prepare_image
from firstframe.clips.video import read_clip, write_clip
from firstframe.errors import FirstFrameError

ROUNDS = int(os.environ.get("FIRSTFRAME_FUZZ", "1"))
NUMBERS = [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\1"]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, cut off, put in or taken out; headers more often than the rest."""
    damaged = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        place = rng.randrange(rng.choice([min(len(damaged), 600), len(damaged)]) or 1)
        damage = rng.randrange(5)
        if damage == 0:
            damaged[place : place + 1] = rng.randbytes(1)
        elif damage == 1:
            del damaged[place:]
        elif damage == 2:
            damaged[place : place + 4] = rng.choice(NUMBERS)
        elif damage == 3:
            damaged[place:place] = rng.randbytes(rng.randrange(8))
        else:
            del damaged[place : place + rng.randrange(1, 20)]
    return bytes(damaged)


def attack(read: Callable[[Path], Any], data: bytes, file: Path, count: int) -> None:
    """Reads damaged copies of ``data``; one that ends in another error stays in ``file``."""
    file.write_bytes(data)
    read(file)
    refused = 0
    for seed in range(count * ROUNDS):
        file.write_bytes(mutate(data, random.Random(seed)))
        try:
            read(file)
        except FirstFrameError as error:
            refused += 1
            assert file.name in str(error), seed
        except Exception as error:
            raise AssertionError(f"{file}, seed {seed}") from error
    assert refused


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_images(tmp_path: Path, format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    exif, data = Image.Exif(), io.BytesIO()
    exif[0x0112], exif[0x010F] = 6, "maker"
    extras = {} if format in ("GIF", "BMP") else {"exif": exif, "icc_profile": b"\0\0\2\x0c" + 128 * b"icc "}
    Image.fromarray(noise).save(data, format, **extras)
    attack(lambda path: prepare_image(path, 32, 24), data.getvalue(), tmp_path / f"image.{format.lower()}", 30)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("suffix", "count"), [(".webp", 30), (".mp4", 4), (".webm", 2), (".gif", 4)])
def test_clips(tmp_path: Path, suffix: str, count: int) -> None:
    frames = torch.rand(3, 16, 24, 3, generator=torch.Generator().manual_seed(0))
    whole = write_clip(tmp_path / f"whole{suffix}", frames, metadata={"prompt": "{}", "workflow": "[1]"})
    attack(read_clip, whole.read_bytes(), tmp_path / f"clip{suffix}", count)
