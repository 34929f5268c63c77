"""Guidance by picture and text."""

from __future__ import annotations

from typing import Any

import comfy.sample
import comfy.samplers
import latent_preview
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..firstframe.bindings.comfy.guidance import DualGuider
from ..firstframe.clips.reference import Reference
from ..firstframe.sampling.guidance import DualGuidance, LowPass
from ..firstframe.sampling.prior import mask_generator, prior_mean
from ..firstframe.shapes import fold_frames
from . import types
from .aliases import search_aliases
from .low_pass import low_pass_inputs
from .presets import CUSTOM, knobs_of, motion_input

CATEGORY = "FirstFrame/sampling"
WITH_IMAGE = "its pass is saved where the image scale is 1 too, which otherwise needs it"


def _percent(id: str, default: float, what: str, saved: str = "its pass is saved") -> io.Float.Input:
    tooltip = f"{what} in the noise schedule, 0 (all noise) to 1 (none). Outside, the scale is 1 and {saved}."
    return io.Float.Input(id, default=default, min=0.0, max=1.0, step=0.001, tooltip=tooltip)


def _guidance_inputs() -> list[Any]:
    return [
        io.Float.Input(
            "image_scale",
            default=1.5,
            min=0.0,
            max=30.0,
            step=0.1,
            tooltip="How much more the picture counts than without it. 1 is neutral and saves a third of the time.",
        ),
        io.Float.Input(
            "text_scale",
            default=7.5,
            min=0.0,
            max=30.0,
            step=0.1,
            tooltip="How much more the text counts than without it. 1 is neutral. Tiny model: 2.",
        ),
    ]


def _refinement_inputs() -> list[Any]:
    return [
        _percent("image_start", 0.0, "Where the image scale begins"),
        _percent("image_end", 1.0, "Where the image scale ends"),
        _percent("text_start", 0.0, "Where the text scale begins", WITH_IMAGE),
        _percent("text_end", 1.0, "Where the text scale ends", WITH_IMAGE),
        io.Float.Input(
            "parallel",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip=(
                "Share of the guidance that is kept along the prediction (APG): that part brightens and saturates. "
                "1 keeps all; 0 takes it away."
            ),
        ),
        io.Float.Input(
            "rescale",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Share of the result whose contrast is brought back to that of the unguided one. 0 is off.",
        ),
    ]


def _guider(
    model: ModelPatcher,
    positive: list[Any],
    negative: list[Any],
    image_scale: float,
    text_scale: float,
    image_start: float,
    image_end: float,
    text_start: float,
    text_end: float,
    parallel: float,
    rescale: float,
    early_detail: float = 1.0,
    early_end: float = 0.2,
) -> DualGuider:
    image_interval, text_interval = (image_start, image_end), (text_start, text_end)
    guidance = DualGuidance(image_scale, text_scale, image_interval, text_interval, parallel, rescale)
    guider = DualGuider(model, guidance, LowPass(early_detail, early_end))
    guider.set_conds(positive, negative)
    return guider


class DualCFGGuider(io.ComfyNode):
    """One scale for the picture, one for the text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameDualCFGGuider",
            display_name="Dual CFG Guider (picture and text)",
            category=CATEGORY,
            **search_aliases("dual guidance", "image guidance", "adaptive low-pass guidance", "APG", "rescale CFG"),
            description=(
                "Guidance with one scale for the picture and one for the text, so that one picture can be sent into "
                "different actions. For SamplerCustomAdvanced."
            ),
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip=(
                        "A model with adapter, or without one where a retention branch is used; or an image-to-video "
                        "model of the host (Wan, HunyuanVideo, LTX, Cosmos)."
                    ),
                ),
                io.Conditioning.Input("positive", tooltip="The prompt."),
                io.Conditioning.Input("negative", tooltip='Stands for "no text".'),
                *_guidance_inputs(),
                *_refinement_inputs(),
                *low_pass_inputs(
                    "More motion in the host's image-to-video models (Wan, LTX, ...): share of the picture's "
                    "resolution that the early steps see."
                ),
            ],
            outputs=[io.Guider.Output(display_name="GUIDER")],
        )

    @classmethod
    def execute(cls, model: ModelPatcher, positive: list[Any], negative: list[Any], **guidance: float) -> io.NodeOutput:
        return io.NodeOutput(_guider(model, positive, negative, **guidance))


class Sampler(io.ComfyNode):
    """Prior, guidance and sampling in one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameSampler",
            display_name="FirstFrame Sampler",
            category=CATEGORY,
            **search_aliases("KSampler", "sample video", "image to video", "img2vid", "i2v", "图生视频"),
            description="The whole sampling in one node: frame similarity prior, dual guidance and the host's sampler.",
            inputs=[
                io.Model.Input("model", tooltip="A model with a motion module, and with the adapter if you use one."),
                io.Conditioning.Input("positive", tooltip="The prompt, from Apply Retention Branch if you use it."),
                io.Conditioning.Input("negative", tooltip='Stands for "no text".'),
                types.Reference.Input("reference", tooltip="From Encode Reference Picture."),
                io.Int.Input(
                    "num_frames",
                    default=16,
                    min=2,
                    max=4096,
                    tooltip="At most what the motion module has positions for.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The same seed gives the same video.",
                ),
                io.Int.Input("steps", default=25, min=1, max=10000, tooltip="More is finer and slower."),
                *_guidance_inputs(),
                io.Combo.Input(
                    "sampler_name", options=comfy.samplers.SAMPLER_NAMES, default="ddim", tooltip="The host's sampler."
                ),
                io.Combo.Input(
                    "scheduler",
                    options=comfy.samplers.SCHEDULER_NAMES,
                    default="ddim_uniform",
                    tooltip="How the steps are spread over the noise schedule.",
                ),
                io.Float.Input(
                    "start_time",
                    default=1.0,
                    min=0.05,
                    max=1.0,
                    step=0.01,
                    tooltip="t0: where in the noise schedule sampling starts. 1 is from noise; smaller is steadier.",
                ),
                io.Float.Input(
                    "keep_probability",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip=(
                        "p: share of the picture's latent that the start keeps unblurred; smaller is steadier in the "
                        "paper, larger with the tiny model."
                    ),
                ),
                *_refinement_inputs(),
                motion_input(),
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
        **guidance: float,
    ) -> io.NodeOutput:
        start_time, keep_probability = knobs_of(motion, start_time, keep_probability)
        guider = _guider(model, positive, negative, **guidance)
        start = fold_frames(
            prior_mean(reference.nearest(num_frames), num_frames, keep_probability, mask_generator(seed))
        )
        sampling = model.get_model_object("model_sampling")
        total = steps if start_time > 0.9999 else int(steps / start_time)
        sigmas = comfy.samplers.calculate_sigmas(sampling, scheduler, total)
        sigmas = sigmas if total == steps else sigmas[-(steps + 1) :]
        samples = guider.sample(
            comfy.sample.prepare_noise(start, seed),
            start,
            comfy.samplers.sampler_object(sampler_name),
            sigmas,
            callback=latent_preview.prepare_callback(model, len(sigmas) - 1),
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=seed,
        )
        return io.NodeOutput({"samples": samples.to(comfy.model_management.intermediate_device())})
