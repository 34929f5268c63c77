"""Clips to files and back: mp4, webm and gif (imageio-ffmpeg), webp and folders of png (Pillow)."""

from .audio import Sound
from .clip import VideoClip
from .contact_sheet import contact_sheet
from .formats import FORMATS, Format, check_format, check_place
from .frames import to_uint8
from .read import read_clip
from .write import write_clip

__all__ = [
    "FORMATS",
    "Format",
    "Sound",
    "VideoClip",
    "check_format",
    "check_place",
    "contact_sheet",
    "read_clip",
    "to_uint8",
    "write_clip",
]
