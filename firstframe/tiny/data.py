"""What the tiny model is trained on: scenes, rendered on all cores and encoded once, with their captions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from einops import rearrange
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm

from ..training.data import BATCHES, LatentClips, seed_of
from .rendering import Rendered, rendering
from .scenes import Sources, training_scene
from .text import tokenize

PATH_WEIGHT = 3.0
SHARD = 64
AT_ONCE = 8  # scenes that are encoded together


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
    numbers = [range(SHARD * int(file.stem), SHARD * (int(file.stem) + 1)) for file in missing]
    with rendering(sources, at_dusk) as rendered:
        shards = zip(missing, rendered(numbers), strict=True)
        for file, scenes in tqdm(shards, "scenes", len(missing), unit=" files"):
            unfinished = file.with_suffix(".part")
            save_file(_encoded(scenes, autoencoder), unfinished)
            unfinished.replace(file)
            if time.monotonic() - started > seconds and file != files[0]:
                break
    return SHARD * sum(file.exists() for file in files)


def _shard_files(folder: Path, count: int) -> list[Path]:
    return [folder / f"{index:05}.safetensors" for index in range(-(-count // SHARD))]


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
