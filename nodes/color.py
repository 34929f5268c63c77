"""Colours of a finished video."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..firstframe.clips.color import match_color
from ..firstframe.clips.images import rgb_frames
from .aliases import search_aliases


class ColorMatch(io.ComfyNode):
    """Colours that drift away from the image are brought back."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameColorMatch",
            display_name="Match Colours",
            category="FirstFrame/video",
            **search_aliases("Match Colors", "color match", "color transfer", "color correction", "histogram"),
            description="Gives every frame the colours of the image (LAB a and b); brightness stays as it is.",
            inputs=[
                io.Image.Input("images", tooltip="The frames of a video."),
                io.Image.Input("picture", tooltip="The image with the right colours, of any size."),
                io.Boolean.Input(
                    "official",
                    default=False,
                    tooltip=(
                        "Off: correct colours. On: the result of the released I2V-Adapter code, which swaps red and "
                        "blue."
                    ),
                ),
            ],
            outputs=[io.Image.Output(display_name="IMAGE")],
        )

    @classmethod
    def execute(cls, images: Tensor, picture: Tensor, official: bool) -> io.NodeOutput:
        return io.NodeOutput(match_color(rgb_frames(images), rgb_frames(picture)[0], official))
