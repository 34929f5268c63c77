"""What the numbers of a report are called, how they are rounded, and what they mean."""

from __future__ import annotations

from typing import NamedTuple


class Term(NamedTuple):
    """A number of a report: its name with its unit, how many digits are shown, and what it says."""

    label: str
    digits: int
    meaning: str


NUMBERS = {
    "ssim": Term("ssim", 3, "Structural similarity to the true clip, the mean over frames and colours; 1 is equal."),
    "psnr": Term(
        "psnr (dB)", 1, "Peak signal-to-noise ratio against the true clip, in decibels; higher is closer, 100 is equal."
    ),
    "first_frame_ssim": Term(
        "ssim of frame 0 to the image", 3, "How well the clip starts with the image it was given; 1 is equal."
    ),
    "direction_accuracy": Term(
        "right direction",
        2,
        "Share of clips in which the object moves where the prompt says, 0 to 1. Chance gives about a quarter.",
    ),
    "object_ssim": Term(
        "ssim of the object",
        3,
        "Structural similarity inside the box around the true object, the mean over frames; 1 is equal.",
    ),
    "silhouette_iou": Term(
        "IoU of the outline",
        2,
        "How well the object's outline in the last frame covers the true one: intersection over union, 0 to 1.",
    ),
    "object_speed": Term(
        "speed of the object (of the true one)",
        2,
        "Optical flow inside the true object's outline, along the true motion, over the true speed. 1 is the true "
        "speed, 0 stands still.",
    ),
    "background_flow": Term(
        "flow of the background (px/frame)",
        2,
        "Mean length of the optical flow where nothing truly moves, under a still camera; 0 is steady.",
    ),
    "background_jump": Term(
        "colour jump, frame 0 to 1 (Delta E)",
        2,
        "Mean colour difference (CIE76) from frame 0 to frame 1 where nothing truly moves, under a still camera. About "
        "2 can be seen.",
    ),
    "flow_score": Term(
        "flow (px/frame)",
        2,
        "Mean length of the optical flow between neighbouring frames, in pixels per frame, of object and "
        "background alike. A still clip has 0.",
    ),
    "warping_error": Term(
        "warping error",
        1,
        "Amount of flicker: the mean squared difference, colours from 0 to 255, between a frame and its next one "
        "warped back by the flow. Lower is steadier, a still clip has 0.",
    ),
    "brightness_drift": Term(
        "brighter by (of 255)", 1, "Mean brightness minus that of the true clip, in levels of 255; 0 is equal."
    ),
    "contrast_drift": Term(
        "more contrast by", 3, "Standard deviation of the brightness relative to the true clip; 0.1 is 10 % more."
    ),
    "picture_ssim": Term(
        "ssim to the image",
        3,
        "Structural similarity of a frame to the image; 1 is equal. It falls where objects move or lose their look.",
    ),
}


def plain(name: str) -> str:
    """A name without its underscores."""
    return name.replace("_", " ")
