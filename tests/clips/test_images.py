"""Images from files, PIL and tensors: what is read, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from firstframe.clips.images import rgb_frames
from firstframe.clips.reference import prepare_image
from firstframe.errors import ImageError


def gradient(width: int, height: int) -> torch.Tensor:
    """(H, W, 3): red grows to the right, green downwards."""
    red = torch.linspace(0, 1, width).expand(height, width)
    green = torch.linspace(0, 1, height)[:, None].expand(height, width)
    return torch.stack([red, green, torch.full_like(red, 0.5)], -1)


def saved(folder: Path, image: Image.Image, name: str, **options) -> Path:
    image.save(folder / name, **options)
    return folder / name


def test_files_grey_16_bit_palette(tmp_path):
    ramp = np.linspace(0, 1, 64)[None].repeat(64, 0)
    expected = torch.from_numpy(ramp).float()
    eight = Image.fromarray((ramp * 255).round().astype(np.uint8))
    sixteen = Image.fromarray((ramp * 65535).round().astype(np.uint16))
    files = {
        saved(tmp_path, eight, "grey.png"): 3e-3,
        saved(tmp_path, sixteen, "sixteen.png"): 2e-5,
        saved(tmp_path, sixteen, "sixteen.tiff"): 2e-5,
        saved(tmp_path, eight.convert("P"), "palette.gif"): 3e-3,
        saved(tmp_path, eight.convert("LA"), "grey_alpha.png"): 3e-3,
        saved(tmp_path, eight.convert("CMYK"), "cmyk.jpg", quality=100): 2e-2,
    }
    for file, tolerance in files.items():
        assert (prepare_image(file, 64, 64)[0] - expected).abs().max() < tolerance, file.name


def test_palette_transparency(tmp_path):
    image = Image.new("P", (16, 16), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (8, 0, 16, 16))
    pixels = prepare_image(saved(tmp_path, image, "p.png", transparency=0), 16, 16)
    assert torch.equal(pixels[0, :, 0, 0], torch.ones(3))
    assert torch.equal(pixels[0, :, 0, 15], torch.tensor([0.0, 0.0, 1.0]))


def test_exif_orientation(tmp_path):
    image = Image.fromarray((gradient(64, 32).numpy() * 255).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: to be shown rotated 90 degrees clockwise
    pixels = prepare_image(saved(tmp_path, image, "turned.png", exif=exif), 32, 64)
    # what grew rightwards grows downwards
    assert pixels[0, 0, 0].mean() < 0.05 and pixels[0, 0, -1].mean() > 0.95


def test_exif_that_is_broken_is_ignored(tmp_path, caplog):
    image = Image.fromarray((gradient(64, 32).numpy() * 255).round().astype(np.uint8))
    pixels = prepare_image(saved(tmp_path, image, "odd.png", exif=b"Exif\0\0no TIFF header"), 64, 32)
    assert torch.equal(pixels, prepare_image(image, 64, 32)) and "EXIF data cannot be read" in caplog.text


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_colour_profile_that_is_broken_is_ignored(tmp_path, suffix):
    image = Image.fromarray((gradient(64, 32).numpy() * 255).round().astype(np.uint8))
    broken = saved(tmp_path, image, f"broken.{suffix}", icc_profile=b"\0\0\2\x0c" + 128 * b"icc ")
    plain = saved(tmp_path, image, f"plain.{suffix}")
    assert torch.equal(prepare_image(broken, 64, 32), prepare_image(plain, 64, 32))


def test_opaque_and_transparent_palettes_and_alpha(tmp_path):
    image = Image.fromarray((gradient(16, 16).numpy() * 255).round().astype(np.uint8))
    expected = prepare_image(image, 16, 16)
    assert torch.equal(prepare_image(image.convert("RGBA"), 16, 16), expected)
    clear = image.convert("RGBA")
    clear.putalpha(0)
    assert torch.equal(prepare_image(clear.convert("P"), 16, 16), torch.ones(1, 3, 16, 16))


def test_too_many_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr("firstframe.clips.images.MAX_PIXELS", 3_000_000)
    large = Image.new("1", (2000, 2000))
    for image, name in [(large, "that was given"), (saved(tmp_path, large, "large.png"), "large.png'")]:
        with pytest.raises(ImageError, match=f"{name} has 2000 x 2000 pixels, at most 3 million"):
            prepare_image(image, 64, 64)
    with pytest.raises(ImageError, match="at most 64 million pixels, got 80000x80000"):
        prepare_image(torch.rand(8, 8, 3), 80000, 80000)


@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64])
def test_tensors_that_are_no_colours(dtype):
    with pytest.raises(ImageError, match=str(dtype)):
        prepare_image(torch.zeros(8, 8, 3, dtype=dtype), 8, 8)
    image = torch.rand(8, 8, 3)
    image[3, 4, 1] = torch.nan
    with pytest.raises(ImageError, match="NaN"):
        prepare_image(image, 8, 8)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (torch.rand(4, 64, 64, 3), r"batch of 4 \(shape \(4, 64, 64, 3\)\)"),
        (torch.rand(0, 64, 64, 3), "batch of 0"),
        (torch.rand(64, 64), r"shape \(64, 64\)"),
        (torch.rand(1, 3, 64, 64), r"shape \(1, 3, 64, 64\)"),
        (torch.rand(64, 64, 2), r"\(64, 64, 2\)"),
        (torch.rand(0, 64, 3), r"\(0, 64, 3\)"),
        ("no/such/file.png", "no/such/file.png"),
    ],
)
def test_what_is_no_single_image_is_refused(image, says):
    with pytest.raises(ImageError, match=says):
        prepare_image(image, 64, 64)


def test_broken_files_are_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = saved(tmp_path, Image.fromarray(noise), "whole.png")
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:5000])
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("cut.png", "text.png", "empty.png", "folder.png", "pipe.png"):
        with pytest.raises(ImageError, match=name):
            prepare_image(tmp_path / name, 64, 64)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_frames_of_other_packs_become_rgb(channels: int) -> None:
    images = torch.rand(2, 4, 5, channels)
    rgb = rgb_frames(images)
    assert rgb.shape == (2, 4, 5, 3)
    assert torch.equal(rgb[..., 0], images[..., 0]) and (channels > 1 or torch.equal(rgb[..., 2], images[..., 0]))


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (1, 8, 8, 2), (8, 8, 3), (1, 0, 8, 3)])
def test_frames_of_no_known_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=r"images are \(F, H, W, C\)"):
        rgb_frames(torch.zeros(shape))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_frames_that_are_not_finite(value: float) -> None:
    images = torch.zeros(3, 4, 4, 3)
    images[1, 2, 3, 0] = value
    with pytest.raises(ImageError, match="image 1 has values that are not finite"):
        rgb_frames(images)
