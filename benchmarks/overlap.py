"""Drift over several clips: the image alone handed over, against latents that overlap.

    python benchmarks/overlap.py [--images 4] [--clips 4] [--overlap 4] [--steps 10]

Animates rendered images with the tiny model, clip after clip, and compares the last clip with the image. Writes the
means of both ways, and the frames of the first image under each other to report/overlap.png.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from kornia.color import rgb_to_lab
from PIL import Image
from torch import Tensor

from firstframe.bindings.diffusers import SamplingSettings
from firstframe.bindings.diffusers.pipeline import (
    animate_sequence,
    continue_sequence,
    reference_of,
    sample_clip,
    sample_latents,
)
from firstframe.clips.metrics.image import ssim
from firstframe.clips.reference import Reference
from firstframe.sampling.prior import MOTION
from firstframe.tiny.config import GUIDANCE
from firstframe.tiny.model import TinyModel, load_tiny
from firstframe.tiny.scenes.target import Target, action_targets

ROOT = Path(__file__).resolve().parents[1]
DIRECTIONS = ("right", "down", "left", "up")
FRAMES = 16


def prompts_of(target: Target, clips: int) -> list[str]:
    """A sentence for each clip: the object goes round."""
    around = [replace(target.scene, direction=direction, speed="slowly") for direction in DIRECTIONS]
    return [around[clip % len(around)].caption for clip in range(clips)]


def with_image(model: TinyModel, image: Tensor, prompts: list[str], settings: SamplingSettings) -> Tensor:
    """Each clip starts with the last image of the one before."""

    def animated(image: Tensor, prompt: str, own: SamplingSettings) -> Tensor:
        return sample_clip(model, prompt, own, reference_of(model, image))

    return animate_sequence(animated, image, prompts, settings)


def with_latents(
    model: TinyModel, image: Tensor, prompts: list[str], settings: SamplingSettings, overlap: int
) -> Tensor:
    """Each clip starts with the last ``overlap`` latents of the one before."""

    def sampled(reference: Reference, prompt: str, own: SamplingSettings) -> Tensor:
        return sample_latents(model, prompt, own, reference)

    return continue_sequence(model, sampled, reference_of(model, image), prompts, settings, overlap)


def drift(frames: Tensor, image: Tensor, new: int) -> dict[str, float]:
    """How far the last clip is from the image, and how large the jumps at the seams are.

    Args:
        frames: (F, H, W, 3) of all clips.
        image: (H, W, 3).
        new: frames that each clip after the first one adds.
    """
    last, jumps = frames[-new:], (frames[1:] - frames[:-1]).abs().mean((1, 2, 3))
    seams = torch.zeros(len(jumps), dtype=torch.bool)
    seams[FRAMES - 1 :: new] = True
    lab, wanted = (rgb_to_lab(part.movedim(-1, 1)) for part in (last, image[None]))
    return {
        "ssim to the image": ssim(last, image.expand_as(last)),
        "colour difference": float((lab - wanted).mean((0, 2, 3)).norm()),
        "contrast": float(last.mean(-1).std() / image.mean(-1).std()),
        "jump at the seams": float(jumps[seams].mean() / jumps[~seams].mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 4), ("clips", 4), ("overlap", 4), ("steps", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    model, prior = load_tiny(), MOTION["balanced"]
    settings = SamplingSettings(
        FRAMES, options.steps, GUIDANCE, 0, prior.keep_probability, prior.start_time, scale_blur=True
    )
    ways: dict[str, tuple[Callable[..., Tensor], int]] = {
        "image": (with_image, FRAMES - 1),
        "latents": (partial(with_latents, overlap=options.overlap), FRAMES - options.overlap),
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for number, (target, *_) in enumerate(action_targets(options.images, 0, FRAMES)):
        shown = []
        for name, (made, new) in ways.items():
            frames = made(model, target.image, prompts_of(target, options.clips), settings)
            found[name].append(drift(frames, target.frames[0], new))
            shown.append(torch.cat([*frames[torch.linspace(0, len(frames) - 1, 12).long()]], dim=1))
        if number == 0:
            (ROOT / "report").mkdir(exist_ok=True)
            Image.fromarray((torch.cat(shown) * 255).byte().numpy()).save(ROOT / "report" / "overlap.png")
    print("| handed over | " + " | ".join(found["image"][0]) + " |", flush=True)
    for name, numbers in found.items():
        means = {key: sum(one[key] for one in numbers) / len(numbers) for key in numbers[0]}
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in means.values()) + " |")


if __name__ == "__main__":
    main()
