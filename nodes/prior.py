"""Where sampling starts."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..firstframe.clips.reference import Reference
from ..firstframe.sampling.prior import mask_generator, prior_mean
from ..firstframe.shapes import fold_frames
from . import types
from .aliases import search_aliases
from .presets import CUSTOM, knobs_of, motion_input


def blur_inputs() -> list[Any]:
    """The blur of the prior, and the seed that draws which parts escape it."""
    return [
        io.Int.Input(
            "blur_kernel",
            default=9,
            min=3,
            max=63,
            step=2,
            tooltip="Size of the blur in latent pixels (8 or more image pixels), odd. 9 as published.",
        ),
        io.Float.Input(
            "blur_sigma",
            default=18.0,
            min=0.1,
            max=100.0,
            step=0.1,
            tooltip="Standard deviation of the blur in latent pixels. 18 as published; near 0 blurs nothing.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=True,
            tooltip="Which parts are kept. The sampler's seed draws the noise; both may be the same number.",
        ),
    ]


class SimilarityPrior(io.ComfyNode):
    """The frame similarity prior of the I2V-Adapter paper."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameSimilarityPrior",
            display_name="Frame Similarity Prior",
            category="FirstFrame/prior",
            **search_aliases("empty latent", "initial latent", "init video", "motion amount", "t0"),
            description=(
                "Starts every frame from a softened copy of the image instead of from nothing: steadier video. Wire "
                "LATENT into the sampler's latent_image and denoise into its denoise."
            ),
            inputs=[
                types.Reference.Input("reference", tooltip="From Encode Reference Image."),
                io.Int.Input(
                    "num_frames",
                    default=16,
                    min=2,
                    max=4096,
                    tooltip="Frames of the video, at most what the motion module has positions for (16, 24 or 32).",
                ),
                io.Float.Input(
                    "start_time",
                    default=1.0,
                    min=0.05,
                    max=1.0,
                    step=0.01,
                    tooltip=(
                        "t0 of the paper: where sampling starts, as a share of the noise schedule. 1 starts from noise "
                        "alone; smaller is steadier, with less motion. The stronger of the two knobs."
                    ),
                ),
                io.Float.Input(
                    "keep_probability",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip=(
                        "Share of the image's latent that the start keeps unblurred; the paper's p is 1 minus this. "
                        "1 keeps all and is the steadiest, less moves more."
                    ),
                ),
                *blur_inputs(),
                motion_input(),
            ],
            outputs=[io.Latent.Output(display_name="LATENT"), io.Float.Output(display_name="denoise")],
        )

    @classmethod
    def execute(
        cls,
        reference: Reference,
        num_frames: int,
        start_time: float,
        keep_probability: float,
        blur_kernel: int,
        blur_sigma: float,
        seed: int,
        motion: str = CUSTOM,
    ) -> io.NodeOutput:
        start_time, keep_probability = knobs_of(motion, start_time, keep_probability)
        frames = prior_mean(
            reference.nearest(num_frames), num_frames, keep_probability, mask_generator(seed), blur_kernel, blur_sigma
        )
        return io.NodeOutput({"samples": fold_frames(frames)}, start_time)
