"""Longer video from several clips."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..firstframe.clips.extend import join_clips, split_at_best
from ..firstframe.clips.images import rgb_frames
from .aliases import search_aliases

CATEGORY = "FirstFrame/video"


class ExtendClip(io.ComfyNode):
    """Where the next clip starts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameExtendClip",
            display_name="Extend Clip",
            category=CATEGORY,
            **search_aliases("last frame", "continue video", "longer video", "extend video"),
            description=(
                "Takes the image for the next clip from the end of this one. Encode it as the next reference, and "
                "join what comes out with the clip."
            ),
            inputs=[
                io.Image.Input("images", tooltip="The frames of a finished clip."),
                io.Int.Input(
                    "among_last",
                    default=1,
                    min=1,
                    max=64,
                    tooltip=(
                        "The image is the sharpest of so many last frames; the clip is cut behind it. 1 takes the "
                        "last frame and cuts nothing."
                    ),
                ),
            ],
            outputs=[io.Image.Output(display_name="picture"), io.Image.Output(display_name="clip")],
        )

    @classmethod
    def execute(cls, images: Tensor, among_last: int) -> io.NodeOutput:
        return io.NodeOutput(*split_at_best(rgb_frames(images), among_last))


class JoinClips(io.ComfyNode):
    """Two clips as one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameJoinClips",
            display_name="Join Clips",
            category=CATEGORY,
            **search_aliases("concatenate", "combine videos", "merge clips", "append"),
            description=(
                "Puts a clip behind the one whose last frame it starts with. The frame that both have is kept once."
            ),
            inputs=[
                io.Image.Input("first", tooltip="The clip from Extend Clip."),
                io.Image.Input("second", tooltip="The clip that was made from its last frame."),
                io.Boolean.Input(
                    "match_colors",
                    default=True,
                    tooltip="Hold the colours of the second clip to the frame where they meet. Off: as they are.",
                ),
            ],
            outputs=[io.Image.Output(display_name="IMAGE")],
        )

    @classmethod
    def execute(cls, first: Tensor, second: Tensor, match_colors: bool) -> io.NodeOutput:
        return io.NodeOutput(join_clips([rgb_frames(first), rgb_frames(second)], match_colors))
