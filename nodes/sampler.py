"""The whole sampling in one node."""

from __future__ import annotations

from typing import Any

import comfy.samplers
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..firstframe.bindings.comfy.sampler import sample_clip
from ..firstframe.clips.reference import Reference
from . import types
from .aliases import search_aliases
from .guidance import dual_guider
from .inputs import (
    motion_input,
    num_frames_input,
    passes_input,
    prior_inputs,
    refinement_inputs,
    scale_inputs,
    seed_input,
)
from .presets import CUSTOM, knobs_of


class Sampler(io.ComfyNode):
    """Prior, guidance and sampling in one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameSampler",
            display_name="FirstFrame Sampler",
            category="FirstFrame/sampling",
            **search_aliases("KSampler", "sample video", "image to video", "img2vid", "i2v", "图生视频"),
            description="The whole sampling in one node: frame similarity prior, dual guidance and ComfyUI's sampler.",
            inputs=[
                io.Model.Input("model", tooltip="A model with a motion module, and with the adapter if you use one."),
                io.Conditioning.Input("positive", tooltip="The prompt, from Apply Retention Branch if you use it."),
                io.Conditioning.Input("negative", tooltip="What the video should not show; may be empty."),
                types.Reference.Input("reference", tooltip="From Encode Reference Image."),
                num_frames_input(),
                seed_input("The same seed gives the same video."),
                io.Int.Input("steps", default=25, min=1, max=10000, tooltip="More is finer and slower."),
                *scale_inputs(),
                io.Combo.Input(
                    "sampler_name", options=comfy.samplers.SAMPLER_NAMES, default="ddim", tooltip="ComfyUI's sampler."
                ),
                io.Combo.Input(
                    "scheduler",
                    options=comfy.samplers.SCHEDULER_NAMES,
                    default="ddim_uniform",
                    tooltip="How the steps are spread over the noise schedule.",
                ),
                *prior_inputs(1.0, "noise schedule. 1 starts from noise alone; smaller is steadier."),
                *refinement_inputs(),
                motion_input(),
                passes_input(),
            ],
            outputs=[io.Latent.Output(display_name="LATENT")],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        positive: list[Any],
        negative: list[Any],
        reference: Reference,
        num_frames: int,
        seed: int,
        steps: int,
        sampler_name: str,
        scheduler: str,
        start_time: float,
        keep_probability: float,
        motion: str = CUSTOM,
        **guidance: Any,
    ) -> io.NodeOutput:
        guider = dual_guider(model, positive, negative, **guidance)
        knobs = knobs_of(motion, start_time, keep_probability)
        samples = sample_clip(guider, reference, num_frames, seed, steps, knobs, sampler_name, scheduler)
        return io.NodeOutput({"samples": samples})
