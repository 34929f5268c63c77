"""The content adapter (IP-Adapter Plus), which the official I2V-Adapter runs beside its own."""

from __future__ import annotations

from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..firstframe.bindings.comfy.content_adapter import ContentAdapter, load_host_content_adapter
from ..firstframe.bindings.comfy.image_tokens import apply_image_tokens, with_tokens
from ..firstframe.clips.reference import Reference
from ..firstframe.errors import ImageError
from . import folders, types
from .aliases import search_aliases

SAME_FILE = "in the same file"


class LoadContentAdapter(io.ComfyNode):
    """A file of IP-Adapter Plus."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        others = folders.files_in(folders.CONTENT_ADAPTERS) + folders.files_in(folders.MOTION_MODULES)
        return io.Schema(
            node_id="FirstFrameLoadContentAdapter",
            display_name="Load Content Adapter",
            category="FirstFrame/load",
            **search_aliases("IP-Adapter Plus loader", "IPAdapter"),
            description="IP-Adapter Plus for Stable Diffusion 1.5 or SDXL: tells the model what is in the image.",
            inputs=[
                io.Combo.Input(
                    "content_adapter",
                    options=folders.files_in(folders.CONTENT_ADAPTERS),
                    tooltip="A file of IP-Adapter Plus in models/ipadapter.",
                ),
                io.Combo.Input(
                    "projections",
                    options=[SAME_FILE, *others],
                    default=SAME_FILE,
                    tooltip=(
                        "The file with the UNet's half of the adapter. The official I2V-Adapter has its own, in "
                        "animatediff_v15_v1_ipplus.pth in models/animatediff_models."
                    ),
                ),
            ],
            outputs=[types.ContentAdapter.Output(display_name="CONTENT_ADAPTER")],
        )

    @classmethod
    def validate_inputs(cls, content_adapter: str, projections: str) -> bool | str:
        there = folders.is_there(folders.CONTENT_ADAPTERS, content_adapter)
        if there is not True or projections in (SAME_FILE, *folders.files_in(folders.CONTENT_ADAPTERS)):
            return there
        return folders.is_there(folders.MOTION_MODULES, projections)

    @classmethod
    def execute(cls, content_adapter: str, projections: str) -> io.NodeOutput:
        file = folders.path_of(folders.CONTENT_ADAPTERS, content_adapter)
        if projections == SAME_FILE:
            return io.NodeOutput(load_host_content_adapter(file))
        own = projections in folders.files_in(folders.CONTENT_ADAPTERS)
        folder = folders.CONTENT_ADAPTERS if own else folders.MOTION_MODULES
        return io.NodeOutput(load_host_content_adapter(file, folders.path_of(folder, projections)))


class ApplyContentAdapter(io.ComfyNode):
    """The image as words of its own."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameApplyContentAdapter",
            display_name="Apply Content Adapter",
            category="FirstFrame/adapter",
            **search_aliases("IP-Adapter Plus", "IPAdapter", "image prompt"),
            description=(
                "Describes the image to the model in sixteen tokens next to the text. The negative prompt gets the "
                "tokens of an empty image, so that guidance strengthens the image."
            ),
            inputs=[
                io.Model.Input("model", tooltip="A Stable Diffusion 1.5 or SDXL model, with other modules or without."),
                io.Conditioning.Input("positive", tooltip="The prompt."),
                io.Conditioning.Input("negative", tooltip="The negative prompt."),
                types.ContentAdapter.Input("content_adapter", tooltip="From Load Content Adapter."),
                types.Reference.Input("reference", tooltip="From Encode Reference Image with a CLIP vision model."),
                io.Float.Input(
                    "scale",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.01,
                    tooltip="Strength of the image next to the text, as a factor. 1 is as trained; 0 is off.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="MODEL"),
                io.Conditioning.Output(display_name="positive"),
                io.Conditioning.Output(display_name="negative"),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        positive: list[Any],
        negative: list[Any],
        content_adapter: ContentAdapter,
        reference: Reference,
        scale: float,
    ) -> io.NodeOutput:
        if reference.features is None:
            raise ImageError(
                "the reference has not been seen by an image encoder: connect Load CLIP Vision (CLIP ViT-H) with the "
                "clip_vision input of Encode Reference Image"
            )
        return io.NodeOutput(
            apply_image_tokens(model, content_adapter.projections, scale),
            with_tokens(positive, content_adapter.tokens(reference.features.image)),
            with_tokens(negative, content_adapter.tokens(reference.features.null)),
        )
