"""Scenes rendered once into a file, frames to train the autoencoder on, and clips of latents.

Training scenes have even seeds, scenes to measure on have odd ones: the two never meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderTiny
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm, trange

from ..tiny.scenes import Scene, path, render, sample_scene
from ..tiny.scenes.seeds import training_seed
from ..tiny.scenes.texture import real_crop

NUM_FRAMES = 16
SIZE = 128


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
            frames[index] = render(sample_scene(training_seed(index)), with_flow=False).frames
        frames.flush()
        unfinished.rename(file)
    opened: NDArray[np.uint8] = np.load(file, mmap_mode="r")
    return opened[:count]


def frame_crops(frames: NDArray[np.uint8], batch_size: int, crop: int, seed: int) -> Iterator[Tensor]:
    """Endless random crops for the autoencoder, one in eight from a real picture.

    Yields:
        (batch_size, 3, crop, crop) in [-1, 1].
    """
    rng = np.random.default_rng(seed)
    while True:
        batch = [
            real_crop(rng, crop) if rng.random() < 1 / 8 else _random_crop(rng, frames, crop) for _ in range(batch_size)
        ]
        yield torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _random_crop(rng: np.random.Generator, frames: NDArray[np.uint8], crop: int) -> NDArray[np.uint8]:
    clip, frame = rng.integers(frames.shape[0]), rng.integers(frames.shape[1])
    top, left = rng.integers(SIZE - crop + 1, size=2)
    return frames[clip, frame, top : top + crop, left : left + crop]


def caption_batches(batch_size: int, count: int, seed: int) -> Iterator[list[str]]:
    """Endless random captions of the first ``count`` training scenes."""
    rng = np.random.default_rng(seed)
    captions = [sample_scene(training_seed(i)).caption for i in range(count)]
    while True:
        yield [captions[i] for i in rng.integers(count, size=batch_size)]


class ClipBatch(NamedTuple):
    """A few frames of some clips.

    Attributes:
        latents: (B, F, C, H, W).
        captions: one per clip.
        frames: which frames of the whole clips are shown, (F,).
        paths: where the thing is in any frame of the whole clip, (B, H, W) bool.
        pictures: frame 0 of the clips, (B, 3, 8H, 8W) in [0, 1]; None where they were not opened.
    """

    latents: Tensor
    captions: list[str]
    frames: Tensor
    paths: Tensor
    pictures: Tensor | None = None


@dataclass(frozen=True)
class LatentClips:
    """Encoded training scenes.

    Attributes:
        latents: (clips, F, C, H, W), unit variance.
        captions: one per clip.
        paths: where the thing is in any frame, (clips, H, W) bool.
        pictures: frame 0 of each, (clips, 3, 8H, 8W) uint8, or None.
    """

    latents: Tensor
    captions: list[str]
    paths: Tensor
    pictures: Tensor | None = None

    def batches(self, batch_size: int, shown: int, seed: int) -> Iterator[ClipBatch]:
        """Endless random batches of ``shown`` frames of a clip, in order.

        One frame is any frame. More are frame 0 and others drawn anew for each batch: few frames of many clips
        teach a motion module what the words mean in less time than all frames of few clips.
        """
        generator = torch.Generator().manual_seed(seed)
        clips, length = self.latents.shape[:2]
        while True:
            chosen = torch.randint(clips, (batch_size,), generator=generator)
            captions, paths = [self.captions[i] for i in chosen.tolist()], self.paths[chosen]
            first = torch.zeros(1, dtype=torch.long)
            if shown == 1:
                frames = torch.randint(length, (batch_size,), generator=generator)
                yield ClipBatch(self.latents[chosen, frames].unsqueeze(1).float(), captions, first, paths)
            else:
                later = torch.randperm(length - 1, generator=generator)[: shown - 1].sort().values + 1
                frames = torch.cat([first, later])
                pictures = None if self.pictures is None else self.pictures[chosen].float() / 255
                yield ClipBatch(self.latents[chosen][:, frames].float(), captions, frames, paths, pictures)


@torch.inference_mode()
def encode_scenes(frames: Iterable[NDArray[np.uint8]], autoencoder: AutoencoderTiny, file: Path) -> None:
    """Encode rendered scenes with the autoencoder into ``file``: fp16 latents (clips, F, 4, H/8, W/8)."""
    encoded = []
    for clip in tqdm(frames, desc="latents"):
        pixels = torch.from_numpy(clip).permute(0, 3, 1, 2).float() / 127.5 - 1
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            encoded.append(autoencoder.encode(pixels).latents.half())
    save_file({"latents": torch.stack(encoded).contiguous()}, file)


def open_latents(file: Path, scenes_file: Path | None = None) -> LatentClips:
    """What :func:`encode_scenes` wrote, with the captions of its scenes, forwards and backwards.

    A scene that is there both ways leaves only its caption to tell where its thing moves. ``scenes_file`` brings the
    pictures that the clips start with.
    """
    latents = load_file(file)["latents"]
    scenes = [sample_scene(training_seed(i)) for i in range(len(latents))]
    forward = [scene.caption for scene in scenes]
    backward = {i: caption for i, scene in enumerate(scenes) if (caption := scene.backward_caption) is not None}
    paths = torch.from_numpy(np.stack([_latent_path(scene) for scene in scenes]))
    return LatentClips(
        torch.cat([latents, latents[[*backward]].flip(1)]),
        [*forward, *backward.values()],
        torch.cat([paths, paths[[*backward]]]),
        None if scenes_file is None else _first_frames(render_scenes(scenes_file, len(scenes)), [*backward]),
    )


def _first_frames(frames: NDArray[np.uint8], backward: list[int]) -> Tensor:
    """Frame 0 of every clip, then of those that are played backwards, (clips, 3, H, W) uint8."""
    return torch.from_numpy(np.concatenate([frames[:, 0], frames[backward, -1]])).permute(0, 3, 1, 2)


def _latent_path(scene: Scene) -> NDArray[np.bool_]:
    """:func:`.scenes.path` at the resolution of latents, (H/8, W/8)."""
    cells = path(scene, NUM_FRAMES, SIZE).reshape(SIZE // 8, 8, SIZE // 8, 8)
    return np.asarray(cells.any((1, 3)))
