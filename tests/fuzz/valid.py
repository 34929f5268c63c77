"""A small whole file of each layout, to be damaged."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from firstframe.modules.i2v_adapter import I2VAdapter
from firstframe.modules.image_prompt import ImageTokenAdapter, Resampler, ResamplerConfig
from firstframe.modules.motion import MotionConfig, MotionModule
from firstframe.modules.retention import RetentionBranch, RetentionConfig
from firstframe.sites import Site, UNetConfig
from firstframe.weights import (
    I2V_ADAPTER,
    IMAGE_TOKENS,
    MOTION_MODULE,
    RESAMPLER,
    RETENTION,
    Layout,
    load,
    load_metadata,
    load_motion_lora,
    load_state_dict,
    save,
)
from firstframe.weights.keymaps import to_theirs

SITES = {Site("down", 0, 0): 32}
SDXL_SITE = ({Site("mid", 0, 0, 9): 64}, 8, 1)
MOTION = MotionConfig((32,), 1, False, 4, 4)
BRANCH = RetentionConfig(UNetConfig((32,), 1, (False,), 4, 8), MOTION, (2, 2, 2, 2))
LORA = "sites.down_0_0.attentions.0.to_q"
KINDS = {kind.name: kind for kind in (I2V_ADAPTER, IMAGE_TOKENS, MOTION_MODULE, RESAMPLER, RETENTION)}
MODULES = {
    "i2v_adapter": lambda layout: I2VAdapter(SITES, 4, own_projections=layout.name == "unofficial I2V-Adapter"),
    "image_tokens": lambda layout: ImageTokenAdapter(*(SDXL_SITE if "SDXL" in layout.name else (SITES, 8, 4))),
    "motion_module": lambda _: MotionModule(MOTION),
    "resampler": lambda _: Resampler(ResamplerConfig(feature_dim=4, width=64, token_dim=4, num_tokens=2, depth=1)),
    "retention": lambda _: RetentionBranch(BRANCH),
}


def write_valid(layout: Layout, folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a small file in ``layout``."""
    if layout.kind == "motion_lora":
        ours = {f"{LORA}.lora_up.weight": torch.ones(32, 2), f"{LORA}.lora_down.weight": torch.ones(2, 32)}
        return to_theirs(ours, layout.keymap), {}
    module = MODULES[layout.kind](layout)
    if layout.keymap:
        return to_theirs(module.state_dict(), layout.keymap), {}
    file = folder / "valid.safetensors"
    save(KINDS[layout.kind], file, module)
    return load_state_dict(file), load_metadata(file)


def read_as(layout: Layout, file: Path) -> object:
    """A file as what its layout is of."""
    return load_motion_lora(file) if layout.kind == "motion_lora" else load(KINDS[layout.kind], file)
