"""The image that a video starts from, and others that it comes by."""

from __future__ import annotations

from dataclasses import replace

from comfy.clip_vision import ClipVisionModel
from comfy.sd import VAE
from comfy_api.latest import io
from torch import Tensor

from ..firstframe.bindings.comfy.vision import encode_image, encode_latent
from ..firstframe.clips.images import read_image
from ..firstframe.clips.reference import Fit, Reference, nearest_size, prepare_image
from ..firstframe.errors import ImageError
from . import types
from .aliases import search_aliases

AS_SET, FROM_IMAGE = "as set", "from image"
SMALL = 256
"""Pixels of a side from which on sizes are multiples of 64, as Stable Diffusion was trained."""


class EncodeReference(io.ComfyNode):
    """An image, resized once and encoded once, for every node that needs it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameEncodeReference",
            display_name="Encode Reference Image",
            category="FirstFrame/reference",
            **search_aliases("reference image", "start image", "first frame", "init image", "首帧"),
            description="Resizes an image to the size of the video and encodes it as the first frame.",
            inputs=[
                io.Image.Input("image", tooltip="One image. Transparent areas become white."),
                io.Vae.Input("vae", tooltip="The VAE of the model that makes the video."),
                io.Int.Input(
                    "width", default=512, min=64, max=4096, step=8, tooltip="Pixels, a multiple of 8. Tiny model: 128."
                ),
                io.Int.Input(
                    "height", default=512, min=64, max=4096, step=8, tooltip="Pixels, a multiple of 8. Tiny model: 128."
                ),
                io.Combo.Input(
                    "fit",
                    options=["cover", "contain", "stretch"],
                    default="cover",
                    tooltip=(
                        "cover: fill the frame and crop the rest. contain: show the whole image and pad with black. "
                        "stretch: change its proportions."
                    ),
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip=(
                        "Needed only for the content adapter: CLIP ViT-H, from Load CLIP Vision. It sees the central "
                        "square of the image."
                    ),
                ),
                io.Combo.Input(
                    "size",
                    options=[AS_SET, FROM_IMAGE],
                    default=AS_SET,
                    optional=True,
                    tooltip=(
                        "as set: width and height. from image: about as many pixels as width times height, in the "
                        "image's shape, with sides that are multiples of 64 (of 32 below 256 pixels)."
                    ),
                ),
            ],
            outputs=[types.Reference.Output(display_name="REFERENCE"), io.Image.Output(display_name="IMAGE")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        vae: VAE,
        width: int,
        height: int,
        fit: Fit,
        clip_vision: ClipVisionModel | None = None,
        size: str = AS_SET,
    ) -> io.NodeOutput:
        if size == FROM_IMAGE:
            width, height = _size_of(image, width, height)
            if cls.hidden:  # none outside of a server, in older hosts
                _show(f"{width} x {height}", cls.hidden.unique_id)
        pixels = prepare_image(image, width, height, fit)
        features = None if clip_vision is None else encode_image(clip_vision, pixels)
        reference = Reference(pixels, encode_latent(vae, pixels), features)
        return io.NodeOutput(reference, reference.image)


def _show(text: str, node: str) -> None:
    """A line of text in a node."""
    from server import PromptServer  # only where one runs: importing it starts much of the host

    PromptServer.instance.send_progress_text(text, node)


def _size_of(image: Tensor, width: int, height: int) -> tuple[int, int]:
    """The size for an image, with about as many pixels as were set."""
    multiple = 64 if min(width, height) >= SMALL else 32
    rows, columns, _channels = read_image(image).shape
    return nearest_size(columns, rows, width * height, multiple)


class AddImage(io.ComfyNode):
    """One more image, in a frame of its own."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameAddPicture",
            display_name="Add Image at Frame",
            category="FirstFrame/reference",
            **search_aliases("last frame", "end frame", "keyframe", "first and last frame", "FLF2V", "尾帧"),
            description=(
                "Holds one more image in a frame of the video, for example the last one. Every frame attends to all "
                "held images. The adapter was trained with the first image only."
            ),
            inputs=[
                types.Reference.Input("reference", tooltip="From Encode Reference Image."),
                io.Image.Input("image", tooltip="One image. It is fitted to the size of the first one."),
                io.Vae.Input("vae", tooltip="The VAE of the model that makes the video."),
                io.Int.Input(
                    "frame", default=-1, min=-1, max=4095, tooltip="Frame number, from 0. -1 is the last frame."
                ),
                io.Combo.Input(
                    "fit",
                    options=["cover", "contain", "stretch"],
                    default="cover",
                    tooltip="How it fits into the video, as in Encode Reference Image.",
                ),
            ],
            outputs=[types.Reference.Output(display_name="REFERENCE")],
        )

    @classmethod
    def execute(cls, reference: Reference, image: Tensor, vae: VAE, frame: int, fit: Fit) -> io.NodeOutput:
        if frame == 0 or frame in reference.others:
            raise ImageError(f"there is an image in frame {frame} already")
        pixels = prepare_image(image, reference.width, reference.height, fit)
        latent = encode_latent(vae, pixels)
        return io.NodeOutput(replace(reference, others={**reference.others, frame: latent}))
