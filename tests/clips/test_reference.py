from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from firstframe.clips.reference import Reference, nearest_size, prepare_image
from firstframe.errors import FramesError, ImageError


def gradient(width: int, height: int) -> torch.Tensor:
    """(H, W, 3): red grows to the right, green downwards."""
    red = torch.linspace(0, 1, width).expand(height, width)
    green = torch.linspace(0, 1, height)[:, None].expand(height, width)
    return torch.stack([red, green, torch.full_like(red, 0.5)], -1)


def disc(width: int, height: int, radius: float) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    inside = ((x - width / 2) ** 2 + (y - height / 2) ** 2).sqrt() < radius
    return inside.float()[..., None].expand(-1, -1, 3)


def extent(pixels: torch.Tensor) -> tuple[int, int]:
    """Width and height of what is bright."""
    bright = pixels[0].mean(0) > 0.5
    return int(bright.any(0).sum()), int(bright.any(1).sum())


@pytest.mark.parametrize("size", [(200, 100), (100, 200), (37, 91), (64, 64), (1000, 13)])
@pytest.mark.parametrize("fit", ["cover", "contain", "stretch"])
def test_size_range_and_type(size, fit):
    pixels = prepare_image(gradient(*size), 64, 48, fit)
    assert pixels.shape == (1, 3, 48, 64) and pixels.dtype == torch.float32
    assert pixels.min() >= 0 and pixels.max() <= 1


@pytest.mark.parametrize("fit", ["cover", "contain"])
@pytest.mark.parametrize("size", [(300, 200), (200, 300)])
def test_a_circle_stays_a_circle(fit, size):
    width, height = extent(prepare_image(disc(*size, radius=60), 96, 96, fit))
    assert abs(width - height) <= 1


def test_stretch_is_the_only_one_that_deforms():
    width, height = extent(prepare_image(disc(300, 150, radius=60), 96, 96, "stretch"))
    assert height == pytest.approx(2 * width, abs=2)


def test_cover_crops_the_middle():
    pixels = prepare_image(gradient(200, 100), 64, 64, "cover")
    assert pixels[0, 0].mean() == pytest.approx(0.5, abs=0.01)
    assert pixels[0, 0, 32, 0] == pytest.approx(0.25, abs=0.02)
    assert pixels[0, 0, 32, -1] == pytest.approx(0.75, abs=0.02)
    assert pixels[0, 1, 0, 32] < 0.02 and pixels[0, 1, -1, 32] > 0.98


def test_contain_shows_everything_between_the_bars():
    pixels = prepare_image(gradient(200, 100), 64, 64, "contain", padding=(1.0, 0.0, 1.0))
    bar = torch.tensor([1.0, 0.0, 1.0])
    assert torch.equal(pixels[0, :, 0, 0], bar) and torch.equal(pixels[0, :, -1, -1], bar)
    assert pixels[0, 0, 32, 0] < 0.02 and pixels[0, 0, 32, -1] > 0.98
    assert (pixels[0, 2] == 1).all(1).sum() == 32  # 16 rows above, 16 below


def test_the_right_size_is_left_as_it_is():
    image = torch.rand(48, 64, 3, generator=torch.Generator().manual_seed(0))
    for fit in ("cover", "contain", "stretch"):
        assert torch.equal(prepare_image(image, 64, 48, fit)[0], image.movedim(-1, 0))


def test_shrinking_does_not_alias():
    stripes = (torch.arange(512) % 2).float().expand(512, 512)[..., None].expand(-1, -1, 3)
    assert (prepare_image(stripes, 64, 64) - 0.5).abs().max() < 0.1


def test_input_is_not_changed_nor_shared():
    image = torch.rand(64, 64, 3)
    before = image.clone()
    prepare_image(image, 64, 64).zero_()
    assert torch.equal(image, before)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float16, torch.float64])
def test_tensor_types(dtype):
    image = gradient(64, 64)
    scaled = image if dtype.is_floating_point else image * torch.iinfo(dtype).max
    assert torch.allclose(prepare_image(scaled.to(dtype), 64, 64), image.movedim(-1, 0)[None], atol=4e-3)


def test_comfy_image_and_grey_tensors():
    image = gradient(64, 64)
    assert torch.equal(prepare_image(image[None], 64, 64), prepare_image(image, 64, 64))
    grey = prepare_image(image[..., :1], 64, 64)
    assert torch.equal(grey[:, 0], grey[:, 2])


def test_alpha_is_laid_over_the_background():
    image = torch.cat([gradient(64, 64), torch.zeros(64, 64, 1)], -1)
    image[:, 32:, 3] = 0.5
    pixels = prepare_image(image, 64, 64)
    assert torch.equal(pixels[..., :32], torch.ones(1, 3, 64, 32))
    assert pixels[0, 2, 0, 40] == pytest.approx(0.75)
    assert prepare_image(image, 64, 64, background=(0.0, 0.0, 0.0))[0, 2, 0, 40] == pytest.approx(0.25)


def test_transparent_colour_does_not_bleed_when_resized():
    image = torch.zeros(128, 128, 4)
    image[:, 64:] = torch.tensor([0.0, 1.0, 0.0, 1.0])
    pixels = prepare_image(image, 32, 32)
    assert pixels[0, 1].min() > 0.99  # white beside green: the black of the transparent half is nowhere


@pytest.mark.parametrize(("size", "side"), [((20000, 1), 128), ((1, 20000), 512)])
@pytest.mark.parametrize("fit", ["cover", "contain", "stretch"])
def test_a_thin_image_takes_little_memory(monkeypatch, size, side, fit):
    sizes = []

    def interpolate(pixels, size, **options):
        sizes.append(pixels.shape[1:].numel())
        return functional.interpolate(pixels, size, **options)

    monkeypatch.setattr("firstframe.clips.reference.functional", SimpleNamespace(interpolate=interpolate))
    pixels = prepare_image(gradient(*size), side, side, fit)
    assert pixels.shape == (1, 3, side, side) and max(sizes) <= 4 * 3 * side * side
    if fit == "cover":
        assert (
            pixels[0, :2].mean((1, 2)) - torch.tensor([0.5 * (size[0] > 1), 0.5 * (size[1] > 1)])
        ).abs().max() < 0.01


@pytest.mark.parametrize(("source", "fit"), [((1, 312), "stretch"), ((3, 3000), "contain"), ((312, 1), "stretch")])
def test_one_column_and_one_row_as_pillow_resizes_them(source, fit):
    noise = np.random.default_rng(0).random(source[::-1], np.float32)
    width = 56 if fit == "stretch" else 1
    wanted = np.asarray(Image.fromarray(noise).resize((width, 72), Image.Resampling.BICUBIC)).clip(0, 1)
    left = (56 - width) // 2
    pixels = prepare_image(torch.from_numpy(noise)[..., None], 56, 72, fit)[0, 0]
    assert np.abs(pixels[:, left : left + width].numpy() - wanted).max() < 1e-5


@pytest.mark.parametrize(("width", "height"), [(100, 64), (64, 65), (0, 64), (-8, 64)])
def test_sizes_are_multiples_of_8(width, height):
    with pytest.raises(ImageError, match=f"{width}x{height}"):
        prepare_image(torch.rand(64, 64, 3), width, height)


def test_unknown_fit():
    with pytest.raises(ImageError, match="crop"):
        prepare_image(torch.rand(64, 64, 3), 64, 64, "crop")


def test_reference():
    reference = Reference(prepare_image(gradient(100, 100), 64, 48))
    assert (reference.width, reference.height) == (64, 48)
    assert reference.image.shape == (1, 48, 64, 3) and reference.latent is None


def with_others(*frames: int) -> Reference:
    """Each image's latent is full of its frame's number."""
    return Reference(
        torch.zeros(1, 3, 16, 16), torch.zeros(1, 4, 2, 2), others={n: torch.full((1, 4, 2, 2), n) for n in frames}
    )


def test_each_frame_has_the_image_nearest_to_it():
    assert with_others(3, -1).nearest(8)[0, 0, :, 0, 0].tolist() == [0, 0, 3, 3, 3, 3, -1, -1]
    assert with_others(15).nearest(16)[0, 0, -1, 0, 0] == 15


@pytest.mark.parametrize("frame", [16, 20, -17])
def test_an_image_outside_of_the_clip(frame):
    with pytest.raises(FramesError, match=f"in frame {frame}, but the clip has frames 0 to 15; -1 is the last"):
        with_others(frame).nearest(16)


@pytest.mark.parametrize(("frames", "number"), [((15, -1), 15), ((0,), 0), ((-16,), 0)])
def test_two_images_in_one_frame(frames, number):
    with pytest.raises(FramesError, match=f"two images are to be in frame {number} of a clip of 16"):
        with_others(*frames).nearest(16)


@pytest.mark.parametrize(
    ("image", "pixels", "multiple", "expected"),
    [
        ((640, 640), 512**2, 64, (512, 512)),
        ((1920, 1080), 512**2, 64, (704, 384)),
        ((1080, 1920), 512**2, 64, (384, 704)),
        ((3000, 2000), 512**2, 64, (640, 448)),
        ((5000, 100), 512**2, 64, (768, 384)),
        ((100, 100), 128**2, 32, (128, 128)),
        ((16, 9), 64**2, 32, (64, 64)),
        ((16, 9), 64 * 80, 32, (96, 64)),  # none within an eighth
        ((1, 1), 8 * 8, 32, (32, 32)),
    ],
)
def test_the_size_is_the_nearest_that_the_model_knows(image, pixels, multiple, expected):
    assert nearest_size(*image, pixels, multiple) == expected


def test_every_shape_has_a_size():
    for side in range(64, 1025, 64):
        for shape in ((1, 1), (2, 1), (1, 2), (100, 1)):
            width, height = nearest_size(*shape, side * side, 32 if side < 256 else 64)
            assert abs(width * height / side**2 - 1) <= 1 / 8
