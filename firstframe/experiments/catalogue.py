"""The experiments of ``firstframe measure``: what the papers claim, measured on rendered scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, product
from typing import Any

from ..sampling.guidance import DualGuidance, LowPass
from ..sampling.prior import MOTION as CHOICES, Knobs
from ..tiny.scenes.target import Look, Target, action_targets, held_out_targets
from . import panels
from .experiment import Case, Experiment, Report, Setup
from .methods import COMPARED, MISLED, RETAINED

MOTION = ("object_speed", "background_flow", "flow_score", "warping_error")
OBJECT = ("object_ssim", "silhouette_iou")
QUALITY = ("ssim", "psnr", "first_frame_ssim", *OBJECT, "direction_accuracy", "background_jump", *MOTION)
ALL = (*QUALITY, "brightness_drift", "contrast_drift")
SHOWN_SCALES = (1.0, 4.0)  # image, text
TEXT_SCALE = 2.0  # where the image scale varies
PRIOR_SCENES = 4
PRIOR_STEPS = 10  # t0 is rounded to whole steps: fewer do not tell 0.9 from 1
T0S, KEEPS = (1.0, 0.9, 0.8, 0.7, 0.6), (0.9, 0.7, 0.5, 0.3, 0.1)
_SCENES = (
    "Scenes are rendered: one coloured shape on a textured background, moving as a sentence says, so that the true "
    "clip, the true first frame and the true direction are known. No training saw them."
)


def _held_out(setup: Setup, look: Look = "plain") -> list[Target]:
    return list(held_out_targets(setup.scenes, setup.seed, setup.settings.num_frames, look))


def _actions(setup: Setup) -> list[list[Target]]:
    return list(action_targets(setup.images, setup.seed, setup.settings.num_frames))


def _methods(names: Sequence[str]) -> list[Case]:
    return [Case({"method": name}, name, shown=True) for name in names]


def _prior(t0: float, keep: float) -> Case:
    """What is kept stands beside the paper's p."""
    cells = {"t0": t0, "keep": keep, "p": round(1 - keep, 2)}
    return Case(cells, changes={"start_time": t0, "keep_probability": keep}, shown=True)


def _guided(way: DualGuidance, **names: str) -> Case:
    scales = (way.image_scale, way.text_scale)
    cells = {**names, "image_scale": scales[0], "text_scale": scales[1]}
    return Case(cells, changes={"guidance": way}, shown=scales == SHOWN_SCALES)


def _choice(name: str, knobs: Knobs, **changes: Any) -> Case:
    prior = {"start_time": knobs.start_time, "keep_probability": knobs.keep_probability}
    return Case({"motion": name, "t0": knobs.start_time, "keep": knobs.keep_probability}, changes={**prior, **changes})


TARGET = Case({"method": "target"}, "target", numbers=(), shown=True)
PARTS = Experiment(
    "parts",
    "The parts, alone and together",
    "What the I2V adapter (arXiv 2312.16693, Table 3) and the frame retention branch (arXiv 2312.03018) add to the "
    "text-to-video base.",
    _held_out,
    [TARGET, *_methods((*COMPARED, *RETAINED))],
    ALL,
    panels.method_panels,
    shown=3,
)
OTHER_LOOK = replace(
    PARTS,
    name="other_look",
    title="The adapter on another look",
    text="The adapter, unchanged, on a base that was tuned to scenes at dusk after the adapter was trained.",
    targets=lambda setup: _held_out(setup, "dusk"),
    cases=[TARGET, *_methods(COMPARED)],
    look="dusk",
)
ACTIONS = Experiment(
    "actions",
    "One image, many actions",
    "Every image is animated in six ways. With single guidance one scale stands between neither image nor text and "
    "both; with dual guidance the image has one scale and the text another (arXiv 2312.03018). The clips have image "
    f"scale {SHOWN_SCALES[0]:g} and text scale {SHOWN_SCALES[1]:g}.",
    lambda setup: list(chain.from_iterable(_actions(setup))),
    [
        _guided(DualGuidance(image, text), guidance="single" if image == text else "dual")
        for image, text in ((1.0, 1.0), (1.0, 2.0), SHOWN_SCALES, (2.0, 2.0), (4.0, 4.0))
    ],
    ALL,
    panels.action_panels,
    shown=6,
    clip_name=lambda target, case: ("One image under each prompt", target.scene.caption),
)
IMAGE_SCALE = Experiment(
    "image_scale",
    "Image scale, brightness and contrast",
    "One action of each image. High image scales raise brightness and contrast; rescale and APG are two ways to take "
    "that back.",
    lambda setup: [of_image[index % len(of_image)] for index, of_image in enumerate(_actions(setup))],
    [
        *(_guided(DualGuidance(scale, TEXT_SCALE), refinement="plain") for scale in (1.0, 3.0, 6.0)),
        _guided(DualGuidance(6.0, TEXT_SCALE, parallel=0.0), refinement="apg"),
        _guided(DualGuidance(6.0, TEXT_SCALE, rescale=0.7), refinement="rescale"),
    ],
    ALL,
    panels.image_scale_panels,
)
PRIOR = Experiment(
    "prior",
    "The frame similarity prior",
    "Motion and stability of the adapter's clips over t0, where sampling starts, and keep, the share of the image that "
    f"stays sharp, in {PRIOR_STEPS} steps or more. The paper's p is 1 - keep (arXiv 2312.16693, Table 2).",
    lambda setup: _held_out(setup)[:PRIOR_SCENES],
    [_prior(t0, keep) for t0, keep in product(T0S, KEEPS)],
    ALL,
    panels.prior_grids,
    least_steps=PRIOR_STEPS,
)
KNOBS = Experiment(
    "prior",
    "t0 and keep",
    "The frame similarity prior (arXiv 2312.16693, section 3.3) starts every frame from the image, part of it blurred. "
    "t0 is where in the noise schedule sampling starts: less is closer to the image. keep is the share of the image "
    f"that stays sharp; the paper's p is 1 - keep. The clips show one scene with every setting. {_SCENES}",
    _held_out,
    [TARGET, *(_prior(t0, 1.0) for t0 in T0S), *(_prior(1.0, keep) for keep in KEEPS)],
    MOTION,
    panels.prior_lines,
    shown=1,
)

DEFAULT = Knobs(1.0, 0.5)
LOW_PASS = LowPass(0.4, 0.5)
AMOUNTS = Experiment(
    "motion",
    "Amounts of motion",
    "What subtle, balanced and lively set, and what else might add motion: a softened image in the first half of the "
    "noise schedule (adaptive low-pass guidance, arXiv 2506.08456), and a text scale of 2.5 in place of 1.5.",
    _held_out,
    [
        *(_choice(name, knobs) for name, knobs in CHOICES.items()),
        _choice("defaults", DEFAULT),
        _choice("defaults, low-pass", DEFAULT, low_pass=LOW_PASS),
        _choice("defaults, text scale 2.5", DEFAULT, cfg=2.5),
    ],
    ("object_speed", "flow_score", "warping_error", "ssim"),
    panels.motion_panels,
    least_steps=PRIOR_STEPS,
)


def comparison(retention: bool) -> Report:
    """``measure tiny``: text only, clean first frame and adapter, with ``retention`` also the retention branch."""
    autoencoder = Case({"method": "autoencoder"}, "autoencoder", numbers=("ssim", "psnr", *OBJECT))
    target = replace(TARGET, numbers=("direction_accuracy", *MOTION))
    methods = replace(
        PARTS,
        name="methods",
        title="Methods compared",
        text="The first frame of the target is the image, its caption the prompt. All clips of a scene are shown at "
        f"once, eight frames a second. {_SCENES}",
        cases=[*_methods((*COMPARED, *MISLED, *(RETAINED if retention else ()))), autoencoder, target],
        numbers=QUALITY,
        shown=4,
    )
    lead = "{scenes} scenes, each animated from its first frame and its caption. What is compared:"
    return Report("report", "FirstFrame: the tiny model on rendered scenes", lead, [methods])


PRIOR_REPORT = Report(
    "prior",
    "FirstFrame: the frame similarity prior",
    "How much moves, and how steadily, over the two settings of the prior: t0, and keep (the paper's p is 1 - keep).",
    [KNOBS, AMOUNTS],
)
CLAIMS = Report(
    "claims",
    "FirstFrame: the papers' claims on rendered scenes",
    "The tiny model on {scenes} rendered scenes and {images} images that no training saw. Numbers are means.",
    [PARTS, OTHER_LOOK, ACTIONS, IMAGE_SCALE, PRIOR],
)
