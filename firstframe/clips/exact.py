"""Frame 0 is the image itself: what an autoencoder lost of it is given back."""

from __future__ import annotations

import torch
from kornia.filters import box_blur
from torch import Tensor

from ..errors import FirstFrameError, ImageError

FADE_FRAMES = 8
_WINDOW = 5  # pixels over which a frame is compared with frame 0
_SAME = 0.03  # mean difference at which a third of the detail is given back


def exact_first_frame(frames: Tensor, image: Tensor, fade_frames: int = FADE_FRAMES) -> Tensor:
    """The decoded clip with the image as frame 0, and the image's lost detail in the frames behind it.

    The detail is the image minus decoded frame 0. Frame f gets ``1 - f / fade_frames`` of it, and only where it still
    shows what frame 0 showed: what moved on gets nothing, so that nothing is left behind as a ghost.

    Args:
        frames: a decoded clip (F, H, W, 3) in [0, 1], by any autoencoder.
        image: the prepared image (H, W, 3) in [0, 1].
        fade_frames: frames over which the detail fades; 0 changes frame 0 alone.

    Returns:
        (F, H, W, 3) in [0, 1]; frame 0 equals the image bit for bit.

    Raises:
        ImageError: the image has another size than the frames.
        FirstFrameError: ``fade_frames`` is negative.
    """
    if image.shape != frames.shape[1:]:
        sizes = (f"{shape[1]} x {shape[0]}" for shape in (image.shape, frames.shape[1:]))
        raise ImageError(
            "the image is {}, the frames are {}: give the prepared image, as Encode Reference Image returns it".format(
                *sizes
            )
        )
    if fade_frames < 0:
        raise FirstFrameError(f"fade_frames must be at least 0, got {fade_frames}")
    image = image.to(frames)
    faded = frames[1 : max(1, fade_frames)]
    share = 1 - torch.arange(1, len(faded) + 1, device=frames.device).to(frames) / max(1, fade_frames)
    given = share.view(-1, 1, 1, 1) * _unchanged(faded, frames[0]) * (image - frames[0])
    return torch.cat([image[None], (faded + given).clamp(0, 1), frames[1 + len(faded) :]])


def _unchanged(frames: Tensor, first: Tensor) -> Tensor:
    """How far each place of frames (F, H, W, 3) shows what ``first`` shows, (F, H, W, 1), 1 where it does."""
    if not len(frames):
        return frames[..., :1]
    difference = (frames - first).abs().mean(-1)[:, None]  # F 1 H W
    return torch.exp(-((box_blur(difference, _WINDOW) / _SAME) ** 2)).movedim(1, -1)
