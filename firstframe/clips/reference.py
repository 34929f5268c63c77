"""The image that a video starts from, prepared once: one resize and crop for everything that reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, log
from pathlib import Path
from typing import Literal, get_args

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from ..errors import FramesError, ImageError
from .images import MAX_PIXELS, read_image

Fit = Literal["cover", "contain", "stretch"]
Colour = tuple[float, float, float]
WHITE: Colour = (1.0, 1.0, 1.0)
BLACK: Colour = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class ImageFeatures:
    """Penultimate hidden states (1, N, D) of a CLIP image encoder.

    Attributes:
        image: of the image.
        null: of an image of zeros.
    """

    image: Tensor
    null: Tensor


@dataclass(frozen=True)
class Reference:
    """A prepared image and, once it is encoded, its latent and its features.

    Attributes:
        pixels: (1, 3, H, W) in [0, 1], as `prepare_image` makes it.
        latent: (1, C, H/8, W/8), the autoencoder's output before its scaling factor is applied, or None.
        features: for the content adapter, or None.
        others: latents of further images, by the number of the frame that each one is; -1 is the last one.
    """

    pixels: Tensor
    latent: Tensor | None = None
    features: ImageFeatures | None = None
    others: Mapping[int, Tensor] = field(default_factory=dict)

    def by_frame(self, num_frames: int) -> dict[int, Tensor]:
        """The latents (1, C, H/8, W/8) of all images, by the numbers of their frames in a clip, from 0.

        Raises:
            FramesError: a frame lies outside of the clip, or two images are in one frame.
        """
        assert self.latent is not None
        latents = {0: self.latent}
        for frame, latent in self.others.items():
            number = frame + num_frames if frame < 0 else frame
            if not 0 <= number < num_frames:
                raise FramesError(
                    f"an image is to be in frame {frame}, but the clip has frames 0 to {num_frames - 1}; -1 is the last"
                )
            if number in latents:
                raise FramesError(f"two images are to be in frame {number} of a clip of {num_frames} frames")
            latents[number] = latent
        return latents

    def nearest(self, num_frames: int) -> Tensor:
        """For each frame of a clip the latent of the image that is nearest to it, (1, C, F, H/8, W/8).

        Raises:
            FramesError: as `by_frame`.
        """
        latents = self.by_frame(num_frames)
        frames = [min(latents, key=lambda number: abs(number - frame)) for frame in range(num_frames)]
        return torch.stack([latents[frame] for frame in frames], dim=2)

    @property
    def height(self) -> int:
        return self.pixels.shape[2]

    @property
    def width(self) -> int:
        return self.pixels.shape[3]

    @property
    def image(self) -> Tensor:
        """The pixels as ComfyUI's IMAGE: (1, H, W, 3)."""
        return self.pixels.movedim(1, -1)


def prepare_image(
    image: Tensor | Image.Image | str | Path,
    width: int,
    height: int,
    fit: Fit = "cover",
    background: Colour = WHITE,
    padding: Colour = BLACK,
) -> Tensor:
    """Prepare an image of any kind: one size, RGB, no alpha.

    Args:
        image: as `firstframe.clips.images.read_image` takes it: a file, a PIL image or a tensor.
        width: pixels of the result, a multiple of 8 (the autoencoder's factor).
        height: the same.
        fit: "cover" fills the frame and crops what sticks out on both sides alike; "contain" shows everything and
            pads with `padding`; "stretch" changes the proportions.
        background: RGB in [0, 1] that alpha is laid over, before resizing.
        padding: RGB in [0, 1] of the bars that "contain" adds.

    Returns:
        (1, 3, height, width) in [0, 1].

    Raises:
        ImageError: a file that cannot be read, a batch, a wrong shape, or a size that is too large or no multiple
            of 8.
    """
    check_size(width, height)
    if fit not in get_args(Fit):
        raise ImageError(f"fit must be one of {', '.join(get_args(Fit))}, got {fit!r}")
    pixels = _flatten(read_image(image), background)
    if fit == "stretch":
        return _resize(pixels, width, height)
    return _cover(pixels, width, height) if fit == "cover" else _contain(pixels, width, height, padding)


def nearest_size(width: int, height: int, pixels: int, multiple: int) -> tuple[int, int]:
    """The size in which a model draws an image best: about as many pixels as it was trained on, in the image's shape.

    Args:
        width: of the image.
        height: of the image.
        pixels: that the model was trained on, for example 512 * 512.
        multiple: that both sides have to be of, for example 64.

    Returns:
        Width and height. Of all sizes within an eighth of ``pixels``, and at most twice as long as wide, the one whose
        shape is nearest to the image's. Where ``multiple`` is so large that there is none, the sizes nearest to
        ``pixels`` take their place.
    """
    sides = range(multiple, max(ceil(2 * pixels**0.5), multiple + 1), multiple)
    sizes = [(w, h) for w in sides for h in sides if max(w, h) <= 2 * min(w, h)]
    within = max(1 / 8, min(abs(w * h / pixels - 1) for w, h in sizes))
    return min(
        [(w, h) for w, h in sizes if abs(w * h / pixels - 1) <= within],
        key=lambda size: (abs(log(size[0] * height / (size[1] * width))), abs(size[0] * size[1] - pixels)),
    )


def check_latent(latent: Tensor) -> Tensor:
    """The latent that an autoencoder made of an image. Raises ImageError where it is NaN: halves overflow in some."""
    if not latent.isfinite().all():
        raise ImageError(
            "the VAE made values of the image that are not finite (NaN or infinite): compute it in fp32 (ComfyUI's "
            "option --fp32-vae), or use another VAE"
        )
    return latent


def check_size(width: int, height: int) -> None:
    """ImageError for a size that `prepare_image` cannot make."""
    if width < 8 or height < 8 or width % 8 or height % 8:
        raise ImageError(
            f"the size must be multiples of 8, got {width}x{height}; "
            f"the nearest is {_multiple_of_8(width)}x{_multiple_of_8(height)}"
        )
    if width * height > MAX_PIXELS:
        raise ImageError(f"the size must be at most {MAX_PIXELS // 10**6} million pixels, got {width}x{height}")


def _multiple_of_8(length: int) -> int:
    return max(8, round(length / 8) * 8)


def _flatten(image: Tensor, background: Colour) -> Tensor:
    """(H, W, C) -> (1, 3, H, W), alpha laid over the background."""
    pixels = image.movedim(-1, 0)[None]
    if pixels.shape[1] == 1:
        return pixels.expand(-1, 3, -1, -1)
    colour, alpha = pixels[:, :3], pixels[:, 3:]
    return torch.lerp(_plane(background, pixels), colour, alpha) if alpha.shape[1] else colour


def _plane(colour: Colour, like: Tensor) -> Tensor:
    return torch.tensor(colour, dtype=like.dtype, device=like.device).view(1, 3, 1, 1)


def _resize(pixels: Tensor, width: int, height: int) -> Tensor:
    """The side that shrinks comes first: nothing on the way is larger than both the source and the result."""
    if pixels.shape[-2:] == (height, width):
        return pixels.clone()
    one_row, one_column = (1 in lengths for lengths in zip(pixels.shape[-2:], (height, width), strict=True))
    if one_column and not one_row:  # PyTorch 2.11 and 2.13 compute one column wrongly, and one row rightly
        return _resize(pixels.transpose(-1, -2), height, width).transpose(-1, -2)
    shrunk = (min(height, pixels.shape[-2]), min(width, pixels.shape[-1]))
    for size in dict.fromkeys([shrunk, (height, width)]):
        pixels = functional.interpolate(pixels, size, mode="bicubic", antialias=True)
    return pixels.clamp_(0, 1)  # bicubic overshoots at edges


def _cover(pixels: Tensor, width: int, height: int) -> Tensor:
    scale = max(width / pixels.shape[-1], height / pixels.shape[-2])
    # Enlarging the whole of a thin image takes gigabytes. Four times the frame holds all that the crop sees.
    pixels = _middle(pixels, ceil(4 * width / scale), ceil(4 * height / scale))
    source_height, source_width = pixels.shape[-2:]
    resized = _resize(pixels, round(source_width * scale), round(source_height * scale))
    top, left = (resized.shape[-2] - height) // 2, (resized.shape[-1] - width) // 2
    return resized[..., top : top + height, left : left + width]


def _middle(pixels: Tensor, width: int, height: int) -> Tensor:
    """At most so much of the middle, or a row and a column more: the same is cut off on both sides."""
    top, left = (max(0, have - want) // 2 for have, want in zip(pixels.shape[-2:], (height, width), strict=True))
    return pixels[..., top : pixels.shape[-2] - top, left : pixels.shape[-1] - left]


def _contain(pixels: Tensor, width: int, height: int, padding: Colour) -> Tensor:
    source_height, source_width = pixels.shape[-2:]
    scale = min(width / source_width, height / source_height)
    resized = _resize(pixels, max(1, round(source_width * scale)), max(1, round(source_height * scale)))
    top, left = (height - resized.shape[-2]) // 2, (width - resized.shape[-1]) // 2
    canvas = _plane(padding, pixels).repeat(1, 1, height, width)
    canvas[..., top : top + resized.shape[-2], left : left + resized.shape[-1]] = resized
    return canvas
