"""FirstFrame for ComfyUI: image-to-video with Stable Diffusion 1.5. Importing this needs no ComfyUI."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

WEB_DIRECTORY = "web"


async def comfy_entrypoint() -> ComfyExtension:
    """Called by ComfyUI: the pack's nodes."""
    from .nodes import FirstFrame

    return FirstFrame()
