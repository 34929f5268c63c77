"""Against the official I2V-Adapter implementation, through the nodes' own code path on a UNet of the host."""

from __future__ import annotations

from pathlib import Path

import comfy.model_management
import comfy.sample
import pytest
from comfy.model_patcher import ModelPatcher
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter_patches import AdapterPatches, View
from comfyui_firstframe_pack.firstframe.bindings.comfy.build import build_unet
from comfyui_firstframe_pack.firstframe.bindings.comfy.first_frame import hold_first_frame
from comfyui_firstframe_pack.firstframe.bindings.comfy.image_tokens import (
    TOKENS,
    apply_image_tokens,
    with_tokens,
)
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion, injected_motion
from comfyui_firstframe_pack.firstframe.bindings.comfy.sites import motion_layer, transformer_at, unet_of
from comfyui_firstframe_pack.firstframe.bindings.comfy.weights import (
    HOST,
    as_patcher,
    load_in_host,
)
from comfyui_firstframe_pack.firstframe.shapes import fold_frames, unfold_frames
from comfyui_firstframe_pack.firstframe.sites import Site, UNetConfig
from comfyui_firstframe_pack.firstframe.weights import I2V_ADAPTER, IMAGE_TOKENS, MOTION_MODULE, load, load_state_dict
from comfyui_firstframe_pack.nodes.color import ColorMatch
from small import evaluate, relative_error
from torch import Tensor

pytestmark = pytest.mark.feature("Equal to the official I2V-Adapter")

CONFIG = UNetConfig((32, 32, 64, 64), 2, (True, True, True, False), num_heads=8, cross_attention_dim=32)
FRAMES = 6
NUM_TOKENS = 16
LATENT_SCALE = 0.18215


@pytest.fixture(scope="module")
def base(oracle_dir: Path) -> ModelPatcher:
    weights = load_state_dict(oracle_dir / "base.safetensors")
    return build_unet(CONFIG, {name: tensor.float() for name, tensor in weights.items()})


@pytest.fixture(params=[1.0, 0.0], ids=["image tokens", "no image tokens"])
def image_scale(request) -> float:
    return request.param


@pytest.fixture
def model(base: ModelPatcher, oracle_dir: Path, image_scale: float) -> ModelPatcher:
    """The base network with all parts applied."""
    tokens = as_patcher(load(IMAGE_TOKENS, oracle_dir / "ip.safetensors", backend=HOST))
    moving_model = apply_motion(base, load_in_host(MOTION_MODULE, oracle_dir / "motion.safetensors"), 1.0, "auto")
    adapted = apply_adapter(moving_model, load_in_host(I2V_ADAPTER, oracle_dir / "i2v_module.safetensors"), 1.0)
    return apply_image_tokens(adapted, tokens, image_scale)


def entry(expected: dict[str, Tensor], name: str, image_scale: float) -> Tensor:
    return expected[name if image_scale else f"{name}_without_image_tokens"]


def test_one_forward(model: ModelPatcher, image_scale: float, expected: dict[str, Tensor]) -> None:
    sigma = model.get_model_object("model_sampling").sigma(expected["A.timestep"])
    x = fold_frames(expected["A.sample"]) * (1 + sigma**2) ** 0.5
    states = expected["A.encoder_hidden_states"].repeat_interleave(FRAMES, 0)
    text, tokens = states[:, :-NUM_TOKENS], states[:, -NUM_TOKENS:]
    denoised = evaluate(model, x, sigma.repeat(len(x)), text, chunks=2, **{TOKENS: tokens})
    eps = unfold_frames((x - denoised) / sigma, FRAMES)
    assert relative_error(eps, entry(expected, "A.output", image_scale)) < 1e-3


@pytest.fixture
def unloaded() -> None:
    """Modules that are called by hand are where their inputs are: off the device."""
    comfy.model_management.unload_all_models()


@pytest.mark.usefixtures("unloaded")
def test_cross_frame_attention(base: ModelPatcher, oracle_dir: Path, expected: dict[str, Tensor]) -> None:
    adapter = load_in_host(I2V_ADAPTER, oracle_dir / "i2v_module.safetensors").model
    unet = unet_of(base.model)
    size = (8, 8)
    patches = AdapterPatches(unet, adapter, View(FRAMES, size), {})
    extra = {"block": ("input", 1)}
    states, context, value = patches.compare(*patches.remember(*[expected["attn.input"]] * 3, extra), extra)
    out = patches.add(transformer_at(unet, Site("down", 0, 0)).attn1(states, context, value), extra)
    assert relative_error(out, expected["attn.output"]) < 1e-4


@pytest.mark.usefixtures("unloaded")
def test_motion_module(base: ModelPatcher, oracle_dir: Path, expected: dict[str, Tensor], monkeypatch) -> None:
    unet = unet_of(base.model)
    layer = motion_layer(unet, Site("down", 1, 0))
    monkeypatch.setattr(layer, "forward", lambda x: x)
    with injected_motion(unet, load_in_host(MOTION_MODULE, oracle_dir / "motion.safetensors").model, FRAMES, 1.0):
        out = layer(fold_frames(expected["motion.input"]))
    assert relative_error(unfold_frames(out, FRAMES), expected["motion.output"]) < 1e-4


def test_sampling(model: ModelPatcher, image_scale: float, expected: dict[str, Tensor]) -> None:
    positive, negative = (
        with_tokens([[expected[f"B.text_{kind}"], {}]], expected[f"B.image_{kind}"]) for kind in ("cond", "uncond")
    )
    first_frame = expected["B.first_frame_latent"][:, :, 0] / LATENT_SCALE
    states: list[Tensor] = []
    final = comfy.sample.sample(
        hold_first_frame(model, first_frame),
        fold_frames(expected["B.noise"]),
        steps=5,
        cfg=7.5,
        sampler_name="ddim",
        scheduler="ddim_uniform",
        positive=positive,
        negative=negative,
        latent_image=fold_frames(expected["B.degraded"]) / LATENT_SCALE,
        callback=lambda step, denoised, x, total: states.append(x.cpu().clone()),
        disable_pbar=True,
        seed=0,
    )
    latents = unfold_frames(final * LATENT_SCALE, FRAMES)
    assert relative_error(latents, entry(expected, "B.final_latents", image_scale)) < 1e-2
    if image_scale:
        sampling = model.get_model_object("model_sampling")
        for step, (x, timestep) in enumerate(zip(states[1:], expected["B.timesteps"][1:], strict=True)):
            stepped = unfold_frames(x, FRAMES) / (1 + sampling.sigma(timestep) ** 2) ** 0.5
            others = expected[f"B.latents_after_step_{step}"][:, :, 1:]
            assert relative_error(stepped[:, :, 1:], others) < 1e-2


def test_colour_match(expected: dict[str, Tensor]) -> None:
    (matched,) = ColorMatch.execute(expected["C.frame"][None], expected["C.first"][None], official=True).args
    assert relative_error(matched[0], expected["C.matched"]) < 1e-3
