"""Long clips, a window at a time."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..firstframe.bindings.comfy.windows import apply_windows
from .aliases import search_aliases


class ContextWindows(io.ComfyNode):
    """More frames than the motion module has positions for."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameContextWindows",
            display_name="Context Windows (anchored)",
            category="FirstFrame/sampling",
            **search_aliases("context options", "sliding window", "long video", "AnimateDiff context"),
            description=(
                "Samples clips of any length in windows that overlap. Every window begins with the image, so that the "
                "clip does not drift away from it. The memory needed is that of one window."
            ),
            inputs=[
                io.Model.Input("model", tooltip="A model with a motion module, and with the adapter if you use one."),
                io.Int.Input(
                    "context_length",
                    default=16,
                    min=3,
                    max=256,
                    tooltip=(
                        "Frames in a window, including the image. Best: as many as the motion module has positions for."
                    ),
                ),
                io.Int.Input(
                    "context_overlap",
                    default=6,
                    min=0,
                    max=254,
                    tooltip="Frames that neighbouring windows share. More is smoother and slower.",
                ),
            ],
            outputs=[io.Model.Output(display_name="MODEL")],
        )

    @classmethod
    def execute(cls, model: ModelPatcher, context_length: int, context_overlap: int) -> io.NodeOutput:
        return io.NodeOutput(apply_windows(model, context_length, context_overlap))
