"""The retention branch on a diffusers UNet, and guidance by image and text."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from firstframe.bindings.diffusers import (
    Parts,
    PartScales,
    Prompts,
    Retention,
    SamplingSettings,
    inject,
    sample as sample_clip,
)
from firstframe.bindings.diffusers.sampling import draw_noise
from firstframe.clips.reference import Reference
from firstframe.errors import ModelMismatchError
from firstframe.modules.retention import RetentionBranch
from firstframe.sampling.guidance import DualGuidance
from firstframe.shapes import fold_frames

FRAMES = 4
SETTINGS = SamplingSettings(num_frames=FRAMES, steps=3, cfg=2.0, seed=1)
NOISY = draw_noise((4, 8, 8), FRAMES, 3)


@pytest.fixture
def reference(image) -> Reference:
    return Reference(image, torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5)))


@pytest.fixture
def texts() -> tuple[Tensor, Tensor]:
    text, no_text = torch.randn(2, 1, 7, 16, generator=torch.Generator().manual_seed(6))
    return text, no_text


class Rows:
    """Counts the images that a UNet was shown."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self.count = self.calls = 0
        unet.register_forward_pre_hook(self.see, with_kwargs=True)

    def see(self, _: object, args: tuple[Tensor, ...], kwargs: object) -> None:
        self.count += len(args[0])
        self.calls += 1


@torch.no_grad()
def output(unet: UNet2DConditionModel, text: Tensor) -> Tensor:
    return unet(fold_frames(NOISY), 401, text).sample


def test_residuals_go_where_a_controlnet_puts_them(unet, motion, retention, texts) -> None:
    with torch.no_grad(), inject(unet, motion, num_frames=FRAMES):
        residuals = retention.branch(NOISY, torch.tensor([401]), texts[0], retention.features)
        expected = unet(
            fold_frames(NOISY),
            401,
            texts[0],
            down_block_additional_residuals=residuals,
            mid_block_additional_residual=torch.zeros(()),
        ).sample
    with inject(unet, motion, retention=retention, num_frames=FRAMES):
        found = output(unet, texts[0])
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, output(unet, texts[0].expand(FRAMES, -1, -1)), atol=1e-2)


def test_it_adds_to_a_controlnet(unet, motion, retention, texts) -> None:
    """Half of the branch, and as a ControlNet the other half."""
    with (
        torch.no_grad(),
        inject(unet, motion, retention=retention, num_frames=FRAMES, scales=PartScales(retention=0.5)),
    ):
        residuals = retention.branch(NOISY, torch.tensor([401]), texts[0], retention.features)
        both = unet(
            fold_frames(NOISY),
            401,
            texts[0],
            down_block_additional_residuals=[0.5 * residual for residual in residuals],
            mid_block_additional_residual=torch.zeros(()),
        ).sample
    with inject(unet, motion, retention=retention, num_frames=FRAMES):
        torch.testing.assert_close(both, output(unet, texts[0]), rtol=1e-4, atol=1e-5)


def test_untrained_or_at_strength_zero_nothing_changes(unet, motion, retention, texts) -> None:
    with inject(unet, motion, num_frames=FRAMES):
        without = output(unet, texts[0])
    with inject(unet, motion, retention=retention, num_frames=FRAMES, scales=PartScales(retention=0.0)):
        assert torch.equal(output(unet, texts[0]), without)
    untrained = Retention(RetentionBranch(retention.branch.config), retention.features)
    with inject(unet, motion, retention=untrained, num_frames=FRAMES):
        assert torch.equal(output(unet, texts[0]), without)


def test_another_unet_is_refused(make_unet, retention) -> None:
    wide = make_unet(cross_attention_dim=24)
    with pytest.raises(ModelMismatchError, match="retention branch was made for another UNet"):
        inject(wide, retention=retention, num_frames=FRAMES)


@pytest.fixture
def parts(motion, adapter, retention) -> Parts:
    return Parts(motion, adapter, retention=retention.branch)


def sample(unet, texts, reference, parts, settings: SamplingSettings, **guidance: object) -> Tensor:
    guided = replace(settings, guidance=DualGuidance(**guidance)) if guidance else settings  # type: ignore[arg-type]
    return sample_clip(unet, parts, Prompts(*texts), guided, reference, latent_scale=1.0)


def test_scales_of_one_are_the_full_prediction_alone(unet, parts, reference, texts) -> None:
    expected = sample(unet, texts, reference, parts, replace(SETTINGS, cfg=1.0))
    rows = Rows(unet)
    torch.testing.assert_close(sample(unet, texts, reference, parts, SETTINGS, image_scale=1, text_scale=1), expected)
    assert rows.count == 3 * FRAMES


def test_image_scale_one_is_plain_guidance_by_text(unet, parts, reference, texts) -> None:
    rows = Rows(unet)
    found = sample(unet, texts, reference, parts, SETTINGS, image_scale=1.0, text_scale=2.0)
    assert (rows.count, rows.calls) == (3 * 2 * FRAMES, 3)
    assert torch.equal(found, sample(unet, texts, reference, parts, SETTINGS))


def test_plain_guidance_is_the_equation(unet, parts, reference, texts) -> None:
    """Classifier-free guidance (arXiv 2207.12598) between negative prompt and prompt; one step of DDIM is linear."""
    once = replace(SETTINGS, steps=1)
    negative, text = (sample(unet, (words, words), reference, parts, replace(once, cfg=1.0)) for words in texts[::-1])
    found = sample(unet, texts, reference, parts, replace(once, cfg=3.0))
    torch.testing.assert_close(found, negative + 3.0 * (text - negative), rtol=1e-4, atol=1e-4)


def test_without_a_latent_the_branch_alone_conditions_on_the_image(unet, parts, motion, reference, texts) -> None:
    """Sampling starts from noise, no frame is held, and the adapter, which has nothing to attend to, is left out."""
    pixels = Reference(reference.pixels)
    found = sample(unet, texts, pixels, parts, SETTINGS)
    assert torch.equal(found, sample(unet, texts, pixels, replace(parts, adapter=None), SETTINGS))
    text_alone = sample(unet, texts, None, Parts(motion), SETTINGS)
    assert not torch.allclose(found, text_alone, atol=0.1)
    off = replace(parts, scales=PartScales(retention=0.0))
    assert torch.equal(text_alone, sample(unet, texts, pixels, off, SETTINGS, image_scale=3.0, text_scale=2.0))


def test_without_image_and_text_it_is_the_base(unet, parts, motion, reference, texts) -> None:
    """Image and text scale 0: the base model alone, on noise, with frame 0 not held while it looks."""
    found = sample(unet, texts, reference, parts, SETTINGS, image_scale=0.0, text_scale=0.0)
    free = replace(SETTINGS, cfg=1.0, hold_first_frame=False)
    base = sample(unet, (texts[1], texts[1]), reference, Parts(motion), replace(free, steps=1))
    one_step = sample(unet, texts, reference, parts, replace(SETTINGS, steps=1), image_scale=0.0, text_scale=0.0)
    torch.testing.assert_close(one_step[:, :, 1:], base[:, :, 1:], rtol=1e-4, atol=1e-4)
    assert torch.equal(found[:, :, 0], reference.latent)


def test_three_predictions_are_the_formula(unet, parts, reference, texts) -> None:
    """One step of DDIM is linear in the prediction."""
    once = replace(SETTINGS, steps=1)

    def branch(image: float, text: float) -> Tensor:
        return sample(unet, texts, reference, parts, once, image_scale=image, text_scale=text)[:, :, 1:]

    none, image, full = branch(0, 0), branch(1, 0), branch(1, 1)
    torch.testing.assert_close(
        branch(2.0, 5.0), none + 2.0 * (image - none) + 5.0 * (full - image), rtol=1e-3, atol=1e-3
    )


def test_intervals_save_what_they_claim(unet, parts, reference, texts) -> None:
    """Three steps, at 0.33, 0.67 and 1 of the way; each interval holds the first one only."""
    rows = Rows(unet)
    sample(unet, texts, reference, parts, SETTINGS, image_scale=3.0, text_scale=2.0, image_interval=(0.0, 0.5))
    assert rows.count == (3 + 2 + 2) * FRAMES
    rows.count = 0
    intervals = {"image_interval": (0.0, 0.5), "text_interval": (0.0, 0.5)}
    sample(unet, texts, reference, parts, SETTINGS, image_scale=3.0, text_scale=2.0, **intervals)
    assert rows.count == (3 + 1 + 1) * FRAMES


def test_refinements_at_almost_neutral_values_are_plain(unet, parts, reference, texts) -> None:
    """The way over clean latents and back ends where the direct one does."""
    scales = {"image_scale": 2.0, "text_scale": 3.0}
    plain = sample(unet, texts, reference, parts, SETTINGS, **scales)
    refined = sample(unet, texts, reference, parts, SETTINGS, **scales, rescale=1e-12)
    torch.testing.assert_close(refined, plain, rtol=1e-3, atol=1e-3)


def test_less_contrast_with_rescale_and_projection(unet, parts, reference, texts) -> None:
    strong = {"image_scale": 8.0, "text_scale": 8.0}
    plain = sample(unet, texts, reference, parts, SETTINGS, **strong)
    for refinement in ({"rescale": 1.0}, {"parallel": 0.0}):
        assert sample(unet, texts, reference, parts, SETTINGS, **strong, **refinement).std() < plain.std()
