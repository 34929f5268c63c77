"""Guidance by image and text."""

from __future__ import annotations

from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from .aliases import search_aliases
from .guidance_inputs import dual_guider, refinement_inputs, scale_inputs
from .low_pass import low_pass_inputs
from .presets import passes_input


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
                "Guidance with one scale for the image and one for the text, so that one image can be sent into "
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
                *scale_inputs(),
                *refinement_inputs(),
                *low_pass_inputs(
                    "More motion in the host's image-to-video models (Wan, LTX, ...): share of the image's "
                    "resolution that the early steps see."
                ),
                passes_input(),
            ],
            outputs=[io.Guider.Output(display_name="GUIDER")],
        )

    @classmethod
    def execute(cls, model: ModelPatcher, positive: list[Any], negative: list[Any], **guidance: Any) -> io.NodeOutput:
        return io.NodeOutput(dual_guider(model, positive, negative, **guidance))
