"""Videos to files."""

from __future__ import annotations

import json
from pathlib import Path

import folder_paths
from comfy.cli_args import args
from comfy_api.latest import io, ui
from torch import Tensor

from ..firstframe.video import write_clip
from .aliases import search_aliases


class SaveVideo(io.ComfyNode):
    """Frames to a video file that carries its own workflow."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameSaveVideo",
            display_name="Save Video (FirstFrame)",
            category="FirstFrame/video",
            **search_aliases("Video Combine", "export mp4", "save gif", "save webm", "write video"),
            description="Writes frames into ComfyUI's output folder, with the workflow inside.",
            inputs=[
                io.Image.Input("images", tooltip="The frames of the video."),
                io.Float.Input(
                    "fps", default=8.0, min=1.0, max=120.0, step=0.1, tooltip="Frames per second. Motion modules: 8."
                ),
                io.String.Input(
                    "filename_prefix",
                    default="video/FirstFrame",
                    tooltip=(
                        "Folder and beginning of the file name; a number follows, no file is overwritten. May hold "
                        "%year%, %month%, %day%, %hour%, %minute%, %second%, %width%, %height%."
                    ),
                ),
                io.Combo.Input(
                    "format",
                    options=["mp4", "webm", "gif"],
                    default="mp4",
                    tooltip="mp4: H.264, plays everywhere. webm: VP9. gif: 256 colours, no player needed.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, images: Tensor, fps: float, filename_prefix: str, format: str) -> io.NodeOutput:
        height, width = images.shape[1:3]
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory(), width, height
        )
        file = f"{name}_{counter:05}_.{format}"
        write_clip(Path(folder) / file, images, fps, metadata=cls._metadata())
        return io.NodeOutput(ui=ui.PreviewVideo([ui.SavedResult(file, subfolder, io.FolderType.output)]))

    @classmethod
    def _metadata(cls) -> dict[str, str]:
        """Prompt and workflow as the host's own nodes write them, unless the host was told not to."""
        if args.disable_metadata:
            return {}
        parts = {"prompt": cls.hidden.prompt, **(cls.hidden.extra_pnginfo or {})}
        return {name: json.dumps(part) for name, part in parts.items() if part is not None}
