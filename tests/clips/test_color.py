from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from kornia.color import rgb_to_lab
from safetensors.torch import load_file

from firstframe.clips.color import match_color, match_histogram
from firstframe.clips.opencv_lab import lab8_to_rgb, rgb_to_lab8

ORACLE = Path(os.environ.get("FIRSTFRAME_ORACLE", Path(__file__).parents[1] / "data" / "official_oracle"))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def lab(image: torch.Tensor) -> torch.Tensor:
    return rgb_to_lab(image.movedim(-1, 0))


def test_official_oracle():
    expected = load_file(ORACLE / "expected.safetensors")
    matched = match_color(expected["C.frame"][None], expected["C.first"], official=True)
    assert torch.allclose(matched[0], expected["C.matched"], atol=1e-6)


@pytest.mark.parametrize("convert", ["rgb_to_lab", "lab_to_rgb"])
def test_lab8_is_opencv_to_the_integer(convert):
    cv2 = pytest.importorskip("cv2")
    colours = (noise(1500, 1500, 3) * 256).to(torch.uint8)
    ours = rgb_to_lab8(colours) if convert == "rgb_to_lab" else lab8_to_rgb(colours)
    code = cv2.COLOR_RGB2LAB if convert == "rgb_to_lab" else cv2.COLOR_LAB2RGB
    assert torch.equal(ours, torch.from_numpy(cv2.cvtColor(colours.numpy(), code)))


@pytest.mark.parametrize("levels", [8, 256, 10**6])
def test_histograms_as_skimage(levels):
    exposure = pytest.importorskip("skimage.exposure")
    values = (noise(40, 30) * levels).floor() / levels
    template = ((noise(25, 50, seed=1) ** 2) * levels).floor() / levels + 0.25
    expected = exposure.match_histograms(values.double().numpy(), template.double().numpy())
    assert torch.allclose(match_histogram(values, template), torch.from_numpy(expected), atol=1e-6)


def test_constant_channels():
    flat = torch.full((5, 5), 0.25)
    assert torch.equal(match_histogram(flat, torch.full((3, 3), 0.75)), torch.full((5, 5), 0.75).double())


def test_its_own_colours_change_nothing():
    frames = noise(3, 24, 24, 3)
    assert torch.allclose(match_color(frames, frames[0])[0], frames[0], atol=2e-3)


def test_a_and_b_become_the_references_and_lightness_stays():
    reference = 0.35 + 0.3 * noise(32, 32, 3)
    frames = (0.35 + 0.3 * noise(2, 32, 32, 3, seed=1)) * torch.tensor([1.0, 0.9, 0.8])  # a yellow cast
    matched = match_color(frames, reference)
    for frame, before in zip(matched, frames, strict=True):
        now, wanted = lab(frame), lab(reference)
        for channel in (1, 2):
            assert torch.allclose(now[channel].ravel().sort()[0], wanted[channel].ravel().sort()[0], atol=0.5)
        assert torch.allclose(now[0], lab(before)[0], atol=0.1)


def test_a_drift_is_taken_back():
    image = 0.2 + 0.6 * noise(32, 32, 3)
    drifted = (image * torch.tensor([1.06, 1.0, 0.94]))[None]
    matched = match_color(drifted, image)[0]
    before, after = ((lab(x)[1:] - lab(image)[1:]).abs().mean() for x in (drifted[0], matched))
    assert after < 0.5 * before


def test_type_and_other_sizes():
    matched = match_color(noise(2, 16, 24, 3).half(), noise(48, 8, 3))
    assert matched.shape == (2, 16, 24, 3) and matched.dtype == torch.float16
