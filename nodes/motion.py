"""Motion modules on a model."""

from __future__ import annotations

from typing import Literal

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..firstframe.bindings.comfy.motion import apply_motion
from .types import MotionModule


class ApplyMotionModule(io.ComfyNode):
    """From a picture model to a video model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameApplyMotionModule",
            display_name="Apply Motion Module",
            category="FirstFrame/motion",
            description="Lets the pictures of a batch move as the frames of one clip.",
            inputs=[
                io.Model.Input("model", tooltip="A Stable Diffusion 1.5 model."),
                MotionModule.Input("motion_module", tooltip="From Load Motion Module."),
                io.Float.Input(
                    "scale",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.01,
                    tooltip=(
                        "How much of the motion module is added, as a factor. 1 is as trained; 0 leaves the frames "
                        "unconnected."
                    ),
                ),
                io.Combo.Input(
                    "schedule",
                    options=["auto", "keep"],
                    default="auto",
                    tooltip=(
                        "Noise schedule. auto: the one that motion modules were trained with (linear betas; "
                        "sqrt_linear in ComfyUI's words), with the model's own kind of prediction. keep: the model's, "
                        "unchanged."
                    ),
                ),
            ],
            outputs=[io.Model.Output(display_name="MODEL")],
        )

    @classmethod
    def execute(
        cls, model: ModelPatcher, motion_module: ModelPatcher, scale: float, schedule: Literal["auto", "keep"]
    ) -> io.NodeOutput:
        return io.NodeOutput(apply_motion(model, motion_module, scale, schedule))
