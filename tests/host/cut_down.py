"""A checkpoint that the host's stock loader takes, cut down to one level, with random weights; and parts for it.

All names are the host's own, which are those of the published files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import comfy.ldm.models.autoencoder
import comfy.ops
import torch
from comfy.clip_vision import ClipVisionModel
from comfy.sd1_clip import SD1ClipModel
from comfyui_firstframe_pack.firstframe.modules.i2v_adapter import I2VAdapter
from comfyui_firstframe_pack.firstframe.modules.image_prompt import ImageTokenAdapter, Resampler, ResamplerConfig
from comfyui_firstframe_pack.firstframe.modules.motion import MotionConfig, MotionModule
from comfyui_firstframe_pack.firstframe.modules.retention import RetentionBranch, RetentionConfig
from comfyui_firstframe_pack.firstframe.sites import UNetConfig
from comfyui_firstframe_pack.firstframe.weights import IMAGE_TOKENS, RETENTION, save
from comfyui_firstframe_pack.firstframe.weights.keymaps import ANIMATEDIFF, OFFICIAL_ADAPTER, to_theirs
from safetensors.torch import save_file
from small import host_config, randomise
from torch import Tensor

UNET = UNetConfig((320,), layers_per_block=2, attention=(True,), num_heads=8, cross_attention_dim=768)
MAX_FRAMES_V1 = 24
FEATURES, TOKENS = 64, 4
AUTOENCODER = {
    "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128,
    "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
}  # fmt: skip
VISION = {
    "hidden_size": FEATURES, "intermediate_size": 64, "num_attention_heads": 16, "num_hidden_layers": 3,
    "num_channels": 3, "image_size": 28, "patch_size": 14, "hidden_act": "quick_gelu", "projection_dim": 16,
    "model_type": "clip_vision_model",
}  # fmt: skip
LORA_LAYERS = ("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "mid_block.attentions.0.proj_in")


@dataclass(frozen=True)
class Files:
    """Where everything is."""

    folder: Path

    def __getattr__(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def checkpoint() -> dict[str, Tensor]:
    """UNet in fp32, text encoder and VAE in fp16, in the names of the published single file."""
    unet = host_config(UNET)
    unet.set_inference_dtype(torch.float32, None)
    model = randomise(unet.get_model({}, device=torch.device("cpu")).diffusion_model, 0)
    text = randomise(SD1ClipModel(device="cpu", dtype=torch.float32).clip_l.transformer, 1)
    vae = randomise(comfy.ldm.models.autoencoder.AutoencoderKL(ddconfig=AUTOENCODER, embed_dim=4), 2)
    return {
        **{f"model.diffusion_model.{name}": tensor for name, tensor in model.state_dict().items()},
        **{f"cond_stage_model.transformer.{name}": tensor.half() for name, tensor in text.state_dict().items()},
        **{f"first_stage_model.{name}": tensor.half() for name, tensor in vae.state_dict().items()},
    }


def write(folder: Path) -> Files:
    """Every file that ``firstframe animate`` takes, in published layouts where there are such."""
    files = Files(folder)
    motion = MotionConfig(UNET.block_out_channels, 2, mid=False, max_frames=MAX_FRAMES_V1, num_heads=8)
    save_file(checkpoint(), files.checkpoint)
    save_file(to_theirs(randomise(MotionModule(motion), 3).state_dict(), ANIMATEDIFF), files.motion)
    adapter = randomise(I2VAdapter(UNET.attention_sites, UNET.num_heads), 4)
    save_file(to_theirs(adapter.state_dict(), OFFICIAL_ADAPTER), files.adapter)
    branch = randomise(RetentionBranch(RetentionConfig(UNET, motion, (4, 4, 8, 8))), 5)
    save(RETENTION, files.retention, branch, dtype=torch.float32)
    projections = randomise(ImageTokenAdapter(UNET.attention_sites, 768, 8, TOKENS), 6)
    save(IMAGE_TOKENS, files.projections, projections, dtype=torch.float32)
    resampler = randomise(Resampler(ResamplerConfig(FEATURES, 64, 768, TOKENS, depth=2)), 7).state_dict()
    save_file({f"image_proj.{name}": tensor for name, tensor in resampler.items()}, files.content)
    save_file(lora(), files.lora)
    save_file(vision().get_sd(), files.vision)
    return files


def lora() -> dict[str, Tensor]:
    """Two layers of the UNet, by the names of kohya's scripts."""
    generator = torch.Generator().manual_seed(8)
    tensors = {}
    for layer in LORA_LAYERS:
        name, tail = f"lora_unet_{layer.replace('.', '_')}", (1, 1) if layer.endswith("proj_in") else ()
        tensors[f"{name}.lora_up.weight"] = 0.5 * torch.randn(320, 4, *tail, generator=generator)
        tensors[f"{name}.lora_down.weight"] = 0.5 * torch.randn(4, 320, *tail, generator=generator)
        tensors[f"{name}.alpha"] = torch.tensor(2.0)
    return tensors


def vision() -> ClipVisionModel:
    """The host's image encoder, small: always the same numbers."""
    with TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"
        config.write_text(json.dumps(VISION))
        encoder = ClipVisionModel(str(config))
    randomise(encoder.model, 9)
    return encoder
