"""Which clip belongs to which reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ...clips.reference import prepare_image
from ...clips.video import read_clip, to_uint8
from ...errors import FirstFrameError

CLIPS = {".mp4", ".webm", ".gif", ".mov", ".mkv", ".avi"}
IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Pair:
    """A clip that was made, and its reference: the image that it should start with, or a true clip that does."""

    clip: Path
    reference: Path

    @property
    def has_true_clip(self) -> bool:
        """Whether the reference is a clip."""
        return self.reference.suffix.lower() in CLIPS

    def frames(self) -> Tensor:
        """Of the clip: (F, H, W, 3), uint8."""
        return to_uint8(read_clip(self.clip).frames)

    def true_frames(self) -> Tensor:
        """Of the reference, if it is a clip: (F, H, W, 3), uint8."""
        return to_uint8(read_clip(self.reference).frames)

    def image(self, height: int, width: int) -> Tensor:
        """The reference's image, or its first frame, cropped and resized: (H, W, 3) in [0, 1]."""
        source = self.true_frames()[0] if self.has_true_clip else self.reference
        return prepare_image(source, width, height)[0].movedim(0, -1)


def find_pairs(clips: Path, references: Path) -> list[Pair]:
    """Every clip of a folder with the reference of its name.

    A clip's reference is the file with its stem, or else the one with the longest stem that its own begins with, up to
    an underscore: ``cat_p001_s3_8f2a1239.mp4`` of ``firstframe batch`` belongs to ``cat.png``.

    Raises:
        FirstFrameError: a folder is missing or empty, or a clip has no reference.
    """
    stems = {file.stem: file for file in _files(references, CLIPS | IMAGES)}
    pairs = []
    for clip in _files(clips, CLIPS):
        fitting = [stem for stem in stems if f"{clip.stem}_".startswith(f"{stem}_")]
        if not fitting:
            raise FirstFrameError(f"{clip}: no reference in {references} is called {clip.stem}, or as it begins")
        pairs.append(Pair(clip, stems[max(fitting, key=len)]))
    return pairs


def _files(folder: Path, suffixes: set[str]) -> list[Path]:
    if not folder.is_dir():
        raise FirstFrameError(f"{folder}: there is no such folder")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in suffixes and file.is_file())
    if not files:
        raise FirstFrameError(f"{folder}: no files that end with {', '.join(sorted(suffixes))}")
    return files
