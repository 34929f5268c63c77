"""Motion LoRAs in AnimateDiff's layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from firstframe.errors import WeightsError
from firstframe.sites import SD15, motion_sites
from firstframe.weights import MOTION_MODULE, load, load_motion_lora
from firstframe.weights.keymaps import MOTION_LORA, to_theirs

V2_SITES = motion_sites(SD15.block_out_channels, SD15.layers_per_block, mid=True)


def published(rank: int = 2, narrower: int = 1) -> dict[str, Tensor]:
    """A LoRA with the names of AnimateDiff's for its motion module v2, ``narrower`` times."""
    state = {}
    for site, width in V2_SITES.items():
        block = f"{site.diffusers('motion_modules')}.temporal_transformer.transformer_blocks.0"
        for index in range(2):
            for name in "qkv":
                _add(state, f"{block}.attention_blocks.{index}.processor.to_{name}_lora", width // narrower, rank)
            _add(state, f"{block}.attention_blocks.{index}.processor.to_out_lora", width // narrower, rank)
    return state


def _add(state: dict[str, Tensor], name: str, width: int, rank: int) -> None:
    state[f"{name}.down.weight"] = torch.randn(rank, width)
    state[f"{name}.up.weight"] = torch.randn(width, rank)


def test_every_half_is_found(tmp_path: Path) -> None:
    state = published(narrower=40)
    assert len(state) == 336  # as the published files have
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "lora.ckpt")
    lora = load_motion_lora(tmp_path / "lora.ckpt")
    assert to_theirs(lora, MOTION_LORA).keys() == state.keys()
    found = lora["sites.mid_0_0.attentions.1.to_out.lora_up.weight"]
    path = "mid_block.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.1.processor"
    assert torch.equal(found, state[f"{path}.to_out_lora.up.weight"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state, name: state.pop(name), "other half"),
        (lambda state, name: state.update({name: torch.zeros(3, 3)}), "do not fit"),
        (lambda state, name: state.update({"something.weight": torch.zeros(1)}), "something.weight"),
    ],
)
@pytest.mark.parametrize("half", ["up", "down"])
def test_what_is_wrong_is_named(tmp_path: Path, change, says: str, half: str) -> None:
    state = published(narrower=40)
    change(state, next(name for name in state if f".{half}." in name))
    save_file(state, tmp_path / "lora.safetensors")
    with pytest.raises(WeightsError, match=says) as refused:
        load_motion_lora(tmp_path / "lora.safetensors")
    assert "lora.safetensors" in str(refused.value)


def test_neither_is_taken_for_the_other(tmp_path: Path, oracle_dir: Path) -> None:
    save_file(published(narrower=40), tmp_path / "lora.safetensors")
    with pytest.raises(WeightsError, match=r"motion module was expected.*AnimateDiff motion LoRA"):
        load(MOTION_MODULE, tmp_path / "lora.safetensors")
    (motion,) = oracle_dir.glob("motion.*")
    with pytest.raises(WeightsError, match=r"motion LoRA was expected.*AnimateDiff"):
        load_motion_lora(motion)
