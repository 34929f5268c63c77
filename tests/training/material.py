"""A small checkpoint, a motion module and clips in files, with a configuration that trains on them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from small_checkpoint import SMALL, SMALL_XL, ldm_checkpoint, sdxl_checkpoint, small_networks, small_sdxl_networks
from synthetic import filled

from firstframe.clips.video import write_clip
from firstframe.modules.motion import MotionConfig, MotionModule
from firstframe.training.base import VideoBase, load_base
from firstframe.training.config import TrainingConfig
from firstframe.weights import MOTION_MODULE, save
from firstframe.weights.keymaps import ANIMATEDIFF, to_theirs

FRAMES, SIDE = 4, 64


def moving_square(frames: int = 8, width: int = SIDE, height: int = SIDE, seed: int = 0) -> Tensor:
    """A bright square that moves right over a coloured ground, (F, H, W, 3) uint8."""
    colours = torch.randint(0, 255, (2, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    clip = colours[0].expand(frames, height, width, 3).clone()
    for index in range(frames):
        clip[index, 16:40, 4 * index : 4 * index + 24] = colours[1]
    return clip


def write_clips(folder: Path, count: int = 1) -> Path:
    """Captioned clips."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        write_clip(folder / f"clip_{index}.mp4", moving_square(seed=index))
        (folder / f"clip_{index}.txt").write_text(f"square number {index} moves right")
    return folder


def write_models(folder: Path) -> dict[str, Any]:
    """A checkpoint and a motion module that are small and random; the ``[model]`` table that names them."""
    save_file(ldm_checkpoint(small_networks()), folder / "checkpoint.safetensors")
    config = MotionConfig(SMALL.block_out_channels, SMALL.layers_per_block, False, 32, SMALL.num_heads)
    torch.save(filled(to_theirs(MotionModule(config).state_dict(), ANIMATEDIFF), 1), folder / "motion.ckpt")
    return {"checkpoint": folder / "checkpoint.safetensors", "motion_module": folder / "motion.ckpt"}


def write_sdxl_models(folder: Path, **motion: Any) -> dict[str, Any]:
    """The same of SDXL's type, with ``motion`` as in MotionConfig."""
    save_file(sdxl_checkpoint(small_sdxl_networks()), folder / "checkpoint.safetensors")
    config = MotionConfig(SMALL_XL.block_out_channels, SMALL_XL.layers_per_block, False, 32, 8, **motion)
    module = MotionModule(config)
    module.load_state_dict(filled(module.state_dict(), 1))
    save(MOTION_MODULE, folder / "motion.safetensors", module)
    return {"checkpoint": folder / "checkpoint.safetensors", "motion_module": folder / "motion.safetensors"}


def configuration(folder: Path, clips: Path, **train: Any) -> TrainingConfig:
    """Train on ``clips`` in ``folder``, which has the models."""
    content = {
        "model": {"checkpoint": folder / "checkpoint.safetensors", "motion_module": next(folder.glob("motion.*"))},
        "data": {"cache_directory": folder / "cache", "held_out": 0.0},
        "datasets": [{"video_directory": clips, "resolution": [SIDE, SIDE], "target_frames": [FRAMES]}],
        "train": {"output_dir": folder / "run", "drop_text": 0.0, **train},
        "samples": {"every_n_steps": 0},
    }
    return TrainingConfig.model_validate(content)


def sampled(config: TrainingConfig, steps: int) -> TrainingConfig:
    """With clips made of a sample every so many steps."""
    looked = {"every_n_steps": steps, "sample_steps": 2, "count": 1}
    return config.model_copy(update={"samples": config.samples.model_copy(update=looked)})


def base_of(config: TrainingConfig) -> VideoBase:
    """The small model."""
    return load_base(config.model)
