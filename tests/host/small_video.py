"""The host's image-to-video models, small, with random weights, and the inputs that its own nodes make for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import comfy.supported_models
import torch
from comfy.ldm.hunyuan_video.model import HunyuanVideoParams
from comfy.model_patcher import ModelPatcher
from comfy_extras.nodes_cosmos import CosmosImageToVideoLatent, CosmosPredict2ImageToVideoLatent
from comfy_extras.nodes_hunyuan import HunyuanImageToVideo
from comfy_extras.nodes_lt import LTXVAddGuide, LTXVImgToVideo
from comfy_extras.nodes_wan import Wan22ImageToVideoLatent, WanImageToVideo
from small import randomise
from torch import Tensor

LATENT_FRAMES = 3
TEXT = 32
WIDTH = 64
Inputs = tuple[list[Any], list[Any], dict[str, Any]]
"""The prompt, the negative prompt and the latent, as a node leaves them."""


def patcher(name: str, **unet_config: Any) -> ModelPatcher:
    """A MODEL of one of the host's classes."""
    kind = getattr(comfy.supported_models, name)
    description = kind({**kind.unet_config, **unet_config})
    description.set_inference_dtype(torch.float32, None)
    model = description.get_model({}, device=torch.device("cpu"))
    randomise(model.diffusion_model, 1)
    return ModelPatcher(model, load_device=torch.device("cpu"), offload_device=torch.device("cpu"))


def wan(name: str, **unet_config: Any) -> ModelPatcher:
    sizes = {"dim": WIDTH, "ffn_dim": WIDTH, "freq_dim": 32, "text_dim": TEXT, "num_heads": 2, "num_layers": 2}
    return patcher(name, **sizes, **unet_config)


def ltx() -> ModelPatcher:
    sizes = {"num_layers": 2, "attention_head_dim": 32, "num_attention_heads": 2, "cross_attention_dim": WIDTH}
    return patcher("LTXV", **sizes, caption_channels=TEXT)


def hunyuan(in_channels: int) -> ModelPatcher:
    name = "HunyuanVideoI2V" if in_channels == 33 else "HunyuanVideo"
    config = {
        "in_channels": in_channels,
        "out_channels": 16,
        "vec_in_dim": TEXT,
        "context_in_dim": TEXT,
        "hidden_size": WIDTH,
        "mlp_ratio": 2.0,
        "num_heads": 2,
        "depth": 1,
        "depth_single_blocks": 1,
        "axes_dim": [8, 12, 12],
        "theta": 256,
        "patch_size": [1, 2, 2],
        "qkv_bias": True,
    }
    absent = {"vision_in_dim": None}
    others = {field.name: absent.get(field.name, False) for field in fields(HunyuanVideoParams)}
    return patcher(name, **{**others, **config})


LEARNABLE_POSITIONS = {"extra_per_block_abs_pos_emb": True, "extra_per_block_abs_pos_emb_type": "learnable"}


def cosmos(name: str, **unet_config: Any) -> ModelPatcher:
    config = {
        "max_img_h": 32,
        "max_img_w": 32,
        "max_frames": 16,
        "out_channels": 16,
        "patch_spatial": 2,
        "patch_temporal": 1,
        "model_channels": WIDTH,
        "num_blocks": 2,
        "num_heads": 2,
        "crossattn_emb_channels": TEXT,
        "pos_emb_cls": "rope3d",
        "use_adaln_lora": True,
        "adaln_lora_dim": 8,
    }
    return patcher(name, **config, **unet_config)


class ImageEncoder:
    """Stands for the VAE: a random latent of the size that it would make of the pixels."""

    def __init__(self, channels: int, time: int, space: int) -> None:
        self.channels = channels
        self.downscale_index_formula = (time, space, space)

    def encode(self, pixels: Tensor) -> Tensor:
        time, space, _ = self.downscale_index_formula
        length, height, width = pixels.shape[:3]
        shape = (1, self.channels, (length - 1) // time + 1, height // space, width // space)
        return torch.randn(shape, generator=torch.Generator().manual_seed(4))


class ImageFeatures:
    """Stands for CLIP's view of the image."""

    penultimate_hidden_states = torch.randn(1, 5, 1280, generator=torch.Generator().manual_seed(6))


def prompt(seed: int) -> list[Any]:
    """A CONDITIONING of random numbers."""
    generator = torch.Generator().manual_seed(seed)
    pooled = torch.randn(1, TEXT, generator=generator)
    return [[torch.randn(1, 7, TEXT, generator=generator), {"pooled_output": pooled}]]


def masked_prompt(seed: int) -> list[Any]:
    """With the words' mask that LTX asks for, of another length for each ``seed``.

    On the CPU the host's attention takes such masks one by one, as different lengths make it.
    """
    ((words, extra),) = prompt(seed)
    return [[words[:, seed:], {**extra, "attention_mask": torch.ones(1, words.shape[1] - seed)}]]


def image() -> Tensor:
    return torch.rand(1, 256, 256, 3, generator=torch.Generator().manual_seed(7))


def made_by(node: Any, *args: Any) -> tuple[Any, ...]:
    """What a node gives, in the newer and the older form of nodes."""
    if hasattr(node, "execute"):
        return tuple(node.execute(*args).args)
    return tuple(getattr(node(), node.FUNCTION)(*args))


def wan_inputs() -> Inputs:
    encoder = ImageEncoder(16, 4, 8)
    return made_by(WanImageToVideo, prompt(1), prompt(2), encoder, 64, 64, 9, 1, image(), ImageFeatures())


def wan22_inputs() -> Inputs:
    (latent,) = made_by(Wan22ImageToVideoLatent, ImageEncoder(48, 4, 16), 128, 128, 9, 1, image())
    return prompt(1), prompt(2), latent


def hunyuan_inputs(kind: str) -> Inputs:
    positive, latent = made_by(HunyuanImageToVideo, prompt(1), ImageEncoder(16, 4, 8), 64, 64, 9, 1, kind, image())
    return positive, prompt(2), latent


def ltx_inputs() -> Inputs:
    return made_by(
        LTXVImgToVideo, masked_prompt(1), masked_prompt(2), image(), ImageEncoder(128, 8, 32), 256, 256, 17, 1, 1.0
    )


def ltx_guide_inputs() -> Inputs:
    latent = {"samples": torch.zeros(1, 128, LATENT_FRAMES - 1, 8, 8)}
    return made_by(LTXVAddGuide, masked_prompt(1), masked_prompt(2), ImageEncoder(128, 8, 32), latent, image(), 0, 1.0)


def cosmos_inputs(node: Any, time: int) -> Inputs:
    (latent,) = made_by(node, ImageEncoder(16, time, 8), 64, 64, 2 * time + 1, 1, image())
    return prompt(1), prompt(2), latent


GUIDED = "LTX-Video with a guide"


@dataclass(frozen=True)
class Case:
    """A model with its inputs."""

    name: str
    model: Callable[[], ModelPatcher]
    inputs: Callable[[], Inputs]


CASES = [
    Case("Wan 2.1 image-to-video", lambda: wan("WAN21_I2V"), wan_inputs),
    Case("Wan 2.2 5B", lambda: wan("WAN22_T2V", in_dim=48), wan22_inputs),
    Case("LTX-Video", ltx, ltx_inputs),
    Case(GUIDED, ltx, ltx_guide_inputs),
    Case("HunyuanVideo (concat)", lambda: hunyuan(33), lambda: hunyuan_inputs("v1 (concat)")),
    Case("HunyuanVideo (replace)", lambda: hunyuan(16), lambda: hunyuan_inputs("v2 (replace)")),
    Case("HunyuanVideo (reference latent)", lambda: hunyuan(16), lambda: hunyuan_inputs("custom")),
    Case(
        "Cosmos image-to-video",
        lambda: cosmos("CosmosI2V", block_x_format="THWBD", **LEARNABLE_POSITIONS),
        lambda: cosmos_inputs(CosmosImageToVideoLatent, 8),
    ),
    Case(
        "Cosmos Predict2 image-to-video",
        lambda: cosmos("CosmosI2VPredict2", rope_enable_fps_modulation=False),
        lambda: cosmos_inputs(CosmosPredict2ImageToVideoLatent, 4),
    ),
]
