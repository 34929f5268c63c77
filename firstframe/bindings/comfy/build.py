"""A Stable Diffusion UNet of any size as the host's MODEL, from weights with diffusers' names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.model_management
import comfy.utils
from comfy.model_base import ModelType
from comfy.model_patcher import ModelPatcher
from comfy.supported_models import SD15
from torch import Tensor

from ...errors import WeightsError
from ...sites import UNetConfig
from .schedule import ANIMATEDIFF
from .weights import managed


def host_config(config: UNetConfig, prediction: ModelType = ModelType.EPS) -> SD15:
    """The host's description of Stable Diffusion 1.5 in another size, with AnimateDiff's betas."""
    base, layers = config.block_out_channels[0], config.layers_per_block
    depths = [int(attention) for attention in config.attention]

    class SmallSD15(SD15):
        unet_extra_config = {"num_heads": config.num_heads, "num_head_channels": -1}  # noqa: RUF012
        sampling_settings = ANIMATEDIFF

        def model_type(self, state_dict: Mapping[str, Tensor], prefix: str = "") -> ModelType:
            return prediction

    return SmallSD15(
        {
            **SD15.unet_config,
            "image_size": 32,
            "in_channels": config.in_channels,
            "out_channels": 4,
            "model_channels": base,
            "channel_mult": [width // base for width in config.block_out_channels],
            "num_res_blocks": [layers] * len(depths),
            "transformer_depth": [depth for depth in depths for _ in range(layers)],
            "transformer_depth_middle": 1,
            "transformer_depth_output": [depth for depth in depths for _ in range(layers + 1)],
            "context_dim": config.cross_attention_dim,
            "use_spatial_transformer": True,
            "legacy": False,
        }
    )


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
