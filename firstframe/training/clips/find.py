"""Clips and their captions, as users keep them: a folder with text files, a JSONL list, folders of images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import FirstFrameError
from ..config import DatasetTable

VIDEOS = {".mp4", ".webm", ".mov", ".mkv", ".avi", ".m4v", ".flv", ".gif", ".webp", ".mpg", ".mpeg", ".wmv"}
IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


@dataclass(frozen=True)
class Source:
    """A clip in a file, or in a folder of images, with what it shows.

    Attributes:
        caption: empty where there is none.
        name: for messages.
    """

    path: Path
    caption: str
    name: str


def find_sources(dataset: DatasetTable) -> list[Source]:
    """The clips of a dataset, in the order of their names or of the list.

    Raises:
        FirstFrameError: there is no such folder or list, a line of it cannot be read, or it names no clip.
    """
    if dataset.video_jsonl_file is not None:
        found, place = list(_listed(dataset.video_jsonl_file)), dataset.video_jsonl_file
    else:
        folder = dataset.video_directory or dataset.image_sequence_directory
        assert folder is not None
        if not folder.is_dir():
            raise FirstFrameError(f"{folder}: there is no such folder")
        wanted = _is_video if dataset.video_directory else _is_sequence
        paths = sorted(path for path in folder.rglob("*") if wanted(path))
        found, place = [_beside(path, folder, dataset.caption_extension) for path in paths], folder
    if not found:
        raise FirstFrameError(f"{place}: no clip is in it")
    return found


def images_of(folder: Path) -> list[Path]:
    """The images of a sequence, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEOS and path.is_file() and not path.name.startswith(".")


def _is_sequence(path: Path) -> bool:
    return path.is_dir() and len(images_of(path)) > 1


def _beside(path: Path, folder: Path, extension: str) -> Source:
    text = path.with_name((path.name if path.is_dir() else path.stem) + extension)
    caption = text.read_text("utf-8", "replace").strip() if text.is_file() else ""
    return Source(path, caption, path.relative_to(folder).as_posix())


def _listed(file: Path) -> Iterator[Source]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except OSError as error:
        raise FirstFrameError(f"cannot read {str(file)!r}: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            path, caption = Path(entry["video_path"]), str(entry.get("caption", "")).strip()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FirstFrameError(
                f'{file}, line {number}: expected {{"video_path": ..., "caption": ...}}, got {line[:80]!r}'
            ) from error
        yield Source(file.parent / path, caption, path.name if path.is_absolute() else path.as_posix())
