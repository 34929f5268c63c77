from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock

from firstframe.bindings.diffusers import unet_config
from firstframe.errors import FirstFrameError
from firstframe.modules.i2v_adapter import I2VAdapter
from firstframe.sites import SD15, SDXL, Site, UNetConfig

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import SDXL_UNET

# diffusers name, LDM name and width of the spatial transformers of Stable Diffusion 1.5
SD15_ATTENTION = [
    ("down_blocks.0.attentions.0", ("input", 1), 320),
    ("down_blocks.0.attentions.1", ("input", 2), 320),
    ("down_blocks.1.attentions.0", ("input", 4), 640),
    ("down_blocks.1.attentions.1", ("input", 5), 640),
    ("down_blocks.2.attentions.0", ("input", 7), 1280),
    ("down_blocks.2.attentions.1", ("input", 8), 1280),
    ("mid_block.attentions.0", ("middle", 0), 1280),
    ("up_blocks.1.attentions.0", ("output", 3), 1280),
    ("up_blocks.1.attentions.1", ("output", 4), 1280),
    ("up_blocks.1.attentions.2", ("output", 5), 1280),
    ("up_blocks.2.attentions.0", ("output", 6), 640),
    ("up_blocks.2.attentions.1", ("output", 7), 640),
    ("up_blocks.2.attentions.2", ("output", 8), 640),
    ("up_blocks.3.attentions.0", ("output", 9), 320),
    ("up_blocks.3.attentions.1", ("output", 10), 320),
    ("up_blocks.3.attentions.2", ("output", 11), 320),
]


def test_names_of_stable_diffusion() -> None:
    sites = SD15.attention_sites
    assert [(s.diffusers("attentions"), s.ldm(2), width) for s, width in sites.items()] == SD15_ATTENTION


@pytest.mark.parametrize("layers_per_block", [1, 2, 3])
def test_ldm_names_have_an_inverse(layers_per_block: int) -> None:
    sites = [Site("down", 2, 0), Site("mid", 0, 0), Site("up", 0, layers_per_block), Site("up", 3, 1)]
    assert [Site.from_ldm(*site.ldm(layers_per_block), layers_per_block) for site in sites] == sites


def test_keys_have_an_inverse() -> None:
    sites = list(SD15.motion_sites(mid=True))
    assert [Site.from_key(site.key) for site in sites] == sites
    assert Site("down", 0, 1).key == "down_0_1"


@pytest.mark.parametrize("key", ["side_0_0", "down_0", "down_0_1_0", "mid_0_0_100", ""])
def test_a_strange_key_is_refused(key: str) -> None:
    with pytest.raises(FirstFrameError, match="down_0_1"):
        Site.from_key(key)


def test_motion_sites_of_stable_diffusion() -> None:
    assert len(SD15.motion_sites(mid=False)) == 20
    assert len(SD15.motion_sites(mid=True)) == 21
    assert SD15.motion_sites(mid=True)[Site("up", 0, 2)] == 1280
    assert SD15.motion_sites(mid=True)[Site("up", 3, 0)] == 320


# the same of SDXL, with how many transformer blocks there are, which are counted from 0 in each
SDXL_ATTENTION = [
    ("down_blocks.1.attentions.0", ("input", 4), 640, 2),
    ("down_blocks.1.attentions.1", ("input", 5), 640, 2),
    ("down_blocks.2.attentions.0", ("input", 7), 1280, 10),
    ("down_blocks.2.attentions.1", ("input", 8), 1280, 10),
    ("mid_block.attentions.0", ("middle", 0), 1280, 10),
    ("up_blocks.0.attentions.0", ("output", 0), 1280, 10),
    ("up_blocks.0.attentions.1", ("output", 1), 1280, 10),
    ("up_blocks.0.attentions.2", ("output", 2), 1280, 10),
    ("up_blocks.1.attentions.0", ("output", 3), 640, 2),
    ("up_blocks.1.attentions.1", ("output", 4), 640, 2),
    ("up_blocks.1.attentions.2", ("output", 5), 640, 2),
]


def test_sdxl_has_70_transformer_blocks() -> None:
    expected = [
        (f"{layer}.transformer_blocks.{depth}", host, depth, width, width // 64)
        for layer, host, width, depths in SDXL_ATTENTION
        for depth in range(depths)
    ]
    widths, heads = SDXL.attention_sites, SDXL.heads
    found = [(s.diffusers_transformer, s.ldm(2), s.depth, width, heads[s]) for s, width in widths.items()]
    assert found == expected
    assert len(found) == 70
    assert [Site.from_key(site.key) for site in widths] == list(widths)
    assert [Site.from_ldm(*site.ldm(2), 2, site.depth) for site in widths] == list(widths)


def test_keys_of_stable_diffusion_have_no_depth() -> None:
    assert {site.key for site in SD15.attention_sites} <= {site.key for site in SD15.motion_sites(mid=True)}
    assert Site("down", 1, 0, 1).key == "down_1_0_1"


@pytest.mark.parametrize(("config", "changes"), [(SD15, {}), (SDXL, SDXL_UNET)], ids=["SD15", "SDXL"])
def test_the_table_is_that_of_diffusers_own_unet(config: UNetConfig, changes: dict[str, Any]) -> None:
    base = {"block_out_channels": config.block_out_channels, "cross_attention_dim": config.cross_attention_dim}
    with torch.device("meta"):
        unet = UNet2DConditionModel(**{"attention_head_dim": config.num_heads} | base | changes)
    blocks = {
        name: (block.attn1.to_q.in_features, block.attn1.heads)
        for name, block in unet.named_modules()
        if isinstance(block, BasicTransformerBlock)
    }
    sites, heads = config.attention_sites, config.heads
    assert {site.diffusers_transformer: (width, heads[site]) for site, width in sites.items()} == blocks
    assert unet_config(unet) == config


def test_heads_must_be_known() -> None:
    with pytest.raises(FirstFrameError, match="attention heads"):
        replace(SD15, num_heads=None).heads  # noqa: B018


def test_an_adapter_has_the_papers_number_of_parameters() -> None:
    """arXiv 2312.16693 speaks of about 204 million for SDXL."""
    with torch.device("meta"):
        adapters = [I2VAdapter(config.attention_sites, config.heads) for config in (SDXL, SD15)]
    counts = [sum(parameter.numel() for parameter in adapter.parameters()) for adapter in adapters]
    assert counts == [204_883_200, 24_793_280]
