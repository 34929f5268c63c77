"""I2V adapters on a model."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..firstframe.bindings.comfy.adapter import apply_adapter
from ..firstframe.bindings.comfy.first_frame import hold_first_frame as hold
from ..firstframe.clips.reference import Reference
from ..firstframe.sampling.guidance import LowPass
from ..firstframe.sampling.strength import StrengthSchedule
from . import types
from .aliases import search_aliases
from .inputs import low_pass_inputs


class ApplyAdapter(io.ComfyNode):
    """From text-to-video to image-to-video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameApplyAdapter",
            display_name="Apply I2V Adapter",
            category="FirstFrame/adapter",
            **search_aliases(
                "image to video", "img2vid", "i2v", "animate image", "first frame", "I2V-Adapter", "图生视频"
            ),
            description=(
                "Makes the image the first frame of the video and lets every other frame attend to it. Sample a "
                "latent batch: one latent for each frame."
            ),
            inputs=[
                io.Model.Input("model", tooltip="A model with a motion module applied."),
                types.I2VAdapter.Input("adapter", tooltip="From Load I2V Adapter or Load Tiny Model."),
                types.Reference.Input("reference", tooltip="From Encode Reference Image, in the size of the video."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.01,
                    tooltip="How much every frame follows the first one, as a factor. 1 is as trained; 0 is off.",
                ),
                io.Boolean.Input(
                    "hold_first_frame",
                    default=True,
                    tooltip=(
                        "Keep the image free of noise in the first frame at every step, as the adapter was trained: "
                        "the video starts with exactly the image. Off: the first frame is sampled like the others."
                    ),
                ),
                types.Strengths.Input(
                    "strengths",
                    optional=True,
                    tooltip=(
                        "From Strength over Time and Space: factors on strength. Without them, strength is the same "
                        "everywhere."
                    ),
                ),
                *low_pass_inputs("More motion: share of the image's resolution that the early steps attend to."),
                io.Boolean.Input(
                    "fast",
                    default=False,
                    optional=True,
                    tooltip=(
                        "Attend to half of the image's width and height at the UNet's highest resolution, where the "
                        "adapter spends most of its time. Off: all of it, as trained."
                    ),
                ),
            ],
            outputs=[io.Model.Output(display_name="MODEL")],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        adapter: ModelPatcher,
        reference: Reference,
        strength: float,
        hold_first_frame: bool,
        strengths: StrengthSchedule | None = None,
        early_detail: float = 1.0,
        early_end: float = 0.2,
        fast: bool = False,
    ) -> io.NodeOutput:
        applied = apply_adapter(model, adapter, strength, strengths, LowPass(early_detail, early_end), fast)
        if not hold_first_frame:
            return io.NodeOutput(applied)
        assert reference.latent is not None, "Encode Reference Image encodes"
        return io.NodeOutput(hold(applied, reference.latent, reference.others))
