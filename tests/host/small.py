"""Models small enough to sample with everywhere, with random weights, and the host's own ways to run them."""

from __future__ import annotations

from typing import Any

import comfy.cldm.cldm
import comfy.controlnet
import comfy.model_management
import comfy.ops
import comfy.sample
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from comfyui_firstframe_pack.firstframe.bindings.comfy.build import build_unet, host_config
from comfyui_firstframe_pack.firstframe.bindings.comfy.weights import HOST, as_patcher
from comfyui_firstframe_pack.firstframe.clips.reference import Reference
from comfyui_firstframe_pack.firstframe.modules.i2v_adapter import I2VAdapter
from comfyui_firstframe_pack.firstframe.modules.layers import zero_initialise
from comfyui_firstframe_pack.firstframe.modules.motion import MotionConfig, MotionModule
from comfyui_firstframe_pack.firstframe.modules.retention import RetentionBranch, RetentionConfig
from comfyui_firstframe_pack.firstframe.sites import UNetConfig
from torch import Tensor, nn

SMALL = UNetConfig((32, 64), layers_per_block=1, attention=(True, True), num_heads=4, cross_attention_dim=32)
SMALLEST = UNetConfig((32,), layers_per_block=1, attention=(True,), num_heads=4, cross_attention_dim=32)
FRAMES = 3
SIDE = 8
MAX_FRAMES = 5


def randomise(module: nn.Module, seed: int) -> nn.Module:
    """Fill every parameter (the host's layers come uninitialised): norms as they are, the rest small."""
    generator = torch.Generator("cpu").manual_seed(seed)
    for parameter in module.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
        values = torch.randn(parameter.shape, generator=generator) / fan_in**0.5
        parameter.data.copy_(values if parameter.ndim > 1 else 1 + 0.1 * values)
    return module


def random_unet(config: UNetConfig = SMALL, seed: int = 0) -> dict[str, Tensor]:
    """Weights of a UNet under diffusers' names."""
    description = host_config(config)
    description.set_inference_dtype(torch.float32, None)
    unet = description.get_model({}, device=torch.device("cpu")).diffusion_model
    weights = randomise(unet, seed).state_dict()
    names = comfy.utils.unet_to_diffusers(description.unet_config)
    return {theirs: weights[ours] for theirs, ours in names.items() if ours in weights}


def small_model(config: UNetConfig = SMALL, seed: int = 0, strength: float = 1.0) -> ModelPatcher:
    """A MODEL whose output is multiplied by ``strength``: near 0 it is smooth enough for adaptive samplers."""
    weights = random_unet(config, seed)
    return build_unet(config, {**weights, "conv_out.weight": strength * weights["conv_out.weight"]})


def small_motion(config: UNetConfig = SMALL, **settings: Any) -> ModelPatcher:
    """A MOTION_MODULE for it, with random weights."""
    settings = {"mid": True, "max_frames": MAX_FRAMES, "num_heads": config.num_heads or 4, **settings}
    motion = MotionConfig(config.block_out_channels, config.layers_per_block, **settings)
    return as_patcher(randomise(MotionModule(motion, HOST), 1))


def small_adapter(config: UNetConfig = SMALL, trained: bool = True) -> ModelPatcher:
    """An I2V_ADAPTER for it, random where trained, else as training starts."""
    adapter = randomise(I2VAdapter(config.attention_sites, config.heads, HOST), 2)
    if not trained:
        adapter.copy_queries(lambda site: adapter[site].to_q.weight)
    return as_patcher(adapter)


def conditioning(seed: int) -> list[Any]:
    """A CONDITIONING of random numbers."""
    return [[torch.randn(1, 77, SMALL.cross_attention_dim, generator=torch.Generator().manual_seed(seed)), {}]]


def reference_latent() -> Tensor:
    """The latent of an image, (1, 4, H, W), before the host scales it."""
    return 5 * torch.randn(1, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(9))


def start_latent(frames: int = FRAMES) -> Tensor:
    """Some latents to start from, (F, 4, H, W)."""
    return 5 * torch.randn(frames, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(8))


def ksample(
    model: ModelPatcher,
    latent: Tensor | None = None,
    add_noise: bool = True,
    prompts: list[Any] | None = None,
    **settings: Any,
) -> Tensor:
    """What the nodes KSampler and KSamplerAdvanced do. ``prompts`` are the positive and the negative one."""
    positive, negative = prompts or (conditioning(1), conditioning(2))
    latent = start_latent() if latent is None else latent
    settings = {"steps": 3, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "seed": 5, **settings}
    noise = comfy.sample.prepare_noise(latent, settings["seed"]) if add_noise else torch.zeros_like(latent)
    return comfy.sample.sample(
        model,
        noise,
        positive=positive,
        negative=negative,
        latent_image=latent,
        disable_pbar=True,
        **settings,
    )


def relative_error(found: Tensor, expected: Tensor) -> float:
    """In the norm over all elements."""
    return ((found - expected).norm() / expected.norm()).item()


def evaluate(
    model: ModelPatcher, x: Tensor, sigma: Tensor, context: Tensor, chunks: int, **arguments: Tensor
) -> Tensor:
    """One evaluation of a MODEL as its sampler makes it: ``x`` (chunks*F, C, H, W) to what it takes for clean."""
    comfy.model_management.load_models_gpu([model, *model.get_nested_additional_models()])
    model.pre_run()
    x, sigma, context = (tensor.to(model.load_device) for tensor in (x, sigma, context))
    options = {"wrappers": model.wrappers, "cond_or_uncond": list(range(chunks))}
    try:
        return model.model.apply_model(x, sigma, c_crossattn=context, transformer_options=options, **arguments).cpu()
    finally:
        model.cleanup()


def small_retention(config: UNetConfig = SMALL, trained: bool = True) -> ModelPatcher:
    """A RETENTION for it, random where trained, else with projections of zero."""
    num_heads = config.num_heads or 4
    motion = MotionConfig(config.block_out_channels, config.layers_per_block, False, MAX_FRAMES, num_heads)
    branch = RetentionBranch(RetentionConfig(config, motion, (4, 4, 8, 8)), HOST)
    randomise(branch, 3)
    if not trained:
        for projection in branch.projections:
            zero_initialise(projection)
    return as_patcher(branch)


def reference() -> Reference:
    """An image with its latent."""
    image = torch.rand(1, 3, 8 * SIDE, 8 * SIDE, generator=torch.Generator().manual_seed(10))
    return Reference(image, reference_latent())


def small_controlnet(config: UNetConfig = SMALL) -> comfy.controlnet.ControlNet:
    """A stock ControlNet for it, with random weights, its output projections among them."""
    settings = {**host_config(config).unet_config, "hint_channels": 3, "dtype": torch.float32}
    for name in ("out_channels", "transformer_depth_output"):
        settings.pop(name, None)
    network = comfy.cldm.cldm.ControlNet(**settings, operations=comfy.ops.disable_weight_init, device="cpu")
    return comfy.controlnet.ControlNet(
        randomise(network.eval(), 11), load_device=comfy.model_management.get_torch_device()
    )


def controlled(conditioning: list[Any], hints: Tensor, control: comfy.controlnet.ControlNet, **settings: Any) -> list:
    """What the node ControlNetApplyAdvanced makes of one CONDITIONING: images (F, H, W, 3) as hints."""
    settings = {"strength": 1.0, "timestep_percent_range": (0.0, 1.0), **settings}
    ((embedding, extra),) = conditioning
    applied = control.copy().set_cond_hint(hints.movedim(-1, 1), **settings)
    applied.set_previous_controlnet(extra.get("control"))
    return [[embedding, {**extra, "control": applied, "control_apply_to_uncond": False}]]
