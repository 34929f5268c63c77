"""The image itself as the first frame of a decoded video."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..firstframe.clips.exact import FADE_FRAMES, exact_first_frame
from ..firstframe.clips.images import rgb_frames
from .aliases import search_aliases


class ExactFirstFrame(io.ComfyNode):
    """What the VAE lost of the image comes back."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameExactFirstFrame",
            display_name="Exact First Frame",
            category="FirstFrame/video",
            **search_aliases("exact image", "restore detail", "first frame", "VAE loss", "sharpen"),
            description=(
                "Makes frame 0 the image itself, pixel for pixel. In the next frames, restores the detail that the "
                "VAE lost, wherever nothing has moved yet."
            ),
            inputs=[
                io.Image.Input("images", tooltip="The frames of a video, from VAE Decode."),
                io.Image.Input("image", tooltip="The prepared image: IMAGE of Encode Reference Image."),
                io.Int.Input(
                    "fade_frames",
                    default=FADE_FRAMES,
                    min=0,
                    max=4096,
                    tooltip="Frames over which the detail fades. 0 changes frame 0 alone.",
                ),
            ],
            outputs=[io.Image.Output(display_name="IMAGE")],
        )

    @classmethod
    def execute(cls, images: Tensor, image: Tensor, fade_frames: int) -> io.NodeOutput:
        return io.NodeOutput(exact_first_frame(rgb_frames(images), rgb_frames(image)[0], fade_frames))
