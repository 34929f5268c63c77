"""Files with the names, shapes, types and container of published weights, filled with random numbers.

    python tests/synthetic.py animatediff-v1 i2v-adapter --to FOLDER

For trying loaders and whole workflows at full size where the published files are not at hand: they make no image of
anything. Names and shapes come from the models themselves, built on the meta device, so that asking for them writes and
takes nothing.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from firstframe.modules.i2v_adapter import I2VAdapter
from firstframe.modules.image_prompt import ImageTokenAdapter, Resampler, ResamplerConfig
from firstframe.modules.motion import MotionConfig, MotionModule, sinusoidal_positions
from firstframe.sites import SD15, SDXL, UNetConfig
from firstframe.weights.hub.manifest import weight_set
from firstframe.weights.keymaps import (
    ANIMATEDIFF,
    HOTSHOT,
    IP_ADAPTER,
    IP_ADAPTER_RESAMPLER,
    IP_ADAPTER_SDXL,
    MOTION_LORA,
    OFFICIAL_ADAPTER,
    OFFICIAL_IMAGE_TOKENS,
    to_theirs,
)
from firstframe.weights.unet_names import unet_tensors

Tensors = dict[str, Tensor]
Table = Iterable[tuple[str, str | Callable[[re.Match[str]], str]]]

HEADS, LORA_RANK = 8, 64
PERIOD = 1_000_003
UNET: dict[str, Any] = {
    "block_out_channels": SD15.block_out_channels,
    "layers_per_block": SD15.layers_per_block,
    "cross_attention_dim": SD15.cross_attention_dim,
    "attention_head_dim": HEADS,
}
SDXL_UNET: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": SDXL.block_out_channels,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": SDXL.cross_attention_dim,
    "transformer_layers_per_block": SDXL.depths,
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": SDXL.pooled_channels,
}
AUTOENCODER: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
CLIP_L_TEXT = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
VIT_H = CLIPVisionConfig(
    hidden_size=1280,
    intermediate_size=5120,
    num_hidden_layers=32,
    num_attention_heads=16,
    patch_size=14,
    projection_dim=1024,
    hidden_act="gelu",
)
NOISE_SCHEDULE = [
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "betas",
    "log_one_minus_alphas_cumprod",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "posterior_variance",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
]


def unet(config: dict[str, Any] = UNET) -> Tensors:
    """A UNet, Stable Diffusion 1.5's if no other is asked for, in diffusers' names."""
    return UNet2DConditionModel(**config).state_dict()


def checkpoint() -> Tensors:
    """Stable Diffusion 1.5 in one file, in LDM's names, with what training left in it."""
    text = CLIPTextModel(CLIP_L_TEXT).state_dict()
    text = {name.removeprefix("text_model."): tensor for name, tensor in text.items()}
    text["embeddings.position_ids"] = torch.empty(1, CLIP_L_TEXT.max_position_embeddings, dtype=torch.int64)
    average = {"decay": torch.empty(()), "num_updates": torch.empty((), dtype=torch.int32)}
    parts = {
        "": {**unet_tensors(unet(), "host"), **{name: torch.empty(1000) for name in NOISE_SCHEDULE}},
        "first_stage_model.": with_convolutions(renamed(AutoencoderKL(**AUTOENCODER).state_dict(), AUTOENCODER_TO_LDM)),
        "cond_stage_model.transformer.text_model.": text,
        "model_ema.": average,
    }
    return {prefix + name: tensor for prefix, part in parts.items() for name, tensor in part.items()}


def motion(mid: bool, max_frames: int | None) -> Tensors:
    """A motion module in AnimateDiff's names."""
    config = MotionConfig(SD15.block_out_channels, SD15.layers_per_block, mid, max_frames, HEADS)
    return to_theirs(MotionModule(config).state_dict(), ANIMATEDIFF)


def sdxl_motion() -> Tensors:
    """AnimateDiff's motion module for SDXL."""
    config = MotionConfig(SDXL.block_out_channels, SDXL.layers_per_block, False, 32, HEADS)
    return to_theirs(MotionModule(config).state_dict(), ANIMATEDIFF)


def hotshot() -> Tensors:
    """Hotshot-XL's motion module."""
    config = MotionConfig(SDXL.block_out_channels, SDXL.layers_per_block, False, 24, HEADS)
    return to_theirs(MotionModule(config).state_dict(), HOTSHOT)


def sdxl_checkpoint() -> Tensors:
    """SDXL base in one file, fp16, in the names of its authors' code."""
    text = CLIPTextModel(CLIP_L_TEXT).state_dict()
    text = {name.removeprefix("text_model."): tensor for name, tensor in text.items()}
    text["embeddings.position_ids"] = torch.empty(1, CLIP_L_TEXT.max_position_embeddings, dtype=torch.int64)
    parts = {
        "": unet_tensors(unet(SDXL_UNET), "host"),
        "first_stage_model.": with_convolutions(renamed(AutoencoderKL(**AUTOENCODER).state_dict(), AUTOENCODER_TO_LDM)),
        "conditioner.embedders.0.transformer.text_model.": text,
        "conditioner.embedders.1.model.": open_clip_text(),
    }
    return half({prefix + name: tensor for prefix, part in parts.items() for name, tensor in part.items()})


def open_clip_text() -> Tensors:
    """The text encoder OpenCLIP ViT-bigG in OpenCLIP's names."""
    width, layers = 1280, 32
    names = {
        "positional_embedding": (77, width),
        "text_projection": (width, width),
        "logit_scale": (),
        "token_embedding.weight": (49408, width),
        "ln_final.weight": (width,),
        "ln_final.bias": (width,),
    }
    for layer in range(layers):
        block = f"transformer.resblocks.{layer}."
        names |= {f"{block}attn.in_proj_weight": (3 * width, width), f"{block}attn.in_proj_bias": (3 * width,)}
        names |= _linear(f"{block}attn.out_proj", width, width)
        names |= _linear(f"{block}mlp.c_fc", width, 4 * width) | _linear(f"{block}mlp.c_proj", 4 * width, width)
        names |= {f"{block}ln_{n}.{kind}": (width,) for n in (1, 2) for kind in ("weight", "bias")}
    return {name: torch.empty(shape) for name, shape in names.items()}


def _linear(name: str, channels: int, out_channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out_channels, channels), f"{name}.bias": (out_channels,)}


def vae() -> Tensors:
    """An autoencoder by itself, in LDM's names."""
    return with_convolutions(renamed(AutoencoderKL(**AUTOENCODER).state_dict(), AUTOENCODER_TO_LDM))


def motion_lora() -> Tensors:
    """A motion LoRA for every attention of a v2 motion module."""
    layers = [
        (f"sites.{site.key}.attentions.{number}.to_{name}", width)
        for site, width in SD15.motion_sites(mid=True).items()
        for number in range(2)
        for name in ("q", "k", "v", "out")
    ]
    down = {f"{layer}.lora_down.weight": torch.empty(LORA_RANK, width) for layer, width in layers}
    up = {f"{layer}.lora_up.weight": torch.empty(width, LORA_RANK) for layer, width in layers}
    return to_theirs({**down, **up}, MOTION_LORA)


def adapter() -> Tensors:
    """The official I2V adapter."""
    return to_theirs(I2VAdapter(SD15.attention_sites, HEADS).state_dict(), OFFICIAL_ADAPTER)


def image_tokens(config: UNetConfig = SD15) -> ImageTokenAdapter:
    """The projections of image tokens at every site."""
    return ImageTokenAdapter(config.attention_sites, config.cross_attention_dim, config.heads)


def adapter_base() -> Tensors:
    """The official I2V-Adapter's UNet file: base, motion module v1 and image-token projections."""
    projections = to_theirs(image_tokens().state_dict(), OFFICIAL_IMAGE_TOKENS)
    return {**unet(), **motion(mid=False, max_frames=24), **projections}


def ip_adapter_plus() -> Tensors:
    """IP-Adapter Plus, fp16."""
    resampler = Resampler(ResamplerConfig()).state_dict()
    projections = to_theirs(image_tokens().state_dict(), IP_ADAPTER)
    return half({**to_theirs(resampler, IP_ADAPTER_RESAMPLER), **projections})


def ip_adapter_plus_sdxl() -> Tensors:
    """IP-Adapter Plus for SDXL with ViT-H, fp16."""
    resampler = Resampler(ResamplerConfig(width=1280, token_dim=SDXL.cross_attention_dim)).state_dict()
    projections = to_theirs(image_tokens(SDXL).state_dict(), IP_ADAPTER_SDXL)
    return half({**to_theirs(resampler, IP_ADAPTER_RESAMPLER), **projections})


def vision() -> Tensors:
    """CLIP's image encoder ViT-H in transformers' names."""
    state = CLIPVisionModelWithProjection(VIT_H).state_dict()
    patches = (VIT_H.image_size // VIT_H.patch_size) ** 2
    return {**state, "vision_model.embeddings.position_ids": torch.empty(1, patches + 1, dtype=torch.int64)}


def renamed(tensors: Tensors, table: Table) -> Tensors:
    """Tensors under other names: every substitution of ``table`` in turn."""

    def rename(name: str) -> str:
        for pattern, replacement in table:
            name = re.sub(pattern, replacement, name)
        return name

    return {rename(name): tensor for name, tensor in tensors.items()}


AUTOENCODER_TO_LDM: Table = [
    (r"up_blocks\.(\d)", lambda match: f"up.{3 - int(match[1])}"),
    (r"down_blocks", "down"),
    (r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}"),
    (r"mid_block\.attentions\.0", "mid.attn_1"),
    (r"resnets", "block"),
    (r"(down|up)samplers\.0", r"\1sample"),
    (r"conv_shortcut", "nin_shortcut"),
    (r"conv_norm_out", "norm_out"),
    (r"group_norm", "norm"),
    (r"to_([qkv])\.", r"\1."),
    (r"to_out\.0", "proj_out"),
]


def with_convolutions(tensors: Tensors) -> Tensors:
    """The autoencoder's attentions as LDM has them: convolutions of one pixel, no linear layers."""
    return {name: tensor[..., None, None] if tensor.ndim == 2 else tensor for name, tensor in tensors.items()}


def half(tensors: Tensors) -> Tensors:
    """Floating-point tensors in fp16."""
    return {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


@dataclass(frozen=True)
class Recipe:
    """What a published file holds.

    Attributes:
        build: the tensors, without their numbers.
        metadata: of a safetensors file.
        wrapped: the pickle holds its tensors as training left them, one level deeper and behind a prefix.
    """

    build: Callable[[], Tensors]
    metadata: Mapping[str, str] | None = None
    wrapped: bool = False


RECIPES: Mapping[str, Recipe] = {
    "sd15": Recipe(checkpoint, {"format": "pt"}),
    "sd15-fp16": Recipe(lambda: half(checkpoint()), {"format": "pt"}),
    "animatediff-v1": Recipe(partial(motion, mid=False, max_frames=24)),
    "animatediff-v2": Recipe(partial(motion, mid=True, max_frames=32)),
    "animatediff-v3": Recipe(partial(motion, mid=False, max_frames=32), wrapped=True),
    "animatelcm": Recipe(partial(motion, mid=True, max_frames=None)),
    "motion-lora-zoom-in": Recipe(motion_lora),
    "i2v-adapter": Recipe(adapter),
    "i2v-adapter-base": Recipe(adapter_base),
    "ip-adapter-plus": Recipe(ip_adapter_plus),
    "animatediff-lightning": Recipe(lambda: half(motion(mid=True, max_frames=32))),
    "sdxl-base": Recipe(sdxl_checkpoint, {"format": "pt"}),
    "sdxl-vae": Recipe(vae, {"format": "pt"}),
    "animatediff-sdxl": Recipe(sdxl_motion),
    "hotshot-xl": Recipe(hotshot),
    "hotshot-xl-fp16": Recipe(lambda: half(hotshot())),
    "ip-adapter-plus-sdxl": Recipe(ip_adapter_plus_sdxl),
    "clip-vision-vit-h": Recipe(vision, {"format": "pt"}),
}


def shapes(id: str, mid: bool = True) -> Tensors:
    """Tensors on the meta device, as they are called in the published file ``id`` once it is unwrapped.

    Without ``mid`` those of diffusers' middle block are left out.
    """
    with torch.device("meta"):
        tensors = RECIPES[id].build()
    return {name: tensor for name, tensor in tensors.items() if mid or not name.startswith("mid_block.")}


class Numbers:
    """Seeded numbers without end: one block of them, over and over."""

    def __init__(self, seed: int) -> None:
        self.block = torch.randn(PERIOD, generator=torch.Generator().manual_seed(seed))
        self.used = 0

    def take(self, count: int) -> Tensor:
        """The next ``count`` of them."""
        start = self.used % PERIOD
        self.used += count
        return self.block.repeat(-(-(start + count) // PERIOD))[start : start + count]

    def like(self, name: str, tensor: Tensor) -> Tensor:
        """What an untrained model could have in place of ``tensor``, on the CPU."""
        if not tensor.is_floating_point():
            return torch.arange(tensor.numel(), dtype=tensor.dtype).reshape(tensor.shape)
        if name.endswith((".pe", ".positional_encoding")):
            return sinusoidal_positions(*tensor.shape[1:])
        if tensor.ndim == 1 and name.endswith((".weight", ".bias")):
            return torch.full(tensor.shape, float(name.endswith(".weight")), dtype=tensor.dtype)
        fan_in = tensor[0].numel() if tensor.ndim > 1 else 1
        return (self.take(tensor.numel()) / fan_in**0.5).reshape(tensor.shape).to(tensor.dtype)


def filled(tensors: Tensors, seed: int) -> Tensors:
    """Numbers for tensors of the meta device: norms do nothing, projections keep the size of what they are given."""
    numbers = Numbers(seed)
    return {name: numbers.like(name, tensor) for name, tensor in tensors.items()}


def write(id: str, folder: Path, mid: bool = True) -> Path:
    """Put the file ``id`` of :func:`shapes` into ``folder``, whole or not at all; its path. Always the same numbers."""
    recipe, target = RECIPES[id], folder / weight_set(id).file
    content = filled(shapes(id, mid), zlib.crc32(id.encode()))
    unfinished = target.with_name(target.name + ".part")
    try:
        if target.suffix == ".safetensors":
            save_file(content, unfinished, recipe.metadata)
        else:
            torch.save(_wrapped(content) if recipe.wrapped else content, unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target


def _wrapped(tensors: Tensors) -> dict[str, Any]:
    return {"state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}}


def main(
    ids: Annotated[list[str], typer.Argument(help=f"Any of {', '.join(RECIPES)}.")],
    to: Annotated[Path, typer.Option(help="A folder that is there.")],
    mid: Annotated[bool, typer.Option(help="With the middle block, which i2v-adapter may lack.")] = True,
) -> None:
    """Write files of random numbers in the form of published weights."""
    for id in ids:
        print(write(id, to, mid))


if __name__ == "__main__":
    typer.run(main)
