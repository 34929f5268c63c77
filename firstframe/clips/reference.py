"""The picture that the video starts from, prepared once: one resize and crop for everything that reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from ..errors import FramesError, PictureError

Fit = Literal["cover", "contain", "stretch"]
Colour = tuple[float, float, float]
WHITE: Colour = (1.0, 1.0, 1.0)
BLACK: Colour = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class ImageFeatures:
    """Penultimate hidden states (1, N, D) of a CLIP image encoder: of the picture, and of none."""

    picture: Tensor
    null: Tensor


@dataclass(frozen=True)
class Reference:
    """A prepared picture and, once it is encoded, its latent and what an image encoder sees in it.

    pixels: (1, 3, H, W) in [0, 1], as `prepare_picture` makes it.
    latent: (1, C, H/8, W/8), the autoencoder's output before its scaling factor is applied, or None.
    features: for the content adapter, or None.
    others: latents of further pictures, by the number of the frame that each one is; -1 is the last one.
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
            FramesError: as :meth:`by_frame`.
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


def prepare_picture(
    picture: Tensor | Image.Image | str | Path,
    width: int,
    height: int,
    fit: Fit = "cover",
    background: Colour = WHITE,
    padding: Colour = BLACK,
) -> Tensor:
    """A picture of any kind as (1, 3, height, width) in [0, 1].

    picture: a file, a PIL picture, or a tensor (H, W, C) or (1, H, W, C) with 1, 3 or 4 channels, floats in
        [0, 1] or whole numbers over their type's range. The EXIF orientation is applied; of an animated file
        the first frame is taken; greyscale and 16 bits are understood; alpha is laid over `background` before
        resizing, white unless told otherwise.
    width, height: pixels of the result, multiples of 8 (the autoencoder's factor).
    fit: "cover" fills the frame and crops what sticks out on both sides alike; "contain" shows everything and
        pads with `padding`; "stretch", never chosen unasked, changes the proportions.

    Raises PictureError for a file that is no picture, a batch, a wrong shape, a size that is no multiple
    of 8.
    """
    if width < 8 or height < 8 or width % 8 or height % 8:
        raise PictureError(
            f"the size must be multiples of 8, got {width}x{height}; "
            f"the nearest is {_multiple_of_8(width)}x{_multiple_of_8(height)}"
        )
    pixels = _flatten(_read(picture), background)
    if fit == "stretch":
        return _resize(pixels, width, height)
    if fit == "cover":
        return _cover(pixels, width, height)
    if fit == "contain":
        return _contain(pixels, width, height, padding)
    raise PictureError(f"fit must be cover, contain or stretch, got {fit!r}")


def _multiple_of_8(length: int) -> int:
    return max(8, round(length / 8) * 8)


def _read(picture: Tensor | Image.Image | str | Path) -> Tensor:
    """Anything -> (H, W, C) in [0, 1], C being 1, 3 or 4."""
    if isinstance(picture, Tensor):
        return _single(_unit_range(picture))
    if isinstance(picture, Image.Image):
        return _from_pil(picture)
    try:
        with Image.open(picture) as opened:
            return _from_pil(opened)
    except (OSError, Image.DecompressionBombError) as error:
        raise PictureError(f"cannot read the picture {str(picture)!r}: {error}") from error


def _from_pil(picture: Image.Image) -> Tensor:
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):  # 16 bits of grey, which convert() would clip at 255
        return torch.from_numpy(np.asarray(picture, np.float32) / 65535).clamp(0, 1)[..., None]
    return torch.from_numpy(np.asarray(picture.convert("RGBA"), np.float32) / 255)


def _unit_range(picture: Tensor) -> Tensor:
    if picture.is_floating_point():
        return picture.float().clamp(0, 1)
    return picture.float() / torch.iinfo(picture.dtype).max


def _single(picture: Tensor) -> Tensor:
    """(H, W, C) or (1, H, W, C) -> (H, W, C)."""
    shape = tuple(picture.shape)
    if picture.ndim == 4 and shape[0] != 1:
        raise PictureError(f"one picture is wanted, got a batch of {shape[0]} (shape {shape}); pick one")
    if picture.ndim not in (3, 4) or shape[-1] not in (1, 3, 4) or 0 in shape:
        raise PictureError(f"a picture is (H, W, C) or (1, H, W, C) with C 1, 3 or 4, got shape {shape}")
    return picture.reshape(shape[-3:])


def _flatten(picture: Tensor, background: Colour) -> Tensor:
    """(H, W, C) -> (1, 3, H, W), alpha laid over the background."""
    pixels = picture.movedim(-1, 0)[None]
    if pixels.shape[1] == 1:
        return pixels.expand(-1, 3, -1, -1)
    colour, alpha = pixels[:, :3], pixels[:, 3:]
    return torch.lerp(_plane(background, pixels), colour, alpha) if alpha.shape[1] else colour


def _plane(colour: Colour, like: Tensor) -> Tensor:
    return torch.tensor(colour, dtype=like.dtype, device=like.device).view(1, 3, 1, 1)


def _resize(pixels: Tensor, width: int, height: int) -> Tensor:
    if pixels.shape[-2:] == (height, width):
        return pixels.clone()
    resized = functional.interpolate(pixels, (height, width), mode="bicubic", antialias=True)
    return resized.clamp(0, 1)  # bicubic overshoots at edges


def _cover(pixels: Tensor, width: int, height: int) -> Tensor:
    source_height, source_width = pixels.shape[-2:]
    scale = max(width / source_width, height / source_height)
    resized = _resize(pixels, round(source_width * scale), round(source_height * scale))
    top, left = (resized.shape[-2] - height) // 2, (resized.shape[-1] - width) // 2
    return resized[..., top : top + height, left : left + width]


def _contain(pixels: Tensor, width: int, height: int, padding: Colour) -> Tensor:
    source_height, source_width = pixels.shape[-2:]
    scale = min(width / source_width, height / source_height)
    resized = _resize(pixels, max(1, round(source_width * scale)), max(1, round(source_height * scale)))
    top, left = (height - resized.shape[-2]) // 2, (width - resized.shape[-1]) // 2
    canvas = _plane(padding, pixels).repeat(1, 1, height, width)
    canvas[..., top : top + resized.shape[-2], left : left + resized.shape[-1]] = resized
    return canvas
