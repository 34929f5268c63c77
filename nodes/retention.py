"""Frame retention branches on conditionings."""

from __future__ import annotations

from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..firstframe.bindings.comfy import weights
from ..firstframe.bindings.comfy.retention import apply_retention
from ..firstframe.clips.reference import Reference
from ..firstframe.sampling.strength import StrengthSchedule
from ..firstframe.weights import MOTION_MODULE, RETENTION, has_motion_module
from . import folders, types
from .aliases import search_aliases


class LoadRetention(io.ComfyNode):
    """A retention branch file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameLoadRetention",
            display_name="Load Retention Branch",
            category="FirstFrame/load",
            **search_aliases("DreamVideo loader", "frame retention"),
            description="A frame retention branch (DreamVideo), which shows the image itself to every frame.",
            inputs=[
                io.Combo.Input(
                    "retention", options=folders.files_in(folders.ADAPTERS), tooltip="A file in models/firstframe."
                ),
            ],
            outputs=[
                types.Retention.Output(display_name="RETENTION"),
                types.MotionModule.Output(
                    display_name="MOTION_MODULE",
                    tooltip="The motion module that was trained together with the branch, where the file has one.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, retention: str) -> bool | str:
        return folders.is_there(folders.ADAPTERS, retention)

    @classmethod
    def execute(cls, retention: str) -> io.NodeOutput:
        file = folders.path_of(folders.ADAPTERS, retention)
        if has_motion_module(file):
            motion = weights.load_in_host(MOTION_MODULE, file)
        else:
            motion = ExecutionBlocker(f"{retention} has no motion module: use Load Motion Module")
        return io.NodeOutput(weights.load_in_host(RETENTION, file), motion)


class ApplyRetention(io.ComfyNode):
    """The image as one more control."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameApplyRetention",
            display_name="Apply Retention Branch",
            category="FirstFrame/retention",
            **search_aliases("DreamVideo", "frame retention", "keep details", "reference ControlNet"),
            description=(
                "Keeps the image's details in every frame, as a ControlNet keeps a pose. You can chain other "
                "ControlNets before or after it."
            ),
            inputs=[
                io.Conditioning.Input("positive", tooltip="The prompt."),
                io.Conditioning.Input("negative", tooltip="The negative prompt."),
                types.Retention.Input("retention", tooltip="From Load Retention Branch or Load Tiny Model."),
                types.Reference.Input("reference", tooltip="From Encode Reference Image, in the size of the video."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    tooltip="How much the branch adds, as a factor. 1 is as trained; 0 is off.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="Where in the noise schedule it begins, 0 (all noise) to 1 (none).",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="Where in the noise schedule it ends, 0 (all noise) to 1 (none).",
                ),
                types.Strengths.Input(
                    "strengths",
                    optional=True,
                    tooltip=(
                        "From Strength over Time and Space: factors on strength. Without them, strength is the same "
                        "everywhere."
                    ),
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive"),
                io.Conditioning.Output(display_name="negative"),
            ],
        )

    @classmethod
    def execute(
        cls,
        positive: list[Any],
        negative: list[Any],
        retention: ModelPatcher,
        reference: Reference,
        strength: float,
        start_percent: float,
        end_percent: float,
        strengths: StrengthSchedule | None = None,
    ) -> io.NodeOutput:
        both, interval = [positive, negative], (start_percent, end_percent)
        return io.NodeOutput(*apply_retention(both, retention, reference, strength, *interval, strengths))
