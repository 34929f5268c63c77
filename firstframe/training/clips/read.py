"""The frames of a sample, sized."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...clips.images import read_image
from ...clips.reference import prepare_image
from ...clips.video import read_clip
from ...errors import FirstFrameError
from .buckets import Size
from .find import images_of


class Clip:
    """A clip that is read once for all of its samples."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._images = images_of(path) if path.is_dir() else None
        self._frames = None if self._images else read_clip(path).frames

    def frames(self, numbers: Sequence[int], size: Size) -> Tensor:
        """Some frames, (F, 3, H, W) in [0, 1]: scaled to cover ``size`` and cropped in the middle.

        Raises:
            FirstFrameError: the clip has fewer frames than its file says.
        """
        return torch.cat([prepare_image(self._frame(number), size.width, size.height) for number in numbers])

    def _frame(self, number: int) -> Tensor:
        frames = self._images or self._frames
        assert frames is not None
        if number >= len(frames):
            raise FirstFrameError(f"{self.path}: only {len(frames)} of its frames can be read; encode it again")
        return read_image(frames[number])
