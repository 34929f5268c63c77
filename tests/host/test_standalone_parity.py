"""The tiny model makes the same clip inside the host and without it."""

from __future__ import annotations

from dataclasses import replace

import comfy.sample
import comfy.sd
import pytest
from comfy.model_patcher import ModelPatcher
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.first_frame import hold_first_frame
from comfyui_firstframe_pack.firstframe.bindings.comfy.retention import apply_retention
from comfyui_firstframe_pack.firstframe.bindings.diffusers import (
    Parts,
    PartScales,
    Prompts,
    SamplingSettings,
    sample,
)
from comfyui_firstframe_pack.firstframe.clips.reference import Reference, prepare_image
from comfyui_firstframe_pack.firstframe.sampling.guidance import DualGuidance, LowPass
from comfyui_firstframe_pack.firstframe.shapes import fold_frames
from comfyui_firstframe_pack.firstframe.tiny import comfy as tiny
from comfyui_firstframe_pack.firstframe.tiny.config import LATENT_SCALE
from comfyui_firstframe_pack.firstframe.tiny.files import weights_file
from comfyui_firstframe_pack.firstframe.tiny.model import TinyModel, load_tiny
from comfyui_firstframe_pack.firstframe.tiny.style import with_look
from comfyui_firstframe_pack.nodes.load import EXAMPLE_IMAGE
from comfyui_firstframe_pack.nodes.prior import SimilarityPrior
from comfyui_firstframe_pack.nodes.sampler import Sampler
from safetensors.torch import load_file
from small import relative_error
from torch import Tensor

pytestmark = pytest.mark.feature("Equal to the command line's result")

PROMPT = "a red heart moves right quickly, still camera"


@pytest.fixture(scope="module")
def standalone() -> TinyModel:
    return load_tiny()


@pytest.fixture(scope="module")
def image() -> Tensor:
    return prepare_image(EXAMPLE_IMAGE, 128, 128)


def text(prompt: str) -> list[list[object]]:
    clip = tiny.load_tiny_clip()
    return [[clip.encode_from_tokens(clip.tokenize(prompt)), {}]]


def test_text(standalone: TinyModel) -> None:
    assert relative_error(text(PROMPT)[0][0], standalone.encode_text([PROMPT])) < 1e-4


def test_autoencoder(standalone: TinyModel, image: Tensor) -> None:
    vae, latent = tiny.load_tiny_vae(), standalone.encode(image)
    assert relative_error(vae.encode(image.movedim(1, -1)) * LATENT_SCALE, latent) < 1e-4
    assert relative_error(vae.decode(latent / LATENT_SCALE).movedim(-1, 1), standalone.decode(latent)) < 1e-4


def made_alone(
    model: TinyModel, reference: Reference, settings: SamplingSettings, adapter: bool = True, retention: bool = False
) -> Tensor:
    """Latents (F, C, H, W) without the host."""
    scales = PartScales(adapter=float(adapter), retention=float(retention))
    latents = sample(
        model.unet,
        Parts(model.motion, model.adapter, retention=model.retention, scales=scales),
        Prompts(*model.encode_text([PROMPT, ""]).chunk(2)),
        settings,
        reference,
        scheduler=model.scheduler,
        latent_scale=LATENT_SCALE,
    )
    return fold_frames(latents)


def made_by_host(model: ModelPatcher, reference: Reference, settings: SamplingSettings) -> Tensor:
    """Latents (F, C, H, W) by the node of the prior and the host's own sampler."""
    start, denoise = SimilarityPrior.execute(
        reference,
        16,
        settings.start_time,
        settings.keep_probability,
        settings.blur_kernel,
        settings.blur_sigma,
        settings.seed,
    ).args
    model = apply_adapter(model, tiny.load_tiny_adapter(), 1.0, low_pass=settings.low_pass)
    latents = comfy.sample.sample(
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
    return latents * LATENT_SCALE


@pytest.fixture(scope="module")
def reference(standalone: TinyModel, image: Tensor) -> Reference:
    return Reference(image, standalone.encode(image) / LATENT_SCALE)


@pytest.mark.parametrize("start_time", [1.0, 0.6])
def test_clip(standalone: TinyModel, reference: Reference, start_time: float) -> None:
    settings = SamplingSettings(16, steps=4, cfg=4.0, seed=11, start_time=start_time)
    hosted = made_by_host(tiny.load_tiny_model(), reference, settings)
    assert relative_error(hosted, made_alone(standalone, reference, settings)) < 1e-3


@pytest.mark.parametrize("end", [0.3, 0.6])
def test_clip_under_low_pass_guidance(standalone: TinyModel, reference: Reference, end: float) -> None:
    """The softened image is seen in the same steps, and softened alike."""
    settings = SamplingSettings(16, steps=6, cfg=4.0, seed=11, low_pass=LowPass(0.25, end))
    hosted = made_by_host(tiny.load_tiny_model(), reference, settings)
    assert relative_error(hosted, made_alone(standalone, reference, settings)) < 1e-3
    other = replace(settings, low_pass=LowPass(0.25, 0.9 - end))
    assert relative_error(hosted, made_alone(standalone, reference, other)) > 1e-3


@pytest.mark.parametrize("adapter", [True, False])
@pytest.mark.parametrize("retention", [True, False])
@pytest.mark.parametrize("start_time", [1.0, 0.6])
def test_clip_under_dual_guidance(
    standalone: TinyModel, reference: Reference, adapter: bool, retention: bool, start_time: float
) -> None:
    settings = SamplingSettings(16, steps=4, seed=11, start_time=start_time, guidance=DualGuidance(1.5, 3.0))
    model, prompts = tiny.load_tiny_model(), [text(PROMPT), text("")]
    if adapter:
        model = apply_adapter(model, tiny.load_tiny_adapter(), 1.0)
    if retention:
        prompts = apply_retention(prompts, tiny.load_tiny_retention(), reference, 1.0, 0.0, 1.0)
    (hosted,) = Sampler.execute(
        hold_first_frame(model, reference.latent),
        *prompts,
        reference,
        num_frames=16,
        seed=settings.seed,
        steps=settings.steps,
        sampler_name="ddim",
        scheduler="ddim_uniform",
        start_time=start_time,
        keep_probability=settings.keep_probability,
        image_scale=1.5,
        text_scale=3.0,
        **dict.fromkeys(("image_start", "text_start", "rescale"), 0.0),
        **dict.fromkeys(("image_end", "text_end", "parallel"), 1.0),
    ).args
    alone = made_alone(standalone, reference, settings, adapter, retention)
    assert relative_error(hosted["samples"] * LATENT_SCALE, alone) < 1e-3


def test_another_look(standalone: TinyModel, reference: Reference) -> None:
    """The LoRA that ships, through the host's own loader, is the base that it makes outside."""
    lora = load_file(weights_file("look_lora"))
    hosted, _ = comfy.sd.load_lora_for_models(tiny.load_tiny_model(), None, lora, 1.0, 0.0)
    assert len(hosted.patches) == len(lora) / 3
    settings = SamplingSettings(16, steps=2, cfg=3.0, seed=3)
    clip = made_by_host(hosted, reference, settings)
    assert relative_error(clip, made_alone(with_look(standalone), reference, settings)) < 1e-3
    assert relative_error(clip, made_alone(standalone, reference, settings)) > 0.1
