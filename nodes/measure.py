"""Numbers of a finished video."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..firstframe.clips.images import rgb_frames
from ..firstframe.clips.reference import prepare_image
from ..firstframe.errors import FirstFrameError
from .aliases import search_aliases
from .clips import Clip, clip_input, frames_of

PACKAGES = {"cv2": "opencv-python-headless", "matplotlib": "matplotlib"}


class Measure(io.ComfyNode):
    """How near a video stays to its image, how much it moves, how steadily, frame by frame."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameMeasure",
            display_name="Measure Video",
            category="FirstFrame/video",
            **search_aliases("metrics", "ssim", "optical flow", "flicker", "compare videos", "plot"),
            description=(
                "Plots, frame by frame, the likeness to the image, brightness and contrast against it, motion, and "
                "flicker. You can compare two videos. Needs OpenCV and matplotlib in ComfyUI's Python."
            ),
            inputs=[
                clip_input("images", "The frames of a video, or a VIDEO: 2 frames or more."),
                io.Image.Input(
                    "picture",
                    tooltip=(
                        "The image to compare with, preferably the IMAGE of Encode Reference Image. If it has another "
                        "size than the frames, it is resized and cropped."
                    ),
                ),
                io.String.Input("name", default="video", tooltip="What the video is called in the plot."),
                clip_input("other", "A second video to compare with, of any size and length.", optional=True),
                io.String.Input(
                    "other_name", default="other", optional=True, tooltip="What the second video is called in the plot."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="plot", tooltip="Five plots over the frames, side by side."),
                io.String.Output(
                    display_name="numbers", tooltip="All numbers of all frames as JSON, with their means."
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, images: Clip, picture: Tensor, name: str, other: Clip | None = None, other_name: str = "other"
    ) -> io.NodeOutput:
        _check_packages()
        from ..firstframe.clips.metrics.per_frame import as_json, as_text, frame_numbers, frame_panels
        from ..firstframe.clips.metrics.plot import pixels, side_by_side

        if other is not None and name == other_name:
            raise FirstFrameError(f"both videos are called {name!r}: give the second one another name")
        clips = {name: images} if other is None else {name: images, other_name: other}
        videos = {of: frames_of(clip) for of, clip in clips.items()}
        measured = {of: frame_numbers(video, _beside(picture, video)) for of, video in videos.items()}
        plot = torch.from_numpy(pixels(side_by_side("", frame_panels(measured)))).float()[None] / 255
        shown = {**ui.PreviewImage(plot, cls=cls).as_dict(), **ui.PreviewText(as_text(measured)).as_dict()}
        return io.NodeOutput(plot, as_json(measured), ui=shown)


def _check_packages() -> None:
    """OpenCV and matplotlib are not among ComfyUI's own requirements."""
    if missing := [package for module, package in PACKAGES.items() if find_spec(module) is None]:
        names = " ".join(missing)
        raise FirstFrameError(
            f"Measure Video needs {names}, which ComfyUI's Python does not have. Install with: "
            f"{sys.executable} -m pip install {names}"
        )


def _beside(image: Tensor, video: Tensor) -> Tensor:
    """The image (H, W, 3) in the size of a video."""
    height, width = video.shape[1:3]
    if image.shape[1:3] == (height, width):
        return rgb_frames(image)[0]
    return prepare_image(image, width, height)[0].movedim(0, -1)
