"""Against the official I2V-Adapter implementation: a small random network, run once, its results kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from firstframe.bindings.diffusers import PartScales, Prompts, animatediff_scheduler, inject
from firstframe.bindings.diffusers.denoiser import GuidedDenoiser, HeldFrames
from firstframe.bindings.diffusers.sampling import denoise
from firstframe.clips.color import match_color
from firstframe.sampling.guidance import DualGuidance
from firstframe.sampling.prior import degrade
from firstframe.sampling.schedule import Schedule
from firstframe.shapes import fold_frames, unfold_frames
from firstframe.sites import Site
from firstframe.weights import I2V_ADAPTER, IMAGE_TOKENS, MOTION_MODULE, load, load_state_dict

FRAMES = 6


def relative_error(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


@pytest.fixture(scope="module")
def unet(oracle_dir: Path) -> UNet2DConditionModel:
    """The base network with the official weights of all parts attached."""
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 32, 64, 64),
        layers_per_block=2,
        cross_attention_dim=32,
        attention_head_dim=8,  # diffusers reads this as the number of heads
    ).eval()
    base = load_state_dict(oracle_dir / "base.safetensors")
    unet.load_state_dict({name: tensor.float() for name, tensor in base.items()})
    return unet


@pytest.fixture(scope="module", params=["as they are", "as published"])
def files(oracle_dir: Path, tmp_path_factory: pytest.TempPathFactory, request) -> dict[str, Path]:
    """The parts' files; as published, they are pickles, wrapped, and the image tokens are in one with the base."""
    parts = {name: oracle_dir / f"{name}.safetensors" for name in ("motion", "i2v_module", "ip")}
    if request.param == "as they are":
        return parts
    folder = tmp_path_factory.mktemp("published")
    states = {name: load_state_dict(file) for name, file in parts.items()}
    base = load_state_dict(oracle_dir / "base.safetensors")
    in_one = {**base, **states["motion"], **states["ip"]}
    contents = {
        "mm_sd_v15.ckpt": {"state_dict": {f"module.{name}": tensor for name, tensor in states["motion"].items()}},
        "i2v_module.pth": {"state_dict": states["i2v_module"]},
        "animatediff_v15_v1_ipplus.pth": in_one,
    }
    for name, content in contents.items():
        torch.save(content, folder / name)
    return dict(zip(parts, (folder / name for name in contents), strict=True))


@pytest.fixture(params=[1.0, 0.0], ids=["image tokens", "no image tokens"])
def injection(unet: UNet2DConditionModel, files: dict[str, Path], request):
    """All parts attached, with the image tokens on and off."""
    parts = {
        "motion": load(MOTION_MODULE, files["motion"]),
        "adapter": load(I2V_ADAPTER, files["i2v_module"]),
        "image_tokens": load(IMAGE_TOKENS, files["ip"]),
    }
    with inject(unet, **parts, num_frames=FRAMES, scales=PartScales(image_tokens=request.param)) as injection:
        yield injection


def entry(expected: dict[str, Tensor], name: str, injection) -> Tensor:
    return expected[name if injection.image_token_scale else f"{name}_without_image_tokens"]


def test_one_forward(injection, expected: dict[str, Tensor]) -> None:
    with torch.no_grad():
        eps = injection.unet(
            fold_frames(expected["A.sample"]), expected["A.timestep"], expected["A.encoder_hidden_states"]
        ).sample
    assert relative_error(unfold_frames(eps, FRAMES), entry(expected, "A.output", injection)) < 1e-3


def test_cross_frame_attention(unet: UNet2DConditionModel, oracle_dir: Path, expected) -> None:
    adapter = load(I2V_ADAPTER, oracle_dir / "i2v_module.safetensors")
    attention = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    with torch.no_grad(), inject(unet, adapter=adapter, num_frames=FRAMES):
        output = attention(expected["attn.input"])
    assert relative_error(output, expected["attn.output"]) < 1e-4


def test_motion_module(oracle_dir: Path, expected: dict[str, Tensor]) -> None:
    motion = load(MOTION_MODULE, oracle_dir / "motion.safetensors")
    with torch.no_grad():
        output = motion(Site("down", 1, 0), expected["motion.input"])
    assert relative_error(output, expected["motion.output"]) < 1e-4


def test_sampling(injection, expected: dict[str, Tensor]) -> None:
    schedule = Schedule.ddim(animatediff_scheduler().alphas_cumprod, steps=5)
    assert list(schedule.timesteps) == expected["B.timesteps"].tolist()

    first_frame = expected["B.first_frame_latent"]
    frames = degrade(first_frame.repeat(1, 1, FRAMES, 1, 1), expected["B.mask_uniform"] >= 0.5)
    assert relative_error(frames, expected["B.degraded"]) < 1e-5
    latents = schedule.noised(frames, expected["B.noise"], 0)
    held = HeldFrames.of([0], first_frame.expand_as(latents), expected["B.noise"])

    steps = []
    prompts = Prompts(
        *(torch.cat([expected[f"B.text_{kind}"], expected[f"B.image_{kind}"]], dim=1) for kind in ("cond", "uncond"))
    )
    denoiser = GuidedDenoiser(injection, schedule, prompts, held)
    final = denoise(denoiser, latents, DualGuidance(1.0, 7.5), lambda done, total, latents: steps.append(latents))
    assert relative_error(final, entry(expected, "B.final_latents", injection)) < 1e-2
    if injection.image_token_scale:
        for step, latents in enumerate(steps):
            assert relative_error(latents, expected[f"B.latents_after_step_{step}"]) < 1e-2


def test_color_match(expected: dict[str, Tensor]) -> None:
    matched = match_color(expected["C.frame"][None], expected["C.first"], official=True)[0]
    assert relative_error(matched, expected["C.matched"]) < 1e-3
