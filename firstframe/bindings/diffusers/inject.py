"""Attaching motion module, I2V adapter and image tokens to a UNet, and detaching them without a trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from torch.utils.hooks import RemovableHandle

from ...errors import FramesError, InjectionError, ModelMismatchError
from ...modules.i2v_adapter import I2VAdapter
from ...modules.image_prompt import ImageTokenAdapter
from ...modules.motion import MotionModule
from ...sites import Site, UNetConfig, check_sites
from . import hooks
from .injection import AS_TRAINED, ATTACHED, Injection, PartScales, Retention
from .unet import transformer_block, unet_config


def inject(
    unet: UNet2DConditionModel,
    motion: MotionModule | None = None,
    adapter: I2VAdapter | None = None,
    image_tokens: ImageTokenAdapter | None = None,
    retention: Retention | None = None,
    *,
    num_frames: int,
    scales: PartScales = AS_TRAINED,
) -> Injection:
    """Attach parts to ``unet`` until ``eject()``; gradients flow through all of them.

    The UNet is then called with clips as batch: ``sample`` (B*F, C, H, W), ``encoder_hidden_states``
    (B*F, N, D), or (B, N, D) for one prompt per clip, which is cheaper. With ``image_tokens`` the last
    ``image_tokens.num_tokens`` tokens of the prompt are the image's. SDXL's ``added_cond_kwargs`` have B rows or B*F.

    Args:
        unet: like Stable Diffusion 1.5's or SDXL's, with nothing attached.
        motion, adapter, image_tokens, retention: made for this UNet.
        num_frames: of each clip in the batch.
        scales: how strong each part is.

    Raises:
        InjectionError: something is attached already.
        ModelMismatchError: a part was made for another UNet.
        FramesError: more frames than the motion module has positions, or fewer than two frames with an adapter.
    """
    if ATTACHED in unet.__dict__:
        raise InjectionError("this UNet already has FirstFrame parts attached; eject() them first")
    strengths = (scales.motion, scales.adapter, scales.image_tokens, scales.retention)
    injection = Injection(unet, num_frames, motion, adapter, image_tokens, retention, *strengths)
    _check(injection, unet_config(unet))
    injection.attach(_hooks(injection))
    return injection


def _check(injection: Injection, config: UNetConfig) -> None:
    motion, adapter, image_tokens = injection.motion, injection.adapter, injection.image_tokens
    if motion is not None:
        check_sites("motion module", motion.widths, config.motion_sites(mid=True))
        motion.check_frames(injection.num_frames)
    if adapter is not None:
        check_sites("I2V adapter", adapter.widths, config.attention_sites)
        _check_heads("I2V adapter", adapter.heads, config)
        if injection.num_frames < 2:
            raise FramesError(f"an I2V adapter needs at least two frames, got {injection.num_frames}")
    if image_tokens is not None:
        check_sites("image token adapter", image_tokens.widths, config.attention_sites)
        _check_heads("image token adapter", image_tokens.heads, config)

    if injection.retention is not None and injection.retention.branch.config.unet != config:
        raise ModelMismatchError(
            f"the retention branch was made for another UNet: {injection.retention.branch.config.unet}, not {config}"
        )


def _check_heads(part: str, wanted: Mapping[Site, int], config: UNetConfig) -> None:
    for site, available in config.heads.items():
        if wanted.get(site, available) != available:
            raise ModelMismatchError(
                f"the {part} has {wanted[site]} attention heads at {site.key}, the UNet has {available}"
            )


def _hooks(injection: Injection) -> Iterator[RemovableHandle]:
    unet = injection.unet
    attention_sites = unet_config(unet).attention_sites
    yield unet.register_forward_pre_hook(_whole_clips(injection), with_kwargs=True)
    yield from hooks.hook_retention(unet, injection)
    yield from hooks.hook_pooled(unet, injection)
    for site in attention_sites:
        block: Any = transformer_block(unet, site)
        if injection.adapter is not None and site in injection.adapter:
            yield from hooks.hook_adapter(block.attn1, site, injection.adapter, injection)
        yield from hooks.hook_text(block.attn2, injection)
        if injection.image_tokens is not None:
            yield from hooks.hook_image_tokens(block.attn2, site, injection.image_tokens, injection)
    if injection.motion is not None:
        yield from _motion_hooks(injection, injection.motion, attention_sites)


def _motion_hooks(
    injection: Injection, motion: MotionModule, attention_sites: dict[Site, int]
) -> Iterator[RemovableHandle]:
    unet = injection.unet
    for site in motion:
        layer = unet.get_submodule(site.diffusers("attentions" if site in attention_sites else "resnets"))
        yield from hooks.hook_motion(layer, site, motion, injection)
    if motion.config.pooled_unet_norms:
        for norm in _resnet_norms(unet):
            yield from hooks.hook_pooled_norm(norm, injection)


def _resnet_norms(unet: UNet2DConditionModel) -> Iterator[nn.Module]:
    for module in unet.modules():
        if isinstance(module, ResnetBlock2D):
            yield from (module.norm1, module.norm2)
    yield unet.conv_norm_out


def _whole_clips(injection: Injection) -> Any:
    def check(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        batch = len(args[0] if args else kwargs["sample"])
        if batch % injection.num_frames:
            raise FramesError(f"a batch of {batch} is not a whole number of clips of {injection.num_frames}")

    return check
