"""From training runs to the files that ship: fp16 safetensors with the story of how they were made."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ..training.log import history
from ..weights import I2V_ADAPTER, MOTION_MODULE, RETENTION, load, load_state_dict, save, save_state_dict
from .autoencoder import LICENCE, SOURCE
from .denoiser import with_adapter
from .files import AUTOENCODER_FILE, PLAN_FILE, weights_file

BASE_STAGES = ("text", "images", "clips", "whole")


def export(runs: Path, folder: Path) -> None:
    """Write the weights of a finished run into ``folder``, with what is recorded of each stage.

    Args:
        runs: the folder of all stages.
        folder: gets a file for each of :data:`.files.PARTS`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file, base = partial(weights_file, folder=folder), _story(runs, *BASE_STAGES)
    model = with_adapter(runs / "adapter_whole" / "final.safetensors")
    text = {f"text_model.{key.removeprefix('text_model.')}": w for key, w in _half(model.text_encoder).items()}
    source = {"firstframe.source": SOURCE, "firstframe.licence": LICENCE}
    autoencoder = {name: weight.half() for name, weight in load_state_dict(runs / AUTOENCODER_FILE).items()}
    save_state_dict(file("autoencoder"), autoencoder, source)
    save_state_dict(file("text_encoder"), text, base)
    save_state_dict(file("unet"), _half(model.unet), base)
    save(MOTION_MODULE, file("motion_module"), model.motion, base, torch.float16)
    save(I2V_ADAPTER, file("i2v_adapter"), model.adapter, _story(runs, "adapter", "adapter_whole"), torch.float16)
    branch = load(RETENTION, runs / "retention" / "final.safetensors")
    save(RETENTION, file("retention"), branch, _story(runs, "stem", "retention"), torch.float16)
    lora = load_state_dict(runs / "look" / "final.safetensors")
    save_state_dict(file("look_lora"), {name: weight.half() for name, weight in lora.items()}, _story(runs, "look"))


def _half(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: weight.half() for key, weight in model.state_dict().items()}


def _story(runs: Path, *stages: str) -> dict[str, str]:
    """Metadata: the run, and the stages in order, with steps, batch, rate and last loss of each."""
    run = json.loads((runs / PLAN_FILE).read_text("utf-8"))
    entries = [history(runs / stage) for stage in stages if (runs / stage / "config.json").exists()]
    return {"firstframe.run": json.dumps(run), "firstframe.training": json.dumps(entries)}
