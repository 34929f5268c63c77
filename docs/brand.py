"""The icon and the banner for the ComfyUI registry: python docs/brand.py

Writes icon.png (400 x 400) and banner.png (21 : 9) into docs/images, from the example image and a clip that the tiny
model makes of it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from firstframe.bindings.diffusers import SamplingSettings
from firstframe.bindings.diffusers.pipeline import reference_of, sample_clip
from firstframe.clips.reference import prepare_image
from firstframe.tiny.config import SIZE
from firstframe.tiny.model import load_tiny

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
PROMPT = "a red heart moves right quickly, still camera"
NIGHT, LIGHT, ACCENT = "#14181f", "#f2f4f7", "#ffc94d"


def clip() -> list[Image.Image]:
    """The frames of a clip, the example image first."""
    model = load_tiny(torch.device("cpu"))
    image = prepare_image(ROOT / "firstframe" / "tiny" / "example.png", SIZE, SIZE)
    frames = sample_clip(model, PROMPT, SamplingSettings(cfg=1.5), reference_of(model, image))
    return [_pixels(image[0].movedim(0, -1)), *map(_pixels, frames[1:])]


def icon(first: Image.Image) -> Image.Image:
    """The first frame, with the edges of two more behind it."""
    canvas = Image.new("RGB", (400, 400), NIGHT)
    draw = ImageDraw.Draw(canvas)
    for offset, colour in ((84, "#3a4352"), (42, "#667289")):
        draw.rounded_rectangle((40 + offset, 124 - offset, 276 + offset, 360 - offset), 22, outline=colour, width=8)
    _framed(canvas, first, (40, 124), 236)
    return canvas


def banner(frames: list[Image.Image]) -> Image.Image:
    """The name, what it is, and a clip that fades behind its first frame."""
    canvas = Image.new("RGB", (1260, 540), NIGHT)
    draw = ImageDraw.Draw(canvas)
    draw.text((64, 70), "FirstFrame", LIGHT, ImageFont.load_default(88))
    draw.text(
        (68, 178),
        "Image to video for ComfyUI: your image, your prompt, the first frame kept.",
        "#aab4c3",
        ImageFont.load_default(30),
    )
    for number, frame in enumerate(frames[::3][:5]):
        _framed(canvas, frame, (64 + 228 * number, 270), 212, ACCENT if number == 0 else "#3a4352")
    return canvas


def _framed(canvas: Image.Image, frame: Image.Image, place: tuple[int, int], side: int, colour: str = ACCENT) -> None:
    canvas.paste(frame.resize((side, side), Image.Resampling.LANCZOS), place)
    left, top = place
    ImageDraw.Draw(canvas).rounded_rectangle((left - 4, top - 4, left + side + 3, top + side + 3), 12, None, colour, 8)


def _pixels(frame: Tensor) -> Image.Image:
    return Image.fromarray((frame.clamp(0, 1) * 255).round().byte().numpy())


if __name__ == "__main__":
    frames = clip()
    icon(frames[0]).save(IMAGES / "icon.png", optimize=True)
    banner(frames).save(IMAGES / "banner.png", optimize=True)
