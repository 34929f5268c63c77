"""Clips from files."""

from __future__ import annotations

from pathlib import Path

import imageio_ffmpeg
import numpy as np

from ...errors import FirstFrameError, ImageError, printable
from ..images import check_size
from .clip import VideoClip
from .frames import gather
from .metadata import read_metadata
from .png import read_pngs
from .webp import read_webp


def read_clip(path: str | Path) -> VideoClip:
    """Read a whole clip.

    Args:
        path: a video of any kind that ffmpeg reads, a webp, or a folder of png that `write_clip` made.

    Returns:
        The frames as uint8, their pace and the file's text; fps is 0 where the file does not say it.

    Raises:
        FirstFrameError: there is no such file, it cannot be read, or it is too large.
    """
    path = Path(path)
    if not path.is_dir() and not path.is_file():
        raise FirstFrameError(f"there is no file {str(path)!r}")
    try:
        if path.is_dir():
            return read_pngs(path)
        return read_webp(path) if path.suffix.lower() == ".webp" else _read_video(path)
    except ImageError:  # it names the file already
        raise
    except Exception as error:  # ffmpeg, imageio-ffmpeg and Pillow raise errors of many kinds on damaged files
        raise FirstFrameError(
            f"cannot read the clip {str(path)!r}: {_reason(error)}. Check that it plays, or save it as mp4"
        ) from error


def _reason(error: Exception) -> str:
    """The first thing that ffmpeg complained about, in one line: its whole log quotes the file's own text."""
    complaints = [line.partition("] ")[2] for line in str(error).splitlines() if line.startswith("[")]
    return printable((complaints or str(error).splitlines() or ["it is no video"])[0].removesuffix("."))


def _read_video(path: Path) -> VideoClip:
    # every frame of the file once: none repeated or dropped to keep the pace
    reader = imageio_ffmpeg.read_frames(str(path.absolute()), output_params=["-fps_mode", "passthrough"])
    about = next(reader)
    width, height = about["size"]
    check_size(width, height, repr(str(path)))
    frames = gather(np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader)
    return VideoClip(frames, about["fps"], read_metadata(path))
