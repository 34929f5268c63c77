"""What the numbers, the clips and the settings of a report are called, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """A number of a report: its name with its unit, how many digits are shown, and what it says."""

    label: str
    digits: int
    meaning: str


NUMBERS = {
    "ssim": Term("ssim", 3, "Structural similarity to the true clip, the mean over frames and colours; 1 is equal."),
    "psnr": Term(
        "psnr (dB)", 1, "Peak signal to noise ratio against the true clip, in decibels; more is nearer, 100 is equal."
    ),
    "first_frame_ssim": Term(
        "ssim of frame 0 to the picture", 3, "How well the clip starts with the picture it was given; 1 is equal."
    ),
    "direction_accuracy": Term(
        "right direction",
        2,
        "Share of clips in which the thing moves where the sentence says, 0 to 1. By chance it is about a quarter.",
    ),
    "flow_score": Term(
        "flow (px/frame)",
        2,
        "How much moves: the mean length of the optical flow between neighbouring frames, in pixels per frame. A still "
        "has 0.",
    ),
    "warping_error": Term(
        "warping error",
        1,
        "How much a clip flickers: the mean squared difference, colours from 0 to 255, between a frame and its next "
        "one moved back by the flow. Less is steadier, a still has 0.",
    ),
    "brightness_drift": Term(
        "brighter by (of 255)", 1, "Mean brightness minus what it should be, in levels of 255; 0 is right."
    ),
    "contrast_drift": Term(
        "more contrast by", 3, "Standard deviation of the brightness against what it should be; 0.1 is a tenth more."
    ),
    "picture_ssim": Term(
        "ssim to the picture",
        3,
        "Structural similarity of a frame to the picture; 1 is equal. It falls where things move, and where they lose "
        "their look.",
    ),
}

VARIANTS = {
    "truth": "the rendered scene itself",
    "autoencoder": "the true clip encoded and decoded: the ceiling for ssim and psnr",
    "base": "from the sentence alone; it never sees the picture",
    "clean_frame": "the clean first frame is held and sampling starts from the frame similarity prior; no adapter",
    "adapter": "the same, with the I2V adapter",
    "retention": "from noise, with the frame retention branch; its first frame is its own",
    "adapter+retention": "adapter and branch together",
}

SETTINGS = {
    "scenes": "rendered scenes that every number is a mean over, unless it says otherwise",
    "pictures": "pictures that are each sent into six actions",
    "seed_of_the_scenes": "another one gives other scenes",
    "num_frames": "frames in a clip",
    "steps": "sampling steps (DDIM)",
    "cfg": "guidance, 1 = none; not read where there is dual guidance",
    "seed": "of the noise; every scene adds a number of its own",
    "keep_probability": "p of the frame similarity prior: share of the picture that the start keeps sharp",
    "start_time": "t0: where in the noise schedule sampling starts",
    "blur_kernel": "side of the prior's blur, in latent pixels",
    "blur_sigma": "its standard deviation, in latent pixels",
    "hold_first_frame": "the clean first frame is held in every step",
    "guidance": "dual guidance: one scale for the picture, one for the text",
    "size": "height and width in pixels of a clip without a reference; the UNet's own where not given",
}


def plain(name: str) -> str:
    """A variant, setting or knob as people write it."""
    return name.replace("_", " ")
