"""Motion modules on a model."""

from __future__ import annotations

from typing import Literal

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..firstframe.bindings.comfy.motion import add_motion_lora, apply_motion
from ..firstframe.weights import load_motion_lora
from . import folders
from .aliases import search_aliases
from .types import MotionModule


class ApplyMotionModule(io.ComfyNode):
    """From an image model to a video model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameApplyMotionModule",
            display_name="Apply Motion Module",
            category="FirstFrame/motion",
            **search_aliases("AnimateDiff", "use AnimateDiff model", "text to video", "txt2vid"),
            description="Lets the images of a batch move as the frames of one clip.",
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip=(
                        "A Stable Diffusion 1.5 or SDXL model. The motion module must be made for the same family."
                    ),
                ),
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
                        "Noise schedule. auto: the one that the motion module was trained with (in ComfyUI's words "
                        "sqrt_linear for Stable Diffusion 1.5, linear for SDXL), with the model's own kind of "
                        "prediction. keep: the model's, unchanged."
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


class MotionLoRA(io.ComfyNode):
    """A camera movement for a motion module."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameMotionLoRA",
            display_name="Motion LoRA",
            category="FirstFrame/motion",
            **search_aliases("AnimateDiff LoRA", "camera motion", "pan", "zoom", "tilt", "roll"),
            description="Adds a camera movement (pan, tilt, zoom, roll) to AnimateDiff's motion module v2.",
            inputs=[
                MotionModule.Input("motion_module", tooltip="From Load Motion Module, v2."),
                io.Combo.Input(
                    "motion_lora",
                    options=folders.files_in(folders.MOTION_LORAS),
                    tooltip="A file in models/animatediff_motion_lora.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.01,
                    tooltip=(
                        "Strength of the LoRA, as a factor. 1 is as trained; 0 is off; below 0 reverses the movement."
                    ),
                ),
            ],
            outputs=[MotionModule.Output(display_name="MOTION_MODULE")],
        )

    @classmethod
    def validate_inputs(cls, motion_lora: str) -> bool | str:
        return folders.is_there(folders.MOTION_LORAS, motion_lora)

    @classmethod
    def execute(cls, motion_module: ModelPatcher, motion_lora: str, strength: float) -> io.NodeOutput:
        lora = load_motion_lora(folders.path_of(folders.MOTION_LORAS, motion_lora))
        return io.NodeOutput(add_motion_lora(motion_module, lora, strength))
