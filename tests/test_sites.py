from __future__ import annotations

import pytest

from firstframe.errors import FirstFrameError
from firstframe.sites import SD15, Site

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
