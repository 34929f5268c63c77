"""Where a :class:`~firstframe.sites.Site` lies in the host's UNet."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from comfy.ldm.modules.attention import BasicTransformerBlock, SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, TimestepEmbedSequential, UNetModel
from comfy.model_patcher import ModelPatcher
from torch import nn

from ...errors import ModelMismatchError
from ...sites import Site


def unet_of(model: ModelPatcher) -> UNetModel:
    """The UNet of a MODEL; ModelMismatchError for a model without one (Flux, Wan, ...)."""
    unet = model.get_model_object("diffusion_model")
    if not isinstance(unet, UNetModel):
        raise ModelMismatchError(
            f"the model is {model_name(model)}, which has no Stable Diffusion UNet; "
            "load a Stable Diffusion 1.5 checkpoint"
        )
    return unet


def model_name(model: ModelPatcher) -> str:
    """The host's name for the kind of a MODEL, for example ``SDXL``."""
    return type(model.model.model_config).__name__


def block_at(unet: UNetModel, site: Site) -> TimestepEmbedSequential:
    """The host's block that holds ``site``; IndexError where the UNet has fewer blocks."""
    stage, index = site.ldm(unet.num_res_blocks[0])
    if stage == "middle":
        return unet.middle_block
    return (unet.input_blocks if stage == "input" else unet.output_blocks)[index]


def motion_layer(unet: UNetModel, site: Site) -> nn.Module:
    """The layer that a motion module follows: the last one before a resampling; in the middle, the attention."""
    layers = [layer for layer in block_at(unet, site) if isinstance(layer, ResBlock | SpatialTransformer)]
    return layers[1] if site.stage == "mid" else layers[-1]


def transformer_at(unet: UNetModel, site: Site) -> BasicTransformerBlock:
    """The transformer block of ``site``; IndexError where the UNet has no attention there."""
    return _spatial_transformer(unet, site).transformer_blocks[0]


def motion_width(unet: UNetModel, site: Site) -> int:
    """Channels after ``site``; LookupError where the UNet has no such place."""
    resblock = block_at(unet, site)[0]
    if not isinstance(resblock, ResBlock):
        raise IndexError(site.key)
    return resblock.out_channels


def attention_width(unet: UNetModel, site: Site) -> int:
    """Channels of the spatial transformer of ``site``; LookupError where the UNet has none there."""
    return _spatial_transformer(unet, site).in_channels


def check_fits(
    model: ModelPatcher, widths: Mapping[Site, int], width_of: Callable[[UNetModel, Site], int], what: str
) -> None:
    """ModelMismatchError unless the model's UNet has every site with its width."""
    unet = unet_of(model)
    for site, width in widths.items():
        try:
            found = f"{width_of(unet, site)} channels"
        except LookupError:
            found = "no such place"
        if found != f"{width} channels":
            raise ModelMismatchError(
                f"{what} was made for another model: it needs {width} channels at {site.key}, but the loaded model "
                f"({model_name(model)}) has {found}; use both for the same family (Stable Diffusion 1.5, or the "
                "tiny model)"
            )


def _spatial_transformer(unet: UNetModel, site: Site) -> SpatialTransformer:
    return [layer for layer in block_at(unet, site) if isinstance(layer, SpatialTransformer)][0]  # noqa: RUF015
