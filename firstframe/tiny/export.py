"""From training runs to the files that ship: fp16 safetensors with the story of how they were made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..training.log import history
from ..weights import I2V_ADAPTER, MOTION_MODULE, RETENTION, load, load_state_dict, save, save_state_dict
from .autoencoder import open_autoencoder
from .denoiser import new_base, new_motion, with_adapter
from .files import weights_file


def export_autoencoder(runs: Path) -> None:
    """Write the autoencoder's file."""
    model = open_autoencoder(runs / "decoder" / "final.safetensors")
    save_state_dict(weights_file("autoencoder"), _half(model), _story(runs, "autoencoder", "decoder"))


def export_base(runs: Path) -> None:
    """Write the files of text encoder, UNet and motion module."""
    model = new_base(runs / "whole" / "final.safetensors", motion=new_motion())
    story = _story(runs, "pictures", "clips", "whole")
    text = {f"text_model.{key.removeprefix('text_model.')}": w for key, w in _half(model.text_encoder).items()}
    save_state_dict(weights_file("text_encoder"), text, story)
    save_state_dict(weights_file("unet"), _half(model.unet), story)
    save(MOTION_MODULE, weights_file("motion_module"), model.motion, story, torch.float16)


def export_adapter(runs: Path) -> None:
    """Write the adapter's file."""
    model = with_adapter(runs / "adapter_whole" / "final.safetensors")
    story = _story(runs, "adapter", "adapter_whole")
    save(I2V_ADAPTER, weights_file("i2v_adapter"), model.adapter, story, torch.float16)


def export_retention(runs: Path) -> None:
    """Write the retention branch's file."""
    branch = load(RETENTION, runs / "retention" / "final.safetensors")
    save(RETENTION, weights_file("retention"), branch, _story(runs, "retention"), torch.float16)


def export_look(runs: Path) -> None:
    """Write the LoRA's file."""
    lora = load_state_dict(runs / "look" / "final.safetensors")
    halves = {name: weight.half() for name, weight in lora.items()}
    save_state_dict(weights_file("look_lora"), halves, _story(runs, "look"))


def _half(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: weight.half() for key, weight in model.state_dict().items()}


def _story(runs: Path, *stages: str) -> dict[str, str]:
    """Metadata: the commands in order, with steps, batch, rate, data and last loss of each."""
    entries: list[dict[str, Any]] = [history(runs / stage) for stage in stages]
    return {"firstframe.training": json.dumps(entries)}
