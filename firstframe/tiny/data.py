"""What the tiny model is trained on: scenes rendered once into a file, crops of them, captions, and latents."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from einops import rearrange
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm, trange

from ..training.data import BATCHES, LatentClips, seed_of
from .config import NUM_FRAMES, SIZE
from .scenes import Scene, path, render, sample_scene, training_seed
from .scenes.texture import real_crop
from .text import tokenize

PATH_WEIGHT = 6.0


def render_scenes(file: Path, count: int) -> NDArray[np.uint8]:
    """Render the first ``count`` training scenes into ``file``, or open them if they are there.

    Returns:
        (count, F, H, W, 3) uint8, memory-mapped.
    """
    shape = (count, NUM_FRAMES, SIZE, SIZE, 3)
    if not file.exists():
        unfinished = file.with_suffix(".part")
        frames = np.lib.format.open_memmap(unfinished, "w+", np.uint8, shape)
        for index in trange(count, desc="scenes"):
            frames[index] = render(sample_scene(training_seed(index)), NUM_FRAMES, SIZE, with_flow=False).frames
        frames.flush()
        unfinished.rename(file)
    opened: NDArray[np.uint8] = np.load(file, mmap_mode="r")
    return opened[:count]


def frame_crops(frames: NDArray[np.uint8], batch_size: int, crop: int, seed: int) -> Callable[[int], Tensor]:
    """Random crops for the autoencoder, one in eight from a real image.

    Returns:
        The batch of a step, (batch_size, 3, crop, crop) in [-1, 1].
    """

    def batch(step: int) -> Tensor:
        rng = np.random.default_rng(seed_of(BATCHES, seed, step))
        crops = [
            real_crop(rng, crop) if rng.random() < 1 / 8 else _random_crop(rng, frames, crop) for _ in range(batch_size)
        ]
        return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 127.5 - 1

    return batch


def _random_crop(rng: np.random.Generator, frames: NDArray[np.uint8], crop: int) -> NDArray[np.uint8]:
    clip, frame = rng.integers(frames.shape[0]), rng.integers(frames.shape[1])
    top, left = rng.integers(SIZE - crop + 1, size=2)
    return frames[clip, frame, top : top + crop, left : left + crop]


def caption_batches(batch_size: int, count: int, seed: int, device: torch.device) -> Callable[[int], Tensor]:
    """Random captions of the first ``count`` training scenes: the batch of a step, (batch_size, 77)."""
    tokens = tokenize([sample_scene(training_seed(i)).caption for i in range(count)]).to(device)

    def batch(step: int) -> Tensor:
        generator = torch.Generator(device).manual_seed(seed_of(BATCHES, seed, step))
        return tokens[torch.randint(count, (batch_size,), generator=generator, device=device)]

    return batch


@torch.inference_mode()
def encode_scenes(frames: Iterable[NDArray[np.uint8]], autoencoder: AutoencoderTiny, file: Path) -> None:
    """Encode rendered scenes into ``file``, where the autoencoder is: fp16 latents (clips, F, 4, H/8, W/8)."""
    encoded, device = [], autoencoder.device
    for clip in tqdm(frames, desc="latents"):
        pixels = torch.tensor(clip).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.autocast(device.type, torch.bfloat16):
            encoded.append(autoencoder.encode(pixels).latents.half())
    save_file({"latents": torch.stack(encoded).contiguous()}, file)


def open_latents(file: Path, scenes_file: Path | None = None) -> LatentClips:
    """What `encode_scenes` wrote, with the captions of its scenes, forwards and backwards.

    A scene that is there both ways leaves only its caption to tell where its thing moves. Places that the thing
    passes count PATH_WEIGHT times in the loss: they are what the caption speaks of.

    Args:
        file: of latents.
        scenes_file: of `render_scenes`; brings the images that the clips start with.
    """
    latents = rearrange(load_file(file)["latents"], "n f c h w -> n c f h w")
    scenes = [sample_scene(training_seed(i)) for i in range(len(latents))]
    forward = [scene.caption for scene in scenes]
    backward = {i: caption for i, scene in enumerate(scenes) if (caption := scene.backward_caption) is not None}
    paths = torch.from_numpy(np.stack([_latent_path(scene) for scene in scenes]))
    return LatentClips(
        torch.cat([latents, latents[[*backward]].flip(2)]),
        tokenize([*forward, *backward.values()]),
        torch.where(torch.cat([paths, paths[[*backward]]]), PATH_WEIGHT, 1.0),
        None if scenes_file is None else _first_frames(render_scenes(scenes_file, len(scenes)), [*backward]),
    )


def _first_frames(frames: NDArray[np.uint8], backward: list[int]) -> Tensor:
    """Frame 0 of every clip, then of those that are played backwards, (clips, 3, H, W) uint8."""
    return torch.from_numpy(np.concatenate([frames[:, 0], frames[backward, -1]])).permute(0, 3, 1, 2)


def _latent_path(scene: Scene) -> NDArray[np.bool_]:
    """`.scenes.path` at the resolution of latents, (H/8, W/8)."""
    cells = path(scene, NUM_FRAMES, SIZE).reshape(SIZE // 8, 8, SIZE // 8, 8)
    return np.asarray(cells.any((1, 3)))
