"""The moving image at the head of the README: two images, each sent three ways.

    python docs/actions.py

Writes docs/images/actions.gif, with adapter and retention branch, from images that no training saw. Two minutes on
two CPU cores.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from firstframe.bindings.diffusers import PartScales, SamplingSettings
from firstframe.bindings.diffusers.pipeline import reference_of, sample_clip
from firstframe.clips.reference import prepare_image
from firstframe.clips.video import to_uint8
from firstframe.tiny.model import TinyModel, load_tiny
from firstframe.tiny.scenes.target import Target, action_targets

FILE = Path(__file__).parent / "images" / "actions.gif"
HEART, SQUARE = 15, 1
ACTIONS = ("left slowly", "right quickly", "up slowly")
SETTINGS = SamplingSettings(num_frames=16, steps=20, cfg=1.5)
SIDE, GAP, FOOT = 160, 6, 24
FIRST, NEXT, LAST = 500, 125, 600  # milliseconds


def clips_of(model: TinyModel, truth: Target) -> list[list[Image.Image]]:
    """The image standing still, then what each action makes of it, as frames in the size to be shown."""
    reference = reference_of(model, prepare_image(truth.frames[0], 128, 128))
    what = truth.scene.caption.partition(" moves ")[0]
    prompts = [f"{what} moves {action}, still camera" for action in ACTIONS]
    clips = [sample_clip(model, prompt, SETTINGS, reference, PartScales()) for prompt in prompts]
    still = clips[0][:1].expand(len(clips[0]), -1, -1, -1)
    return [[_shown(frame.numpy()) for frame in to_uint8(clip)] for clip in (still, *clips)]


def page(rows: list[list[list[Image.Image]]], frame: int) -> Image.Image:
    """All clips at one frame, over what they were told."""
    width, height = 4 * SIDE + 3 * GAP, len(rows) * (SIDE + GAP) + FOOT
    drawn = Image.new("RGB", (width, height), "white")
    text, font = ImageDraw.Draw(drawn), ImageFont.load_default(13)
    for column, words in enumerate(("the image", *(f"“moves {action}”" for action in ACTIONS))):
        left = column * (SIDE + GAP)
        for row, clips in enumerate(rows):
            drawn.paste(clips[column][frame], (left, row * (SIDE + GAP)))
        text.text((left + SIDE / 2, height - FOOT / 2), words, fill="#333", font=font, anchor="mm")
    return drawn.quantize(128)


def _shown(pixels: object) -> Image.Image:
    return Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def main() -> None:
    model = load_tiny()
    scenes = list(islice(action_targets(HEART + 1, 0, 1), HEART + 1))
    rows = [clips_of(model, scenes[number][0]) for number in (HEART, SQUARE)]
    first, *others = [page(rows, frame) for frame in range(SETTINGS.num_frames)]
    durations = [FIRST, *[NEXT] * (len(others) - 1), LAST]
    first.save(FILE, save_all=True, append_images=others, duration=durations, loop=0)


if __name__ == "__main__":
    main()
