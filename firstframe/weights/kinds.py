"""The kinds of modules that weights files hold: how each is read, saved and published."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic

from ..errors import WeightsError
from ..modules.backend import Backend
from ..modules.i2v_adapter import I2VAdapter
from ..modules.image_prompt import ImageTokenAdapter, Resampler, ResamplerConfig
from ..modules.motion import MotionConfig, MotionModule
from ..modules.retention import RetentionBranch, RetentionConfig
from ..sites import SD15, SDXL, Site, heads
from .config import MAX_WIDTH, check_heads, check_motion, check_retention, within_limits
from .contents import Contents, Module
from .keymaps import ANIMATEDIFF, HOTSHOT, OFFICIAL_ADAPTER, OFFICIAL_IMAGE_TOKENS, UNOFFICIAL_ADAPTER, Names
from .layouts import Kind

MOTION_HEADS = 8
V1_MAX_FRAMES = 24


@dataclass(frozen=True)
class ModuleKind(Generic[Module]):
    """A kind of module that weights files hold.

    Attributes:
        name: in layouts, and in the metadata of our own files.
        read: what a file's contents make of a backend. Raises WeightsError for contents that fit no module.
    """

    name: Kind
    read: Callable[[Contents], Callable[[Backend], Module]]


@dataclass(frozen=True)
class OwnKind(ModuleKind[Module]):
    """A kind that has a layout of our own, so that it can be saved.

    Attributes:
        config: the dataclass that loading a saved module needs.
        published: the names under which others publish such a module; None where nobody does.
    """

    config: Callable[[Module], Any]
    published: Callable[[Module], Names] | None = None


@dataclass(frozen=True)
class AdapterConfig:
    """What the shapes of an I2V adapter do not tell: how many heads there are, or how wide each is."""

    num_heads: int | None = None
    head_channels: int | None = None


@dataclass(frozen=True)
class ImageTokensConfig:
    """What the shapes of image token projections do not tell."""

    num_heads: int | None = None
    num_tokens: int = 16
    head_channels: int | None = None


def _read_adapter(contents: Contents) -> Callable[[Backend], I2VAdapter]:
    widths = contents.widths("to_q.weight")
    own_projections = any(name.endswith(".to_k.weight") for name in contents.state)
    return partial(I2VAdapter, widths, _heads(contents, AdapterConfig, widths), own_projections=own_projections)


def _heads(
    contents: Contents, schema: type[AdapterConfig | ImageTokensConfig], widths: Mapping[Site, int]
) -> dict[Site, int]:
    """Attention heads by site: as the metadata have them, else those of SDXL or Stable Diffusion 1.5."""
    config = contents.config(schema)
    num_heads, head_channels = config.num_heads, config.head_channels
    if not contents.stored:
        of_sdxl = any(site.depth for site in widths)
        num_heads, head_channels = (None, SDXL.head_channels) if of_sdxl else (SD15.num_heads, None)
    check_heads(widths.values(), num_heads, head_channels)
    return heads(widths, num_heads, head_channels)


def _common(module: I2VAdapter | ImageTokenAdapter) -> tuple[int | None, int | None]:
    """Heads at every site, or else channels of every head."""
    counts = set(module.heads.values())
    if len(counts) == 1:
        return counts.pop(), None
    (channels,) = {width // module.heads[site] for site, width in module.widths.items()}
    return None, channels


def _read_motion(contents: Contents) -> Callable[[Backend], MotionModule]:
    config = contents.config(MotionConfig) if contents.stored else within_limits(_motion_config(contents))
    return partial(MotionModule, check_motion(config))


def _motion_config(contents: Contents) -> MotionConfig:
    """Off the shapes: SDXL's three widths mean AnimateDiff for SDXL, 24 positions v1, where the UNet's norms pool."""
    widths = contents.widths("proj_in.weight")
    down = {site: width for site, width in sorted(widths.items()) if site.stage == "down"}
    positions = [contents.shape(name, 3)[1] for name in contents.state if name.endswith(".pe")]
    max_frames = max(positions, default=None)
    if not down:
        raise WeightsError("no down blocks; a motion module has them. The file is cut off or of another model")
    hotshot = contents.keymap is HOTSHOT
    block_out_channels = tuple({site.block: width for site, width in down.items()}.values())
    of_sdxl = block_out_channels == SDXL.block_out_channels and not hotshot
    return MotionConfig(
        block_out_channels=block_out_channels,
        layers_per_block=max(site.layer for site in down) + 1,
        mid=any(site.stage == "mid" for site in widths),
        max_frames=max_frames,
        num_heads=MOTION_HEADS,
        pooled_unet_norms=hotshot or (max_frames == V1_MAX_FRAMES and not of_sdxl),
        norm_over_frames=of_sdxl,
        betas="animatediff_sdxl" if of_sdxl else "sdxl" if hotshot else None,
    )


def _published_motion(motion: MotionModule) -> Names:
    return HOTSHOT if motion.config.betas == "sdxl" else ANIMATEDIFF


def _read_image_tokens(contents: Contents) -> Callable[[Backend], ImageTokenAdapter]:
    config, widths = contents.config(ImageTokensConfig), contents.widths("to_k_ip.weight")
    token_dim = contents.shape(f"sites.{next(iter(widths)).key}.to_k_ip.weight", 2)[1]
    heads_of_sites = _heads(contents, ImageTokensConfig, widths)
    return partial(ImageTokenAdapter, widths, token_dim, heads_of_sites, config.num_tokens)


def _image_tokens_config(tokens: ImageTokenAdapter) -> ImageTokensConfig:
    num_heads, head_channels = _common(tokens)
    return ImageTokensConfig(num_heads, tokens.num_tokens, head_channels)


def _read_resampler(contents: Contents) -> Callable[[Backend], Resampler]:
    _, num_tokens, width = contents.shape("latents", 3)
    if width > MAX_WIDTH or not width or width % ResamplerConfig.head_dim:
        raise WeightsError(
            f"{contents.shown('latents')} is {width} wide; expected a multiple of {ResamplerConfig.head_dim}, "
            f"up to {MAX_WIDTH}"
        )
    config = ResamplerConfig(
        feature_dim=contents.shape("proj_in.weight", 2)[1],
        width=width,
        token_dim=contents.shape("proj_out.weight", 2)[0],
        num_tokens=num_tokens,
        depth=len({name.split(".")[1] for name in contents.state if name.startswith("layers.")}),
        feed_forward=contents.shape("layers.0.1.1.weight", 2)[0] // width,
    )
    return partial(Resampler, config)


def _read_retention(contents: Contents) -> Callable[[Backend], RetentionBranch]:
    if not contents.stored:
        raise WeightsError("the metadata firstframe.config is missing, which says for which UNet the branch is")
    return partial(RetentionBranch, check_retention(contents.config(RetentionConfig)))


I2V_ADAPTER = OwnKind(
    "i2v_adapter",
    _read_adapter,
    lambda adapter: AdapterConfig(*_common(adapter)),
    lambda adapter: UNOFFICIAL_ADAPTER if adapter.own_projections else OFFICIAL_ADAPTER,
)
"""An I2V adapter in our own layout, the official or the unofficial one. The sites are those in the file."""

MOTION_MODULE = OwnKind("motion_module", _read_motion, lambda motion: motion.config, _published_motion)
"""A motion module in our own layout, AnimateDiff's (v1, v2, v3, AnimateLCM, SDXL) or Hotshot-XL's."""

IMAGE_TOKENS = OwnKind(
    "image_tokens",
    _read_image_tokens,
    _image_tokens_config,
    lambda _: OFFICIAL_IMAGE_TOKENS,
)
"""Image token projections in our own layout, the official one or IP-Adapter's."""

RETENTION = OwnKind("retention", _read_retention, lambda branch: branch.config)
"""A frame retention branch in our own layout. Its file may carry the motion module that was trained with it."""

RESAMPLER = ModuleKind("resampler", _read_resampler)
"""The resampler in a file of IP-Adapter Plus."""

OWN_KINDS: Mapping[str, OwnKind[Any]] = {
    kind.name: kind for kind in (I2V_ADAPTER, MOTION_MODULE, IMAGE_TOKENS, RETENTION)
}
