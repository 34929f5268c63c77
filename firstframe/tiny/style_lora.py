"""A LoRA on the base's UNet (arXiv 2106.09685), and its weights under the names that everybody reads."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor

PREFIX = "lora_unet_"
RANK = 16
LAYERS = (
    *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv", "conv1", "conv2", "conv_in", "conv_out", "conv_shortcut", "time_emb_proj"),
)


def add_lora(unet: UNet2DConditionModel) -> None:
    """Add a LoRA of RANK to all of LAYERS; its weights alone are trained."""
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(LAYERS)))


def lora_weights(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """The LoRA as ``lora_unet_down_blocks_0_…_to_q.lora_up.weight``, ``.lora_down.weight`` and ``.alpha``."""
    weights = {}
    for name, weight in get_peft_model_state_dict(unet).items():
        layer, half, _ = name.rsplit(".", 2)
        key = PREFIX + layer.replace(".", "_")
        weights[f"{key}.{ {'lora_A': 'lora_down', 'lora_B': 'lora_up'}[half] }.weight"] = weight.detach().contiguous()
        weights[f"{key}.alpha"] = torch.tensor(float(RANK))
    return weights
