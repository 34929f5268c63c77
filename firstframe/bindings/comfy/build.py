"""A Stable Diffusion UNet of any size as the host's MODEL, from weights with diffusers' names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.model_management
import comfy.utils
from comfy.model_base import ModelType
from comfy.model_patcher import ModelPatcher
from comfy.supported_models import SD15, SDXL
from torch import Tensor

from ...errors import WeightsError
from ...sites import UNetConfig
from .schedule import ANIMATEDIFF
from .weights import managed


def host_config(config: UNetConfig, prediction: ModelType = ModelType.EPS) -> SD15 | SDXL:
    """The host's description of Stable Diffusion 1.5, with AnimateDiff's betas, or of SDXL in another size."""
    kind: type[SD15 | SDXL] = SD15 if config.pooled_channels is None else SDXL
    settings = {"sampling_settings": ANIMATEDIFF} if kind is SD15 else {}
    heads = {"num_heads": config.num_heads or -1, "num_head_channels": config.head_channels or -1}
    described: type[SD15 | SDXL] = type(
        f"Small{kind.__name__}",
        (kind,),
        {"unet_extra_config": heads, "model_type": lambda *_: prediction, **settings},
    )
    return described({**kind.unet_config, **_unet_settings(config)})


def _unet_settings(config: UNetConfig) -> dict[str, Any]:
    base, layers = config.block_out_channels[0], config.layers_per_block
    depths = [depth * attention for depth, attention in zip(config.depths_of_levels, config.attention, strict=True)]
    settings = {
        "image_size": 32,
        "in_channels": config.in_channels,
        "out_channels": 4,
        "model_channels": base,
        "channel_mult": [width // base for width in config.block_out_channels],
        "num_res_blocks": [layers] * len(depths),
        "transformer_depth": [depth for depth in depths for _ in range(layers)],
        "transformer_depth_middle": config.depths_of_levels[-1],
        "transformer_depth_output": [depth for depth in depths for _ in range(layers + 1)],
        "context_dim": config.cross_attention_dim,
        "use_spatial_transformer": True,
        "legacy": False,
    }
    if config.pooled_channels is None:
        return settings
    return {**settings, "adm_in_channels": config.pooled_channels, "num_classes": "sequential"}


def build_unet(
    config: UNetConfig,
    weights: Mapping[str, Tensor],
    prediction: ModelType = ModelType.EPS,
    disable_dynamic: bool = False,
) -> ModelPatcher:
    """A MODEL that predicts noise, or v.

    ``disable_dynamic`` is as in `.weights.as_patcher`. Raises WeightsError for a weight that the architecture
    does not have, or lacks.
    """
    management = comfy.model_management
    description = host_config(config, prediction)
    dtype = management.unet_dtype(model_params=comfy.utils.calculate_parameters(weights))
    device = management.get_torch_device()
    description.set_inference_dtype(dtype, management.unet_manual_cast(dtype, device))
    model = description.get_model({}, device=management.unet_offload_device())
    model.load_model_weights(_host_names(description.unet_config, weights))
    return managed(model, device, disable_dynamic)


def _host_names(unet_config: dict[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = comfy.utils.unet_to_diffusers(unet_config)
    strangers = sorted(weights.keys() - names.keys())
    if strangers:
        raise WeightsError(f"the UNet has no place for {len(strangers)} weights, for example {strangers[0]!r}")
    return {names[name]: tensor for name, tensor in weights.items()}
