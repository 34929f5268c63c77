"""Guidance by image and text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..firstframe.bindings.comfy.guidance import DualGuider
from ..firstframe.sampling.guidance import DualGuidance, LowPass
from .aliases import search_aliases
from .inputs import low_pass_inputs, passes_input, refinement_inputs, scale_inputs
from .presets import CUSTOM, intervals_of


class DualCFGGuider(io.ComfyNode):
    """One scale for the image, one for the text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameDualCFGGuider",
            display_name="Dual CFG Guider (image and text)",
            category="FirstFrame/sampling",
            **search_aliases("dual guidance", "image guidance", "adaptive low-pass guidance", "APG", "rescale CFG"),
            description=(
                "Guidance with one scale for the image and one for the text, so that you can animate one image in "
                "several ways. For SamplerCustomAdvanced."
            ),
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip=(
                        "A model with an I2V adapter, or without one if you use a retention branch; or one of "
                        "ComfyUI's image-to-video models (Wan, HunyuanVideo, LTX, Cosmos)."
                    ),
                ),
                io.Conditioning.Input("positive", tooltip="The prompt."),
                io.Conditioning.Input("negative", tooltip="What the video should not show; may be empty."),
                *scale_inputs(),
                *refinement_inputs(),
                *low_pass_inputs(
                    "More motion in ComfyUI's image-to-video models (Wan, LTX, ...): share of the image's resolution "
                    "that the early steps use."
                ),
                passes_input(),
            ],
            outputs=[io.Guider.Output(display_name="GUIDER")],
        )

    @classmethod
    def execute(cls, model: ModelPatcher, positive: list[Any], negative: list[Any], **guidance: Any) -> io.NodeOutput:
        return io.NodeOutput(dual_guider(model, positive, negative, **guidance))


def dual_guider(
    model: ModelPatcher,
    positive: list[Any],
    negative: list[Any],
    passes: str = CUSTOM,
    early_detail: float = 1.0,
    early_end: float = 0.2,
    **scales: float,
) -> DualGuider:
    """The guider of a node's values; ``scales`` are those of ``scale_inputs`` and ``refinement_inputs``."""
    guider = DualGuider(model, _guidance(passes, scales), LowPass(early_detail, early_end))
    guider.set_conds(positive, negative)
    return guider


def _guidance(passes: str, scales: Mapping[str, float]) -> DualGuidance:
    image_interval = (scales["image_start"], scales["image_end"])
    intervals = intervals_of(passes, image_interval, (scales["text_start"], scales["text_end"]))
    return DualGuidance(
        scales["image_scale"],
        scales["text_scale"],
        intervals.image_interval,
        intervals.text_interval,
        scales["parallel"],
        scales["rescale"],
    )
