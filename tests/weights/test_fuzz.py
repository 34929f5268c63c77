"""Files of each layout, damaged at random: loading one succeeds or ends in an error of our own."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from firstframe.errors import FirstFrameError
from firstframe.modules.i2v_adapter import I2VAdapter
from firstframe.modules.image_prompt import ImageTokenAdapter, Resampler, ResamplerConfig
from firstframe.modules.motion import MotionConfig, MotionModule
from firstframe.modules.retention import RetentionBranch, RetentionConfig
from firstframe.sites import Site, UNetConfig
from firstframe.weights import (
    I2V_ADAPTER,
    IMAGE_TOKENS,
    LAYOUTS,
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
from firstframe.weights.inspect import inspect
from firstframe.weights.keymaps import to_theirs

ROUNDS = 12
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
SHAPES: list[tuple[int, ...]] = [(), (0,), (1,), (7,), (0, 32), (32, 0), (33, 32), (1, 1, 1), (2, 2, 2, 2)]
CONFIGS = ["", "[1]", "{", '{"num_heads": 0}', '{"num_heads": 1e99}', '{"layers_per_block": 1000000}', '{"unet": []}']


def write_valid(layout: Layout, folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a small file in ``layout``."""
    if layout.kind == "motion_lora":
        ours = {f"{LORA}.lora_up.weight": torch.ones(32, 2), f"{LORA}.lora_down.weight": torch.ones(2, 32)}
        return to_theirs(ours, layout.keymap), {}
    module = MODULES[layout.kind](layout)
    if layout.keymap:
        return to_theirs(module.state_dict(), layout.keymap), {}
    save(KINDS[layout.kind], folder / "valid.safetensors", module)
    return load_state_dict(folder / "valid.safetensors"), load_metadata(folder / "valid.safetensors")


def damage_tensors(tensors: dict[str, Tensor], metadata: dict[str, str], dice: random.Random) -> None:
    """One random change: a tensor lost, renamed, of another shape, type or value, or another configuration."""
    name = dice.choice(sorted(tensors))
    tensor = tensors.pop(name)
    match dice.randrange(7):
        case 1:
            tensors[name[: dice.randrange(1, len(name) + 1)] + dice.choice(["", ".", "_9_9", "\x1b[2J", "٣"])] = tensor
        case 2:
            tensors[name] = torch.zeros(dice.choice(SHAPES))
        case 3:
            tensors[name] = tensor.to(dice.choice([torch.int8, torch.int64, torch.bool, torch.float64, torch.bfloat16]))
        case 4:
            tensors[name] = tensor * dice.choice([float("nan"), float("inf")])
        case 5:
            tensors[name] = tensor.flatten()
        case 6:
            tensors[name] = tensor
            metadata["firstframe.config"] = dice.choice(CONFIGS)


def damage_bytes(file: Path, dice: random.Random) -> None:
    """A few bytes changed, most of them in the header, or the end cut off."""
    content = bytearray(file.read_bytes())
    for _ in range(dice.randrange(1, 4)):
        content[dice.randrange(min(len(content), dice.choice([16, 400, len(content)])))] = dice.randrange(256)
    file.write_bytes(content[: dice.choice([len(content), dice.randrange(len(content))])])


def is_loaded_or_refused(read: Callable[[Path], object], file: Path) -> bool:
    """Whether ``read`` accepts the file. Raises what is no error of ours."""
    try:
        read(file)
    except FirstFrameError as error:
        assert file.name in str(error)
        assert str(error).isprintable()
        return False
    return True


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_only_errors_of_our_own(tmp_path: Path, layout: Layout, ending: str) -> None:
    def read(file: Path) -> object:
        return load_motion_lora(file) if layout.kind == "motion_lora" else load(KINDS[layout.kind], file)

    valid, metadata = write_valid(layout, tmp_path)
    file, accepted = tmp_path / f"x.{ending}", 0
    for seed in range(ROUNDS):
        dice = random.Random(f"{layout.name} {ending} {seed}")
        tensors, told = dict(valid), dict(metadata)
        if seed and dice.random() < 0.7:
            damage_tensors(tensors, told, dice)
        if ending == "pt":
            torch.save(tensors, file)
        else:
            save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, file, told)
        if seed and dice.random() < 0.4:
            damage_bytes(file, dice)
        accepted += is_loaded_or_refused(read, file)
        is_loaded_or_refused(inspect, file)
    assert accepted < ROUNDS, "nothing was damaged"
    assert accepted or (layout.kind == "retention" and ending == "pt"), "the whole file is refused, too"
