"""Drift over several clips: the image alone handed over, against latents that overlap.

    python benchmarks/overlap.py [--clips 4] [--overlap 4] [--steps 10]

Animates the example image with the tiny model, clip after clip, and compares the last clip with the image. Writes the
frames of both ways under each other to report/overlap.png.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch
from firstframe.tiny.pipeline import (
    ADAPTER,
    animate_sequence,
    continue_sequence,
    reference_of,
    sample_clip,
    sample_latents,
)
from kornia.color import rgb_to_lab
from PIL import Image
from torch import Tensor

from firstframe.bindings.diffusers import SamplingSettings
from firstframe.clips.metrics.image import ssim
from firstframe.clips.reference import Reference, prepare_image
from firstframe.sampling.prior import MOTION
from firstframe.tiny.config import SIZE
from firstframe.tiny.model import TinyModel, load_tiny

ROOT = Path(__file__).resolve().parents[1]
DIRECTIONS = ("right", "down", "left", "up")
FRAMES = 16


def animated(model: TinyModel, image: Tensor, prompt: str, settings: SamplingSettings) -> Tensor:
    """Frames of a clip that starts with an image."""
    return sample_clip(model, prompt, settings, reference_of(model, image))


def sampled(model: TinyModel, reference: Reference, prompt: str, settings: SamplingSettings) -> Tensor:
    """Latents of a clip that starts from a reference."""
    return sample_latents(model, prompt, settings, reference, ADAPTER, "", None)


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
    for name, default in (("clips", 4), ("overlap", 4), ("steps", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    model, prior = load_tiny(), MOTION["balanced"]
    settings = SamplingSettings(FRAMES, options.steps, 2.0, 0, prior.keep_probability, prior.start_time)
    image = prepare_image(ROOT / "firstframe" / "tiny" / "example.png", SIZE, SIZE)
    prompts = [f"a yellow star moves {DIRECTIONS[n % 4]} slowly, still camera" for n in range(options.clips)]
    alone = animate_sequence(partial(animated, model), image, prompts, settings)
    latents = partial(sampled, model)
    overlapping = continue_sequence(model, latents, reference_of(model, image), prompts, settings, options.overlap)
    shown = []
    for name, frames, new in (("image", alone, FRAMES - 1), ("latents", overlapping, FRAMES - options.overlap)):
        numbers = drift(frames, image[0].movedim(0, -1), new)
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in numbers.values()) + " |", flush=True)
        shown.append(torch.cat([*frames[torch.linspace(0, len(frames) - 1, 12).long()]], dim=1))
    (ROOT / "report").mkdir(exist_ok=True)
    Image.fromarray((torch.cat(shown) * 255).byte().numpy()).save(ROOT / "report" / "overlap.png")


if __name__ == "__main__":
    main()
