"""A clip as one image."""

from __future__ import annotations

from PIL import Image
from torch import Tensor

from .frames import to_uint8


def contact_sheet(frames: Tensor, columns: int = 8, gap: int = 2) -> Image.Image:
    """All frames side by side in rows, to see a clip at a glance.

    Args:
        frames: (F, H, W, 3), uint8 or floats in [0, 1].
        columns: frames in a row.
        gap: white pixels between two frames.

    Returns:
        An RGB image.
    """
    pixels = to_uint8(frames)
    count, height, width, _ = pixels.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for index, frame in enumerate(pixels.numpy()):
        row, column = divmod(index, columns)
        sheet.paste(Image.fromarray(frame), (column * (width + gap), row * (height + gap)))
    return sheet
