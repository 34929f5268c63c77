"""Videos to files."""

from __future__ import annotations

import json
import logging
from itertools import count
from pathlib import Path
from typing import Any

import folder_paths
from comfy.cli_args import args
from comfy.utils import ProgressBar
from comfy_api.latest import io, ui
from torch import Tensor

from ..firstframe.clips.video import FORMATS, Sound, write_clip
from ..firstframe.errors import FirstFrameError
from .aliases import advanced, search_aliases
from .clips import Clip, as_video, clip_input


class SaveVideo(io.ComfyNode):
    """Frames to a file that carries its own workflow."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameSaveVideo",
            display_name="Save Video (FirstFrame)",
            category="FirstFrame/video",
            **search_aliases("Video Combine", "export mp4", "save gif", "save webm", "write video", "image sequence"),
            description="Writes frames into ComfyUI's output folder, with the workflow inside.",
            inputs=[
                clip_input(
                    "images",
                    "The frames of the video, or a VIDEO, whose frame rate and sound then replace fps and audio.",
                ),
                io.Float.Input(
                    "fps", default=8.0, min=1.0, max=120.0, step=0.1, tooltip="Frames per second. Motion modules: 8."
                ),
                io.String.Input(
                    "filename_prefix",
                    default="video/FirstFrame",
                    tooltip=(
                        "Folder and beginning of the file name; a number follows, no file is overwritten. May hold "
                        "%year%, %month%, %day%, %hour%, %minute%, %second%, %width%, %height%, and in the browser "
                        "%date:yyyy-MM-dd% and %KSampler.seed% (any node and widget)."
                    ),
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="mp4",
                    tooltip=(
                        "mp4: H.264, plays everywhere. webm: VP9. gif: 256 colours, no player needed. mp4 10-bit: "
                        "smoother gradients; Chromium plays it, not every other browser, phone or television does. "
                        "mp4 near-lossless: 10 bits and full colour resolution, for editors; Chromium plays it, few "
                        "other players do. webm av1: 10 bits, smaller files, slower to write. webp: an animated "
                        "image. png: a folder with every frame as it is, in 8 bits."
                    ),
                ),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip=(
                        "Sound for mp4 and webm. It is cut where the video ends; silence follows where it is shorter. "
                        "gif, webp and png hold no sound: it is left out, with a warning in the log."
                    ),
                ),
                io.Int.Input(
                    "crf",
                    default=-1,
                    min=-1,
                    max=63,
                    optional=True,
                    **advanced(),
                    tooltip=(
                        "Quality of mp4 (up to 51) and webm (up to 63): smaller is better, and a larger file. -1: the "
                        "format's own, 4 for mp4 near-lossless, 18 for the others. 0 in an mp4 is lossless after the "
                        "conversion of colours, and few players know it. gif, webp and png do not use it."
                    ),
                ),
            ],
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="The frames, as they came in."),
                io.Video.Output(display_name="VIDEO", tooltip="The frames with their rate and sound."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        images: Clip,
        fps: float,
        filename_prefix: str,
        format: str,
        audio: dict[str, Any] | None = None,
        crf: int = -1,
    ) -> io.NodeOutput:
        if not isinstance(images, Tensor):
            parts = images.get_components()
            images, fps, audio = parts.images, float(parts.frame_rate), audio or parts.audio
        height, width = images.shape[1:3]
        folder, name, first, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory(), width, height
        )
        names = (Path(folder) / f"{name}_{number:05}_{FORMATS[format].suffix}" for number in count(first))
        path = write_clip(
            names,
            images,
            fps,
            cls._metadata(),
            None if crf < 0 else crf,
            format=format,
            sound=_sound(audio, format),
            progress=ProgressBar(len(images)).update_absolute,  # cancelling comes through it as well
        )
        return io.NodeOutput(images, as_video(images, fps, audio), ui=_preview(path, subfolder))

    @classmethod
    def _metadata(cls) -> dict[str, str]:
        """Prompt and workflow as the host's own nodes write them, unless the host was told not to."""
        if args.disable_metadata:
            return {}
        parts = {"prompt": cls.hidden.prompt, **(cls.hidden.extra_pnginfo or {})}
        return {name: json.dumps(part) for name, part in parts.items() if part is not None}


def _sound(audio: dict[str, Any] | None, format: str) -> Sound | None:
    """The host's sound, (1, channels, samples), where the format can hold it."""
    if audio is None:
        return None
    if not FORMATS[format].audio_encoder:
        logging.warning(f"FirstFrame: {format} holds no sound; the audio is left out. mp4 and webm keep it.")
        return None
    if len(audio["waveform"]) != 1:
        raise FirstFrameError(f"audio: one sound is needed, this is a batch of {len(audio['waveform'])}")
    return Sound(audio["waveform"][0], audio["sample_rate"])


def _preview(path: Path, subfolder: str) -> ui.PreviewVideo | ui.SavedImages:
    """What the frontend shows in the node: a player for videos, moving or still images for the others."""
    if path.is_dir():
        inside = f"{subfolder}/{path.name}" if subfolder else path.name
        return ui.SavedImages([_saved(file.name, inside) for file in sorted(path.iterdir())])
    saved = [_saved(path.name, subfolder)]
    if path.suffix == ".gif":  # it would go into the player, which cannot show it; a webp does not
        return ui.SavedImages(saved)
    return ui.PreviewVideo(saved)


def _saved(file: str, subfolder: str) -> ui.SavedResult:
    return ui.SavedResult(file, subfolder, io.FolderType.output)
