from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from firstframe.errors import WeightsError
from firstframe.weights.keymaps import (
    ANIMATEDIFF,
    OFFICIAL_ADAPTER,
    OFFICIAL_IMAGE_TOKENS,
    KeyMap,
    to_ours,
    to_theirs,
)

PUBLISHED = [
    (ANIMATEDIFF, "motion"),
    (OFFICIAL_ADAPTER, "i2v_module"),
    (OFFICIAL_IMAGE_TOKENS, "ip"),
]


@pytest.mark.parametrize(("keymap", "name"), PUBLISHED)
def test_renaming_has_an_inverse(keymap: KeyMap, name: str, oracle_dir) -> None:
    state = load_file(oracle_dir / f"{name}.safetensors")
    renamed = to_ours(state, keymap)
    assert all(key.startswith("sites.") for key in renamed)
    back = to_theirs(renamed, keymap)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_names_at_a_site() -> None:
    theirs = "mid_block.attentions.0.transformer_blocks.0.attn1.to_out_ff.bias"
    assert OFFICIAL_ADAPTER.ours(theirs) == "sites.mid_0_0.to_out.bias"
    theirs = "up_blocks.3.motion_modules.2.temporal_transformer.transformer_blocks.0.norms.1.weight"
    assert ANIMATEDIFF.ours(theirs) == "sites.up_3_2.norms.1.weight"


def test_every_name_of_the_unet_is_dropped(oracle_dir) -> None:
    names = load_file(oracle_dir / "base.safetensors")
    for keymap, _ in PUBLISHED:
        assert all(keymap.ours(name) is None for name in names)


@pytest.mark.parametrize(
    "name",
    [
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_x_ff.weight",
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q_ff.bias",
        "decoder.conv_in.weight",
        "down_blocks.0.attentions.0.transformer_blocks.0.attn3.to_q.weight",
        "down_blocks.0.attentions.0.transformer_blocks.100.attn1.to_q.weight",
    ],
)
def test_an_unknown_name_is_an_error_that_names_it(name: str) -> None:
    with pytest.raises(WeightsError, match=name):
        OFFICIAL_ADAPTER.ours(name)


def test_an_unknown_name_of_ours_is_an_error() -> None:
    with pytest.raises(WeightsError, match="to_z"):
        OFFICIAL_ADAPTER.theirs("sites.down_0_0.to_z.weight")
