"""Sizes that samples are brought to: never stretched, but scaled to cover and cropped in the middle."""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

from ..config import DatasetTable

STEP = 64
LONGEST = 3.0
"""Ratio of the sides of the longest bucket."""


class Size(NamedTuple):
    """In pixels, multiples of ``STEP``, which the UNet's lowest level takes whole."""

    width: int
    height: int


def size_of(width: int, height: int, dataset: DatasetTable) -> Size:
    """The size for a clip of ``width`` and ``height`` pixels.

    Without buckets, it is the dataset's resolution. With them, it has about as many pixels and, of all such sizes, the
    ratio that is nearest to the clip's; without upscaling, no more pixels than the clip.
    """
    if not dataset.enable_bucket:
        return Size(*dataset.resolution)
    area = dataset.resolution[0] * dataset.resolution[1]
    if dataset.bucket_no_upscale:
        area = min(area, width * height)
    return min(_sizes(area), key=lambda size: cropped(width, height, size))


def _sizes(area: int) -> list[Size]:
    """Every width with the height that makes the most of ``area``."""
    longest = max(STEP, int(sqrt(area * LONGEST)))
    widths = range(STEP, longest + 1, STEP)
    sizes = [Size(width, max(STEP, int(area / width) // STEP * STEP)) for width in widths]
    return [size for size in sizes if max(size) <= LONGEST * min(size)] or [Size(STEP, STEP)]


def cropped(width: int, height: int, size: Size) -> float:
    """Share of a clip's pixels that is cut off where it is scaled to cover ``size``, 0 to 1."""
    scale = max(size.width / width, size.height / height)
    return 1 - (size.width * size.height) / (width * height * scale**2)


def enlarged(width: int, height: int, size: Size) -> float:
    """How many times the clip's sides grow."""
    return max(size.width / width, size.height / height)
