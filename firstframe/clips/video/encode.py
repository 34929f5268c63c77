"""mp4, webm and gif."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from .audio import Sound
from .clip import VideoClip
from .ffmpeg import feed_ffmpeg
from .formats import Format
from .frames import images
from .metadata import comment_gif, to_ffmetadata


def encode(
    path: Path, clip: VideoClip, format: Format, crf: int | None, sound: Sound | None, progress: Callable[[int], None]
) -> None:
    """A clip to a file that ffmpeg makes. ``progress`` is told how many frames were taken."""
    height, width = (side + side % 2 if format.even else side for side in clip.frames.shape[1:3])
    pixels = "rgb48le" if format.bits == 16 else "rgb24"
    source = ["-f", "rawvideo", "-pix_fmt", pixels, "-s", f"{width}x{height}", "-r", f"{clip.fps}", "-i", "pipe:0"]
    quality = [] if format.crf is None else ["-crf", str(format.crf if crf is None else crf)]
    with tempfile.TemporaryDirectory() as folder:
        tags = Path(folder, "tags.txt")  # a file, because a workflow can be longer than a command line may be
        tags.write_text(to_ffmetadata(clip.metadata), "utf-8")
        inputs = [*source, "-f", "ffmetadata", "-i", str(tags), *_sound_input(Path(folder), clip, sound)]
        outputs = ["-map", "0:v", "-map_metadata", "1", *format.encoder, *quality]
        if sound is not None:
            outputs += ["-map", "2:a", *format.audio_encoder]
        feed_ffmpeg([*inputs, *outputs, str(path.absolute())], _counted(clip, format, progress))
    if format.suffix == ".gif" and clip.metadata:
        comment_gif(path, clip.metadata)


def _sound_input(folder: Path, clip: VideoClip, sound: Sound | None) -> list[str]:
    """The sound in a file, as long as the frames."""
    if sound is None:
        return []
    raw = folder / "sound.f32"
    raw.write_bytes(sound.lasting(len(clip.frames) / clip.fps).interleaved())
    return ["-f", "f32le", "-ar", str(sound.sample_rate), "-ac", str(len(sound.waveform)), "-i", str(raw)]


def _counted(clip: VideoClip, format: Format, progress: Callable[[int], None]) -> Iterator[NDArray[Any]]:
    for count, image in enumerate(images(clip.frames, format.bits, format.even), 1):
        yield image
        progress(count)
