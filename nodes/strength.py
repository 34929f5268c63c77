"""How strongly the image holds, over time and space."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..firstframe.errors import FirstFrameError
from ..firstframe.sampling.strength import Curve, StrengthSchedule
from . import types
from .aliases import search_aliases


def _level(id: str, which: str) -> io.Float.Input:
    tooltip = f"Factor in the layers of the UNet that work at {which}. 1 is neutral; 0 is off."
    return io.Float.Input(id, default=1.0, min=0.0, max=2.0, step=0.01, tooltip=tooltip)


class StrengthOverTimeAndSpace(io.ComfyNode):
    """Factors on a strength."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameStrengths",
            display_name="Strength over Time and Space",
            category="FirstFrame/adapter",
            **search_aliases("strength schedule", "strength mask", "keyframe strength", "layer weights"),
            description=(
                "Sets where and when the image is held: over the steps, over the frames, by level of detail, and "
                "inside a mask. For Apply I2V Adapter and Apply Retention Branch."
            ),
            inputs=[
                io.String.Input(
                    "over_steps",
                    default="0: 1, 1: 1",
                    tooltip=(
                        "Factor over the noise schedule, 0 (all noise) to 1 (none), as points 'position: factor' with "
                        "straight lines between them. '0: 1, 0.5: 0' releases the image by the middle. 1 everywhere "
                        "is neutral."
                    ),
                ),
                io.String.Input(
                    "over_frames",
                    default="0: 1",
                    tooltip=(
                        "Factor over the frame number, from 0, in the same form. '0: 1, 15: 0.5' weakens the hold "
                        "towards the end of 16 frames. 1 everywhere is neutral."
                    ),
                ),
                _level("full", "the latent's full resolution: fine detail"),
                _level("half", "half of the latent's resolution"),
                _level("quarter", "a quarter of the latent's resolution"),
                _level("eighth", "an eighth of the latent's resolution: coarse composition"),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip=(
                        "Where the image is held: white is held, black is free to move. One mask, or one for each "
                        "frame; it is fitted to the video's size."
                    ),
                ),
            ],
            outputs=[types.Strengths.Output(display_name="STRENGTHS")],
        )

    @classmethod
    def validate_inputs(cls, over_steps: str, over_frames: str) -> bool | str:
        try:
            Curve.parse(over_steps), Curve.parse(over_frames)
        except FirstFrameError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        over_steps: str,
        over_frames: str,
        full: float,
        half: float,
        quarter: float,
        eighth: float,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        steps, frames = Curve.parse(over_steps), Curve.parse(over_frames)
        return io.NodeOutput(StrengthSchedule(steps, frames, (full, half, quarter, eighth), mask))
