"""Images from outside, read and checked: every way in ends here, and every bad image in an ImageError."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import FirstFrameError, ImageError

MAX_PIXELS = 64_000_000
"""Width times height of the largest image that is read; reading it takes about 20 bytes for each pixel."""


@contextmanager
def open_image(path: str | Path) -> Iterator[Image.Image]:
    """Open an image file, and turn whatever Pillow raises about it into a refusal.

    Args:
        path: a regular file. Pipes and devices are refused, because reading from them may never end.

    Yields:
        The image, whose pixels Pillow reads when they are first used.

    Raises:
        ImageError: the file cannot be read, or the image has more than `MAX_PIXELS`.
    """
    if not Path(path).is_file():
        raise ImageError(f"cannot read the image {str(path)!r}: there is no file with this name")
    with _refusing(repr(str(path))), Image.open(path) as image:
        check_size(*image.size, repr(str(path)))
        yield image


def read_image(image: Tensor | Image.Image | str | Path) -> Tensor:
    """Read one image of any kind.

    Args:
        image: a file, a PIL image, or a tensor (H, W, C) or (1, H, W, C) with 1, 3 or 4 channels, floats in [0, 1] or
            integers over the range of their type. The EXIF orientation is applied; of an animated file the first
            frame is taken.

    Returns:
        (H, W, C) floats in [0, 1]; C is 1 (grey), 3 (RGB) or 4 (RGB and alpha).

    Raises:
        ImageError: not one image, or one that cannot be read.
    """
    if isinstance(image, Tensor):
        return _unit_range(_single(image))
    if isinstance(image, Image.Image):
        check_size(*image.size, "the image that was given")
        with _refusing("that was given"):
            return _from_pil(image)
    with open_image(image) as opened:
        return _from_pil(opened)


def rgb_frames(images: Tensor) -> Tensor:
    """Several images as RGB (F, H, W, 3): grey is repeated, alpha is left out.

    Args:
        images: (F, H, W, C) floats with C 1, 3 or 4, as ComfyUI's IMAGE.

    Raises:
        ImageError: another shape or type, no image at all, or values that are not finite.
    """
    shape = tuple(images.shape)
    if images.ndim != 4 or shape[-1] not in (1, 3, 4) or 0 in shape:
        raise ImageError(f"images are (F, H, W, C) with C 1, 3 or 4, got shape {shape}")
    if not images.is_floating_point():
        raise ImageError(f"images have floats in [0, 1], got {images.dtype}")
    for index, image in enumerate(images):
        if not image.sum().isfinite():
            raise ImageError(f"image {index} has values that are not finite (NaN or infinite): check what made it")
    return images.expand(-1, -1, -1, 3) if shape[-1] == 1 else images[..., :3]


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    try:
        yield
    except FirstFrameError:
        raise
    except Exception as error:  # Pillow's decoders raise errors of many kinds on damaged files
        raise ImageError(
            f"cannot read the image {name}: {error or type(error).__name__}. Check that it opens in an image viewer, "
            "and save it as png or jpg"
        ) from error


def check_size(width: int, height: int, name: str) -> None:
    """Raises ImageError where the image called ``name`` has more than `MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} has {width} x {height} pixels, at most {MAX_PIXELS // 10**6} million are read: make it smaller"
        )


def _from_pil(image: Image.Image) -> Tensor:
    image = _upright(image)
    if image.mode.startswith("I"):  # 16 bits of grey, which convert() would clip at 255
        return torch.from_numpy(np.asarray(image, np.float32) / 65535).clamp(0, 1)[..., None]
    rgba = torch.from_numpy(np.array(image.convert("RGBA")))
    colours = rgba[..., :3] if rgba[..., 3].eq(255).all() else rgba
    return colours.float().div_(255)


def _upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation asks for; EXIF that cannot be read is ignored."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # as in `_refusing`
        logging.warning(f"FirstFrame: the image's EXIF data cannot be read ({error}); its orientation is ignored")
        return image


def _single(image: Tensor) -> Tensor:
    """(H, W, C) or (1, H, W, C) -> (H, W, C)."""
    shape = tuple(image.shape)
    if image.ndim == 4 and shape[0] != 1:
        raise ImageError(f"one image is wanted, got a batch of {shape[0]} (shape {shape}); pick one")
    if image.ndim not in (3, 4) or shape[-1] not in (1, 3, 4) or 0 in shape:
        raise ImageError(f"an image is (H, W, C) or (1, H, W, C) with C 1, 3 or 4, got shape {shape}")
    return image.reshape(shape[-3:])


def _unit_range(image: Tensor) -> Tensor:
    if image.dtype == torch.bool or image.is_complex():
        raise ImageError(f"an image has floats in [0, 1] or integers, got {image.dtype}")
    if not image.is_floating_point():
        return (image.float() / torch.iinfo(image.dtype).max).clamp(0, 1)
    image = image.float().clamp(0, 1)
    if image.sum().isnan():
        raise ImageError("the image has values that are not a number (NaN): check what made it")
    return image
