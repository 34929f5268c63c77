"""SDXL small enough to sample with everywhere: depths cut to 0, 1 and 2, heads as wide as they are, random weights."""

from __future__ import annotations

from typing import Any

import comfy.cldm.cldm
import comfy.controlnet
import comfy.model_management
import comfy.ops
import comfy.supported_models
import comfy.utils
import torch
from comfy.model_base import ModelType
from comfy.model_patcher import ModelPatcher
from comfyui_firstframe_pack.firstframe.bindings.comfy.weights import HOST, in_host, managed
from comfyui_firstframe_pack.firstframe.modules.image_prompt import ImageTokenAdapter
from comfyui_firstframe_pack.firstframe.sites import UNetConfig
from small import conditioning, randomise
from torch import Tensor, nn

SIZE_EMBEDDINGS = 6 * 256
POOLED = 8
SMALL_SDXL = UNetConfig(
    block_out_channels=(32, 64, 128),
    layers_per_block=1,
    attention=(False, True, True),
    num_heads=None,
    cross_attention_dim=32,
    depths=(1, 1, 2),
    head_channels=64,
    pooled_channels=POOLED + SIZE_EMBEDDINGS,
)
IMAGE_TOKENS = 5


def host_config(config: UNetConfig = SMALL_SDXL) -> comfy.supported_models.SDXL:
    """The host's description of SDXL in another size."""
    base, layers = config.block_out_channels[0], config.layers_per_block
    depths = [depth * attention for depth, attention in zip(config.depths, config.attention, strict=True)]
    return comfy.supported_models.SDXL(
        {
            **comfy.supported_models.SDXL.unet_config,
            "image_size": 32,
            "in_channels": 4,
            "out_channels": 4,
            "model_channels": base,
            "channel_mult": [width // base for width in config.block_out_channels],
            "num_res_blocks": [layers] * len(depths),
            "transformer_depth": [depth for depth in depths for _ in range(layers)],
            "transformer_depth_middle": config.depths[-1],
            "transformer_depth_output": [depth for depth in depths for _ in range(layers + 1)],
            "context_dim": config.cross_attention_dim,
            "adm_in_channels": config.pooled_channels,
            "num_classes": "sequential",
            "num_heads": -1,
            "num_head_channels": config.head_channels,
            "use_spatial_transformer": True,
            "legacy": False,
        }
    )


def host_model(config: UNetConfig = SMALL_SDXL, device: str = "cpu") -> Any:
    """The host's model of it; its weights are not initialised."""
    description = host_config(config)
    description.set_inference_dtype(torch.float32, None)
    description.model_type = lambda *_: ModelType.EPS
    return description.get_model({}, device=torch.device(device))


def small_sdxl(config: UNetConfig = SMALL_SDXL, seed: int = 0) -> ModelPatcher:
    """A MODEL."""
    model = host_model(config)
    randomise(model.diffusion_model, seed)
    return managed(model, comfy.model_management.get_torch_device())


def diffusers_weights(model: ModelPatcher, config: UNetConfig = SMALL_SDXL) -> dict[str, Tensor]:
    """A MODEL's weights under diffusers' names."""
    weights = model.model.diffusion_model.state_dict()
    names = comfy.utils.unet_to_diffusers(host_config(config).unet_config)
    known = {theirs: ours for theirs, ours in names.items() if ours in weights and not theirs.startswith("class_")}
    return {theirs: weights[ours] for theirs, ours in known.items()}


def prompts() -> list[Any]:
    """A positive and a negative CONDITIONING with pooled text."""
    return [prompt(seed) for seed in (1, 2)]


def prompt(seed: int) -> list[Any]:
    ((text, extra),) = conditioning(seed)
    pooled = torch.randn(1, POOLED, generator=torch.Generator().manual_seed(100 + seed))
    return [[text, {**extra, "pooled_output": pooled}]]


def small_image_tokens(config: UNetConfig = SMALL_SDXL) -> ModelPatcher:
    """Projections of image tokens for it."""
    adapter = ImageTokenAdapter(config.attention_sites, config.cross_attention_dim, config.heads, IMAGE_TOKENS, HOST)
    return in_host(randomise(adapter, 6))


def small_sdxl_controlnet(config: UNetConfig = SMALL_SDXL) -> comfy.controlnet.ControlNet:
    """A stock ControlNet for it, with random weights, its output projections among them."""
    settings = {**host_config(config).unet_config, "hint_channels": 3, "dtype": torch.float32}
    for name in ("out_channels", "transformer_depth_output"):
        settings.pop(name)
    network: nn.Module = comfy.cldm.cldm.ControlNet(**settings, operations=comfy.ops.disable_weight_init, device="cpu")
    device = comfy.model_management.get_torch_device()
    return comfy.controlnet.ControlNet(randomise(network.eval(), 11), load_device=device)
