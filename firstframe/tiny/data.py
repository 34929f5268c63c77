"""What the tiny model is trained on: scenes, rendered on all cores and encoded once, with their captions."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from einops import rearrange
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm

from ..training.data import BATCHES, LatentClips, seed_of
from .config import NUM_FRAMES, SIZE
from .scenes import Scene, Sources, dusk, path, render, training_scene
from .text import tokenize

PATH_WEIGHT = 3.0
SHARD = 64
AT_ONCE = 8  # scenes that are encoded together
Rendered = tuple[NDArray[np.uint8], NDArray[np.bool_]]
"""Frames (F, H, W, 3), and where the object is in any of them, (H/8, W/8)."""


def encode_scenes(
    folder: Path,
    count: int,
    sources: Sources,
    autoencoder: AutoencoderTiny,
    at_dusk: bool = False,
    seconds: float = math.inf,
) -> int:
    """Render the first ``count`` training scenes and encode them where the autoencoder is, SHARD to a file.

    Files that are there already are kept, so that a run that was cut off goes on.

    Args:
        folder: gets ``00000.safetensors`` and so on: ``latents`` (n, F, 4, H/8, W/8) fp16, ``ends`` (n, 2, H, W, 3)
            uint8, the first frame and the last, and ``path`` (n, H/8, W/8) bool, where the object is in any frame.
        count: rounded up to whole files.
        sources: of photographs and cut-outs.
        autoencoder: in fp32.
        at_dusk: in another look.
        seconds: after which no further file is begun; two are made in any case.

    Returns:
        How many scenes there are.
    """
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    files = _shard_files(folder, count)
    missing = [file for file in files if not file.exists()]
    if not missing:
        return SHARD * len(files)
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), initializer=_one_thread) as pool:
        render_one = partial(_rendered, sources=sources, at_dusk=at_dusk)
        for file, rendered in tqdm(_rendered_ahead(pool, missing, render_one), "scenes", len(missing), unit=" files"):
            unfinished = file.with_suffix(".part")
            save_file(_encoded(rendered, autoencoder), unfinished)
            unfinished.replace(file)
            if time.monotonic() - started > seconds and file != files[0]:
                pool.shutdown(cancel_futures=True)
                break
    return SHARD * sum(file.exists() for file in files)


def _rendered_ahead(
    pool: ProcessPoolExecutor, files: Sequence[Path], render_one: Callable[[int], Rendered]
) -> Iterator[tuple[Path, Iterator[Rendered]]]:
    """Each file with its scenes; the cores render the next one's while those of this one are encoded."""
    ahead: deque[tuple[Path, Iterator[Rendered]]] = deque()
    for file in files:
        first = int(file.stem) * SHARD
        ahead.append((file, pool.map(render_one, range(first, first + SHARD), chunksize=2)))
        if len(ahead) > 1:
            yield ahead.popleft()
    yield from ahead


def _shard_files(folder: Path, count: int) -> list[Path]:
    return [folder / f"{index:05}.safetensors" for index in range(-(-count // SHARD))]


def _one_thread() -> None:
    import cv2

    cv2.setNumThreads(1)


def _rendered(index: int, sources: Sources, at_dusk: bool) -> Rendered:
    scene = training_scene(index)
    frames = render(scene, NUM_FRAMES, SIZE, with_flow=False, sources=sources).frames
    return dusk(frames) if at_dusk else frames, _latent_path(scene)


@torch.inference_mode()
def _encoded(rendered: Iterator[Rendered], autoencoder: AutoencoderTiny) -> dict[str, Tensor]:
    latents, ends, paths, device = list[Tensor](), list[Tensor](), list[Tensor](), autoencoder.device
    while some := list(islice(rendered, AT_ONCE)):
        frames = torch.from_numpy(np.stack([frames for frames, _ in some]))
        pixels = rearrange(frames.to(device), "n f h w c -> (n f) c h w").float() / 127.5 - 1
        with torch.autocast(device.type, torch.bfloat16):
            encoded = autoencoder.encode(pixels).latents.half()
        latents.append(rearrange(encoded, "(n f) c h w -> n f c h w", n=len(some)))
        ends.append(frames[:, [0, -1]])
        paths.append(torch.from_numpy(np.stack([covered for _, covered in some])))
    return {"latents": torch.cat(latents), "ends": torch.cat(ends), "path": torch.cat(paths)}


def caption_batches(batch_size: int, count: int, seed: int, device: torch.device) -> Callable[[int], Tensor]:
    """Random captions of the first ``count`` training scenes: the batch of a step, (batch_size, 77)."""
    tokens = tokenize([training_scene(i).caption for i in range(count)]).to(device)

    def batch(step: int) -> Tensor:
        generator = torch.Generator(device).manual_seed(seed_of(BATCHES, seed, step))
        return tokens[torch.randint(count, (batch_size,), generator=generator, device=device)]

    return batch


def open_latents(folder: Path, images: bool = False) -> LatentClips:
    """What :func:`encode_scenes` wrote, with the captions of its scenes, forwards and backwards.

    A scene that is there both ways leaves only its caption to tell where its object moves. Places that the object
    passes count PATH_WEIGHT times in the loss: they are what the caption speaks of.

    Args:
        folder: of the encoded scenes.
        images: also open the images that the clips start with.
    """
    shards = [load_file(file) for file in sorted(folder.glob("*.safetensors"))]
    latents = rearrange(torch.cat([shard["latents"] for shard in shards]), "n f c h w -> n c f h w")
    paths = torch.cat([shard["path"] for shard in shards])
    scenes = [training_scene(i) for i in range(len(latents))]
    turned = {i: caption for i, scene in enumerate(scenes) if (caption := scene.backward_caption) is not None}
    backward = [*turned]
    return LatentClips(
        torch.cat([latents, latents[backward].flip(2)]),
        tokenize([*(scene.caption for scene in scenes), *turned.values()]),
        torch.where(torch.cat([paths, paths[backward]]), PATH_WEIGHT, 1.0),
        _first_frames(torch.cat([shard["ends"] for shard in shards]), backward) if images else None,
    )


def _first_frames(ends: Tensor, backward: list[int]) -> Tensor:
    """Frame 0 of every clip, then of those that are played backwards, (clips, 3, H, W) uint8."""
    return torch.cat([ends[:, 0], ends[backward, 1]]).movedim(-1, 1)


def _latent_path(scene: Scene) -> NDArray[np.bool_]:
    """:func:`.scenes.path` at the resolution of latents, (H/8, W/8)."""
    if not scene.diameter:
        return np.zeros((SIZE // 8, SIZE // 8), np.bool_)
    cells = path(scene, NUM_FRAMES, SIZE).reshape(SIZE // 8, 8, SIZE // 8, 8)
    return np.asarray(cells.any((1, 3)))
