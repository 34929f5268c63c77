"""SDXL makes the same clip inside the host and on diffusers' UNet, with every part and with one seed."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.first_frame import hold_first_frame
from comfyui_firstframe_pack.firstframe.bindings.comfy.image_tokens import apply_image_tokens, with_tokens
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion
from comfyui_firstframe_pack.firstframe.bindings.comfy.retention import apply_retention
from comfyui_firstframe_pack.firstframe.bindings.diffusers import (
    Parts,
    Pooled,
    Prompts,
    SamplingSettings,
    inject,
    sample,
    unet_config,
)
from comfyui_firstframe_pack.firstframe.errors import ModelMismatchError
from comfyui_firstframe_pack.firstframe.sampling.guidance import DualGuidance
from comfyui_firstframe_pack.firstframe.shapes import fold_frames
from comfyui_firstframe_pack.nodes.sampler import Sampler
from diffusers import UNet2DConditionModel
from small import FRAMES, SIDE, reference, relative_error, small_adapter, small_motion, small_retention
from small_sdxl import (
    IMAGE_TOKENS,
    POOLED,
    SMALL_SDXL,
    diffusers_weights,
    prompts,
    small_image_tokens,
    small_sdxl,
)
from torch import Tensor

pytestmark = pytest.mark.feature("SDXL: equal to the result on diffusers' UNet")

LATENT_SCALE = 0.13025
MOTIONS = {
    "AnimateDiff": {"mid": False, "norm_over_frames": True, "betas": "animatediff_sdxl"},
    "Hotshot-XL": {"mid": False, "pooled_unet_norms": True, "betas": "sdxl"},
}
UNGUIDED = {
    **dict.fromkeys(("image_start", "text_start", "rescale"), 0.0),
    **dict.fromkeys(("image_end", "text_end", "parallel"), 1.0),
}


def standalone_unet() -> UNet2DConditionModel:
    """The small SDXL as diffusers has it, with the host's weights."""
    unet = UNet2DConditionModel(
        sample_size=SIDE,
        block_out_channels=SMALL_SDXL.block_out_channels,
        layers_per_block=SMALL_SDXL.layers_per_block,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=SMALL_SDXL.cross_attention_dim,
        transformer_layers_per_block=SMALL_SDXL.depths,
        attention_head_dim=tuple(max(width // 64, 1) for width in SMALL_SDXL.block_out_channels),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=SMALL_SDXL.pooled_channels,
    )
    unet.load_state_dict(diffusers_weights())
    return unet.eval().requires_grad_(False)


def tokens() -> Tensor:
    """Of the image, (1, M, D): both prompts have them."""
    return torch.randn(1, IMAGE_TOKENS, SMALL_SDXL.cross_attention_dim, generator=torch.Generator().manual_seed(1))


def told(image_tokens: bool) -> Prompts:
    """The prompts of the host's conditionings for the standalone path."""
    (text, extra), (negative, other) = (one[0] for one in prompts())
    pixels = 8.0 * SIDE
    sizes = torch.tensor([[pixels, pixels, 0.0, 0.0, pixels, pixels]])
    texts = [text, negative]
    if image_tokens:
        texts = [torch.cat([each, tokens()], dim=1) for each in texts]
    return Prompts(*texts, Pooled(extra["pooled_output"], other["pooled_output"], sizes))


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("start_time", [1.0, 0.6])
def test_a_clip_with_every_part(motion: str, start_time: float) -> None:
    settings = SamplingSettings(FRAMES, steps=3, seed=11, start_time=start_time, guidance=DualGuidance(1.5, 3.0))
    moving, adapter = small_motion(SMALL_SDXL, **MOTIONS[motion]), small_adapter(SMALL_SDXL)
    branch, projections = small_retention(SMALL_SDXL), small_image_tokens()
    hosted = _by_host(small_sdxl(), (moving, adapter, branch, projections), settings)
    parts = Parts(moving.model, adapter.model, projections.model, branch.model)
    alone = sample(standalone_unet(), parts, told(image_tokens=True), settings, reference(), latent_scale=LATENT_SCALE)
    assert relative_error(hosted * LATENT_SCALE, fold_frames(alone)) < 1e-3


def _by_host(model: Any, applied: tuple[Any, ...], settings: SamplingSettings) -> Tensor:
    motion, adapter, branch, projections = applied
    model = apply_image_tokens(apply_motion(model, motion, 1.0, "auto"), projections, 1.0)
    both = [with_tokens(one, tokens()) for one in prompts()]
    run = partial(Sampler.execute, hold_first_frame(apply_adapter(model, adapter, 1.0), reference().latent))
    (latents,) = run(
        *apply_retention(both, branch, reference(), 1.0, 0.0, 1.0),
        reference(),
        num_frames=FRAMES,
        seed=settings.seed,
        steps=settings.steps,
        sampler_name="ddim",
        scheduler="ddim_uniform",
        start_time=settings.start_time,
        keep_probability=settings.keep_probability,
        image_scale=1.5,
        text_scale=3.0,
        **UNGUIDED,
    ).args
    return latents["samples"]


def test_the_unet_is_known_as_what_it_is() -> None:
    assert unet_config(standalone_unet()) == SMALL_SDXL


@pytest.mark.parametrize("rows", ["clips", "frames"])
def test_pooled_text_for_each_clip_or_each_frame(rows: str) -> None:
    """Two clips in a batch, each with pooled text of its own."""
    unet, pooled = standalone_unet(), torch.randn(2, POOLED, generator=torch.Generator().manual_seed(2))
    noisy = torch.randn(2 * FRAMES, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    text, sizes = told(False).text, told(False).pooled.sizes

    def predict(pooled: Tensor, noisy: Tensor) -> Tensor:
        added = {"text_embeds": pooled, "time_ids": sizes.expand(len(pooled), -1)}
        return unet(noisy, 401, text.expand(len(noisy) // FRAMES, -1, -1), added_cond_kwargs=added).sample

    with inject(unet, small_motion(SMALL_SDXL, **MOTIONS["Hotshot-XL"]).model, num_frames=FRAMES):
        given = pooled if rows == "clips" else pooled.repeat_interleave(FRAMES, dim=0)
        together = predict(given, noisy)
        apart = [predict(one[None], clip) for one, clip in zip(pooled, noisy.chunk(2), strict=True)]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-4, atol=1e-4)


def test_a_branch_without_pooled_text_is_an_error() -> None:
    branch, sizes = small_retention(SMALL_SDXL).model, torch.zeros(1, 4, FRAMES, SIDE, SIDE)
    features = branch.encode(reference().pixels)
    with pytest.raises(ModelMismatchError, match=r"pooled text and sizes of 1544 channels, and none was given"):
        branch(sizes, torch.tensor([1]), told(False).text, features)
