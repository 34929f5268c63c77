"""What can be written, and with which of ffmpeg's options."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ...errors import FirstFrameError
from .clip import check_fps


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        suffix: of the file's name; "" is a folder of png.
        encoder: ffmpeg's options for the frames; empty where Pillow writes.
        crf: the quality that ffmpeg is asked for if you name none; None where the format has no such option.
        audio_encoder: ffmpeg's options for the sound; empty where the format holds none.
        bits: of each colour in what is fed to the encoder, 8 or 16.
        even: colours are stored at half of the size. libx264 refuses odd sides then, and ffmpeg 7 or libaom spoil the
            last row and column.
    """

    suffix: str
    encoder: tuple[str, ...] = ()
    crf: int | None = None
    audio_encoder: tuple[str, ...] = ()
    bits: int = 8
    even: bool = False


def _to_yuv(pixels: str) -> tuple[str, ...]:
    """To BT.709 in the limited ("tv") range, which the file says in its tags, whatever the size."""
    scale = "scale=in_range=pc:out_range=tv:out_color_matrix=bt709:flags=accurate_rnd+full_chroma_int"
    tags = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv")
    return ("-vf", f"{scale},format={pixels}", *tags)


_H264 = ("-c:v", "libx264", "-movflags", "+faststart+use_metadata_tags")
_VP9 = ("-c:v", "libvpx-vp9", "-b:v", "0", "-cpu-used", "4")
_AV1 = ("-c:v", "libaom-av1", "-b:v", "0", "-cpu-used", "6", "-row-mt", "1")
_GIF = ("-vf", "split[a][b];[a]palettegen=stats_mode=full[p];[b][p]paletteuse=dither=sierra2_4a", "-loop", "0")
_AAC = ("-c:a", "aac", "-b:a", "192k")
_OPUS = ("-c:a", "libopus", "-b:a", "160k")

FORMATS = {
    "mp4": Format(".mp4", (*_to_yuv("yuv420p"), *_H264), 18, _AAC, even=True),
    "webm": Format(".webm", (*_to_yuv("yuv420p"), *_VP9), 18, _OPUS, even=True),
    "gif": Format(".gif", _GIF),
    "mp4 10-bit": Format(".mp4", (*_to_yuv("yuv420p10le"), *_H264), 18, _AAC, bits=16, even=True),
    "mp4 near-lossless": Format(".mp4", (*_to_yuv("yuv444p10le"), *_H264), 4, _AAC, bits=16),
    "webm av1": Format(".webm", (*_to_yuv("yuv420p10le"), *_AV1), 18, _OPUS, bits=16, even=True),
    "webp": Format(".webp"),
    "png": Format(""),
}
"""By name. The first with a suffix is the one that a file's name alone asks for."""


def format_of(path: Path, name: str | None = None) -> Format:
    """The format called ``name``, or the one that the ending of ``path`` asks for. Raises FirstFrameError."""
    if name is None:
        found = [format for format in FORMATS.values() if format.suffix == path.suffix.lower()]
        if not found:
            endings = ", ".join(dict.fromkeys(format.suffix for format in FORMATS.values() if format.suffix))
            raise FirstFrameError(f"cannot write {str(path)!r}: the name must end in {endings}, or be a folder's (png)")
        return found[0]
    if name not in FORMATS:
        raise FirstFrameError(f"there is no format {name!r}; there are {', '.join(FORMATS)}")
    if not path.name.lower().endswith(FORMATS[name].suffix):
        raise FirstFrameError(f"cannot write {str(path)!r} as {name}: the name must end in {FORMATS[name].suffix}")
    return FORMATS[name]


def check_format(path: str | Path, fps: float = 8.0) -> None:
    """Check before a clip is made that `write_clip` will be able to write it.

    Raises:
        FirstFrameError: an unknown ending, a folder that is in use, a file where a folder should be or the other way
            round, or a pace that no format holds.
    """
    path = Path(path)
    check_fps(fps)
    is_folder = format_of(path).suffix == ""
    try:
        if is_folder and (path.is_file() or (path.is_dir() and any(path.iterdir()))):
            raise FirstFrameError(f"{str(path)!r} is there already; name another folder for the png files")
        check_place(path / "frame.png" if is_folder else path)
    except OSError as error:
        raise FirstFrameError(f"cannot write {str(path)!r}: {error.strerror}") from error


def check_place(path: Path) -> None:
    """Check that a file can be written at ``path``; its folder need not exist yet.

    Raises:
        FirstFrameError: a part of the path is a file, the path is a folder, or the folder may not be written to.
        OSError: the file system refuses such a name.
    """
    if path.is_dir():
        raise FirstFrameError(f"cannot write {str(path)!r}: it is a folder; name a file")
    nearest = next(parent for parent in path.absolute().parents if parent.exists())
    if not nearest.is_dir():
        raise FirstFrameError(f"cannot write {str(path)!r}: {str(nearest)!r} is a file, not a folder")
    if not os.access(nearest, os.W_OK):
        raise FirstFrameError(f"cannot write {str(path)!r}: no permission to write to {str(nearest)!r}")
