"""The tiny model makes the same clip inside the host and without it."""

from __future__ import annotations

import comfy.sample
import pytest
from comfyui_firstframe_pack.firstframe.bindings.comfy import tiny
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.first_frame import hold_first_frame
from comfyui_firstframe_pack.firstframe.bindings.diffusers import SamplingSettings, animate
from comfyui_firstframe_pack.firstframe.reference import Reference, prepare_picture
from comfyui_firstframe_pack.firstframe.shapes import fold_frames
from comfyui_firstframe_pack.firstframe.tiny.config import LATENT_SCALE
from comfyui_firstframe_pack.firstframe.tiny.model import TinyModel, load_tiny
from comfyui_firstframe_pack.nodes.load import EXAMPLE_PICTURE
from comfyui_firstframe_pack.nodes.prior import SimilarityPrior
from small import relative_error
from torch import Tensor

PROMPT = "a yellow star moves right quickly, still camera"


@pytest.fixture(scope="module")
def standalone() -> TinyModel:
    return load_tiny()


@pytest.fixture(scope="module")
def picture() -> Tensor:
    return prepare_picture(EXAMPLE_PICTURE, 128, 128)


def text(prompt: str) -> list[list[object]]:
    clip = tiny.load_tiny_clip()
    return [[clip.encode_from_tokens(clip.tokenize(prompt)), {}]]


def test_text(standalone: TinyModel) -> None:
    assert relative_error(text(PROMPT)[0][0], standalone.encode_text([PROMPT])) < 1e-4


def test_autoencoder(standalone: TinyModel, picture: Tensor) -> None:
    vae, latent = tiny.load_tiny_vae(), standalone.encode(picture)
    assert relative_error(vae.encode(picture.movedim(1, -1)) * LATENT_SCALE, latent) < 1e-4
    assert relative_error(vae.decode(latent / LATENT_SCALE).movedim(-1, 1), standalone.decode(latent)) < 1e-4


@pytest.mark.parametrize("start_time", [1.0, 0.6])
def test_clip(standalone: TinyModel, picture: Tensor, start_time: float) -> None:
    settings = SamplingSettings(num_frames=16, steps=4, cfg=4.0, seed=11, start_time=start_time)
    latent = standalone.encode(picture)
    states = standalone.encode_text([PROMPT, ""]).chunk(2)
    alone = animate(
        standalone.unet,
        *states,
        latent,
        settings,
        motion=standalone.motion,
        adapter=standalone.adapter,
        scheduler=standalone.scheduler,
    )

    reference = Reference(picture, latent / LATENT_SCALE)
    start, denoise = SimilarityPrior.execute(
        reference, 16, start_time, settings.keep_probability, settings.blur_kernel, settings.blur_sigma, settings.seed
    ).args
    model = apply_adapter(tiny.load_tiny_model(), tiny.load_tiny_adapter(), 1.0)
    hosted = comfy.sample.sample(
        hold_first_frame(model, reference.latent),
        comfy.sample.prepare_noise(start["samples"], settings.seed),
        settings.steps,
        settings.cfg,
        "ddim",
        "ddim_uniform",
        text(PROMPT),
        text(""),
        start["samples"],
        denoise=denoise,
        disable_pbar=True,
        seed=settings.seed,
    )
    assert relative_error(hosted * LATENT_SCALE, fold_frames(alone)) < 1e-3
