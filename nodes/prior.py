"""Where sampling starts."""

from __future__ import annotations

from comfy_api.latest import io

from ..firstframe.clips.reference import Reference
from ..firstframe.sampling.prior import mask_generator, prior_mean, scaled_blur
from ..firstframe.shapes import fold_frames
from . import types
from .aliases import search_aliases
from .inputs import blur_inputs, motion_input, num_frames_input, prior_inputs
from .presets import CUSTOM, knobs_of


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
                num_frames_input(),
                *prior_inputs(
                    1.0,
                    "noise schedule. 1 starts from noise alone; smaller is steadier, with less motion. The stronger of "
                    "the two knobs.",
                ),
                *blur_inputs(),
                motion_input(),
                io.Boolean.Input(
                    "scale_blur",
                    default=False,
                    optional=True,
                    tooltip=(
                        "On: kernel and sigma are those for 512 pixels, and other sizes get a blur in proportion. Off: "
                        "they are used as they are."
                    ),
                ),
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
        scale_blur: bool = False,
    ) -> io.NodeOutput:
        knobs = knobs_of(motion, start_time, keep_probability)
        latent = reference.nearest(num_frames)
        blur = scaled_blur(blur_kernel, blur_sigma, *latent.shape[-2:]) if scale_blur else (blur_kernel, blur_sigma)
        frames = prior_mean(latent, num_frames, knobs.keep_probability, mask_generator(seed), *blur)
        return io.NodeOutput({"samples": fold_frames(frames)}, knobs.start_time)
