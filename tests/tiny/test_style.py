"""The other look: its images, and a LoRA that is trained beside a UNet and merged into it."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from firstframe.errors import ModelMismatchError
from firstframe.tiny.config import UNET
from firstframe.tiny.scenes import dusk, render, sample_scene
from firstframe.tiny.style import merge_lora
from firstframe.tiny.style_lora import add_lora, lora_weights


def test_dusk_is_darker_and_violet_and_keeps_the_image() -> None:
    frames = render(sample_scene(1), num_frames=2).frames
    tinted = dusk(frames)
    assert tinted.shape == frames.shape and tinted.dtype == np.uint8
    red, green, blue = (tinted.astype(float) - frames).mean((0, 1, 2))
    assert green < min(red, blue) - 20
    for channel in range(3):
        before, after = frames[:, 64, :, channel].ravel(), tinted[:, 64, :, channel].ravel()
        assert np.corrcoef(before, after)[0, 1] > 0.99


def test_a_merged_lora_does_what_it_did_beside_the_unet() -> None:
    base = UNet2DConditionModel(**UNET | {"layers_per_block": 1}).eval()
    trained = deepcopy(base)
    add_lora(trained)
    for name, weight in trained.named_parameters():
        assert weight.requires_grad == ("lora" in name)
        if "lora" in name:
            nn.init.normal_(weight, std=0.05)
    noisy, text = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 128)
    with torch.no_grad():
        before = base(noisy, 500, text).sample
        merge_lora(base, lora_weights(trained))
        merged, beside = (unet(noisy, 500, text).sample for unet in (base, trained))
    assert (merged - before).abs().max() > 0.1
    assert torch.allclose(merged, beside, atol=1e-4)


def test_a_lora_for_another_unet() -> None:
    unet = UNet2DConditionModel(**UNET | {"layers_per_block": 1})
    add_lora(unet)
    with pytest.raises(ModelMismatchError, match="lora_unet_"):
        merge_lora(nn.Linear(2, 2), lora_weights(unet))
