"""Where a `Site` lies in the host's UNet."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from comfy.ldm.modules.attention import BasicTransformerBlock, SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, TimestepEmbedSequential, UNetModel
from comfy.model_base import BaseModel
from comfy.supported_models import SD20, SDXLRefiner
from torch import nn

from ...errors import ModelMismatchError
from ...sites import Site, UNetConfig


def unet_of(model: BaseModel) -> UNetModel:
    """The UNet of a model; ModelMismatchError for one that is not like Stable Diffusion 1.5 or SDXL."""
    unet = model.diffusion_model
    if not isinstance(unet, UNetModel):
        raise ModelMismatchError(
            f"the model is {model_name(model)}, which has no Stable Diffusion UNet; "
            "load a Stable Diffusion 1.5 or SDXL checkpoint"
        )
    if isinstance(model.model_config, SDXLRefiner):
        raise ModelMismatchError(
            f"the model is {model_name(model)}, SDXL's refiner: motion modules and adapters are made for SDXL's base "
            "model; load an SDXL base checkpoint, and refine the finished frames afterwards"
        )
    if isinstance(model.model_config, SD20):
        raise ModelMismatchError(
            f"the model is {model_name(model)}, Stable Diffusion 2: it is as wide as Stable Diffusion 1.5, but reads "
            "another text encoder and has other attention heads; load a Stable Diffusion 1.5 or SDXL checkpoint"
        )
    return unet


def model_name(model: BaseModel) -> str:
    """The host's name for the kind of a model, for example ``SDXL``."""
    return type(model.model_config).__name__


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
    return _spatial_transformer(unet, site).transformer_blocks[site.depth]


def motion_width(unet: UNetModel, site: Site) -> int:
    """Channels after ``site``; LookupError where the UNet has no such place."""
    resblock = block_at(unet, site)[0]
    if not isinstance(resblock, ResBlock):
        raise IndexError(site.key)
    return resblock.out_channels


def attention_width(unet: UNetModel, site: Site) -> int:
    """Channels of the transformer block of ``site``; LookupError where the UNet has none there."""
    channels: int = transformer_at(unet, site).attn1.to_q.in_features
    return channels


def check_fits(
    model: BaseModel, widths: Mapping[Site, int], width_of: Callable[[UNetModel, Site], int], what: str
) -> None:
    """ModelMismatchError unless the model's UNet has every site with its width."""
    unet = unet_of(model)
    for site, width in widths.items():
        try:
            found = f"{width_of(unet, site)} channels"
        except LookupError:
            found = "no such site"
        if found != f"{width} channels":
            raise _mismatch(model, what, f"{width} channels at {site.key}", found)


def check_heads(model: BaseModel, num_heads: Mapping[Site, int], what: str) -> None:
    """ModelMismatchError unless the self-attention at every site has as many heads."""
    unet = unet_of(model)
    for site, heads in num_heads.items():
        found = transformer_at(unet, site).attn1.heads
        if found != heads:
            raise _mismatch(model, what, f"{heads} attention heads at {site.key}", f"{found}")


def check_text(model: BaseModel, config: UNetConfig, what: str) -> None:
    """ModelMismatchError unless the model reads text, and pooled text, of the same widths."""
    unet = unet_of(model)
    blocks = (module for module in unet.modules() if isinstance(module, BasicTransformerBlock))
    found = next(blocks).attn2.to_k.in_features
    if found != config.cross_attention_dim:
        raise _mismatch(model, what, f"text embeddings of {config.cross_attention_dim} channels", f"{found}")
    pooled = unet.label_emb[0][0].in_features if unet.num_classes is not None else None
    if pooled != config.pooled_channels:
        needed, there_is = (f"pooled text of {width or 'no'} channels" for width in (config.pooled_channels, pooled))
        raise _mismatch(model, what, needed, there_is)


def _mismatch(model: BaseModel, what: str, needed: str, found: str) -> ModelMismatchError:
    return ModelMismatchError(
        f"{what} was made for another model: it needs {needed}, but the loaded model ({model_name(model)}) has "
        f"{found}; use both for the same family (Stable Diffusion 1.5, SDXL, or the tiny model)"
    )


def _spatial_transformer(unet: UNetModel, site: Site) -> SpatialTransformer:
    return [layer for layer in block_at(unet, site) if isinstance(layer, SpatialTransformer)][0]  # noqa: RUF015
