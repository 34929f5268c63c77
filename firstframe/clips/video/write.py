"""Clips to files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path

from torch import Tensor

from ...errors import FirstFrameError
from ..leftovers import remove_leftovers
from .audio import Sound
from .clip import VideoClip, check_fps
from .encode import encode
from .files import move_to_free_name, unfinished_beside
from .formats import Format, format_of
from .frames import check_frames
from .metadata import storable
from .png import write_pngs
from .webp import write_webp


def write_clip(
    path: str | Path | Iterable[Path],
    frames: Tensor,
    fps: float = 8.0,
    metadata: Mapping[str, str] | None = None,
    crf: int | None = None,
    *,
    format: str | None = None,
    sound: Sound | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> Path:
    """Write frames to a file or a folder that appears whole or not at all.

    Args:
        path: its suffix names the format: .mp4 (H.264), .webm (VP9), .gif (own palette), .webp, or a folder of png
            (no suffix). An older file is replaced. Of several paths, the first that is free is taken.
        frames: (F, H, W, 3), uint8 or floats in [0, 1]. mp4 and webm get even sides, but for near-lossless: an odd
            one has its last row or column repeated once, nothing is cropped.
        fps: frames per second, 0.01 to 500; a gif counts in hundredths of a second, a webp in thousandths.
        metadata: text put into the file under its names (a gif: as JSON in a comment). ComfyUI reads `workflow` and
            `prompt` from mp4, webm, webp and png. See `.metadata.storable` for what no file can hold.
        crf: quality of mp4 (0..51) and webm (0..63), 0 is best; None takes the format's own.
        format: one of FORMATS, where the suffix alone does not say it.
        sound: for mp4 and webm; cut, or followed by silence, so that it lasts as long as the frames.
        progress: told how many frames were taken so far; what it raises stops the writing.

    Returns:
        Its path. Unfinished files that a run left in this folder more than a day ago are deleted.

    Raises:
        FirstFrameError: the clip cannot be held by the format, or the file cannot be written.
    """
    names = iter([Path(path)] if isinstance(path, (str, Path)) else path)
    replace = isinstance(path, (str, Path))
    path = next(names)
    kind = format_of(path, format)
    check_frames(frames)
    check_fps(fps)
    if sound is not None and not kind.audio_encoder:
        raise FirstFrameError(f"{kind.suffix.lstrip('.') or 'png'} holds no sound; mp4 and webm do")
    clip = VideoClip(frames, fps, storable(metadata or {}))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        with unfinished_beside(path) as unfinished:
            _write(unfinished, clip, kind, crf, sound, progress)
            if replace and kind.suffix:
                return unfinished.replace(path)
            return move_to_free_name(unfinished, chain([path], names))
    except OSError as error:
        raise FirstFrameError(f"cannot write {str(path)!r}: {error.strerror or error}") from error


def _write(
    path: Path,
    clip: VideoClip,
    format: Format,
    crf: int | None,
    sound: Sound | None,
    progress: Callable[[int], None],
) -> None:
    if format.suffix == ".webp":
        write_webp(path, clip, progress)
    elif format.suffix == "":
        write_pngs(path, clip, progress)
    else:
        encode(path, clip, format, crf, sound, progress)
