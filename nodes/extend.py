"""Longer video from several clips."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..firstframe.clips.extend import join_clips, split_at_best
from ..firstframe.clips.overlap import continued, join_overlapping
from . import types
from .aliases import search_aliases
from .clips import Clip, clip_input, frames_of

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
                "Takes the image for the next clip from the end of this one. Encode it as the next reference, then "
                "join the new clip to this one."
            ),
            inputs=[
                clip_input("images", "The frames of a finished clip, or a VIDEO."),
                io.Int.Input(
                    "among_last",
                    default=1,
                    min=1,
                    max=64,
                    tooltip=(
                        "The image is the sharpest of this many last frames; the clip is cut after it. 1 takes the "
                        "last frame and cuts nothing."
                    ),
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="The latents of the same clip, from the sampler. Needed only for the output reference.",
                ),
                io.Int.Input(
                    "overlap",
                    default=4,
                    min=1,
                    max=64,
                    optional=True,
                    tooltip=(
                        "How many last frames the next clip begins with, as latents: nothing is lost in between, and "
                        "the motion goes on. Give Join Clips the same number. Affects only the output reference."
                    ),
                ),
                io.Boolean.Input(
                    "hold_colors",
                    default=True,
                    optional=True,
                    tooltip=(
                        "Undo the drift of colours and contrast since the clip's first frame in the latents that the "
                        "next clip gets. Off: pass them on unchanged. Affects only the output reference."
                    ),
                ),
            ],
            outputs=[
                io.Image.Output(display_name="picture"),
                io.Image.Output(display_name="clip"),
                types.Reference.Output(
                    display_name="reference",
                    tooltip="What the next clip starts from, in place of Encode Reference Image.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        images: Clip,
        among_last: int,
        latent: dict[str, Any] | None = None,
        overlap: int = 4,
        hold_colors: bool = True,
    ) -> io.NodeOutput:
        frames = frames_of(images)
        reference = None if latent is None else continued(latent["samples"], frames, overlap, hold_colors)
        return io.NodeOutput(*split_at_best(frames, among_last), reference)


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
                "Appends a clip to the one whose last frame it starts with. The frame that both share appears once."
            ),
            inputs=[
                clip_input("first", "The clip from Extend Clip."),
                clip_input("second", "The clip that was made from its last frame."),
                io.Boolean.Input(
                    "match_colors",
                    default=True,
                    tooltip=(
                        "Match the colours of the second clip to the frame where they meet. Off: leave them unchanged."
                    ),
                ),
                io.Int.Input(
                    "overlap",
                    default=0,
                    min=0,
                    max=64,
                    optional=True,
                    tooltip=(
                        "How many frames the clips share, if the second was made from the reference of Extend Clip. "
                        "They are blended, and all frames get the colours of the very first one. 0: the second clip "
                        "was made from the image, and the frame that both share appears once."
                    ),
                ),
            ],
            outputs=[io.Image.Output(display_name="IMAGE")],
        )

    @classmethod
    def execute(cls, first: Clip, second: Clip, match_colors: bool, overlap: int = 0) -> io.NodeOutput:
        clips = [frames_of(clip) for clip in (first, second)]
        if overlap:
            return io.NodeOutput(join_overlapping(clips, overlap, match_colors))
        return io.NodeOutput(join_clips(clips, match_colors))
