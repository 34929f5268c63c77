from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from firstframe.modules.backend import scaled_dot_product_attention
from firstframe.modules.i2v_adapter import CrossFrameAttention, I2VAdapter
from firstframe.sites import SD15, Site

SITES = {Site("down", 0, 0): 8, Site("mid", 0, 0): 16}


def test_frames_do_not_mix(generator: torch.Generator) -> None:
    leaf = CrossFrameAttention(8, 2)
    torch.nn.init.normal_(leaf.to_out.weight, generator=generator)
    x = torch.randn(2, 3, 4, 8, generator=generator)
    key0, value0 = torch.randn(2, 2, 4, 8, generator=generator)
    together = leaf(x, key0, value0)
    for frame in range(3):
        alone = leaf(x[:, frame : frame + 1], key0, value0)
        torch.testing.assert_close(together[:, frame : frame + 1], alone)


def test_untrained_adds_exact_zero(generator: torch.Generator) -> None:
    leaf = CrossFrameAttention(8, 2)
    x = torch.randn(1, 3, 4, 8, generator=generator)
    key0, value0 = torch.randn(2, 1, 4, 8, generator=generator)
    assert leaf(x, key0, value0).eq(0).all()


def test_state_dict_names_sites() -> None:
    assert set(I2VAdapter(SITES, 2).state_dict()) == {
        f"sites.{site}.{name}"
        for site in ("down_0_0", "mid_0_0")
        for name in ("to_q.weight", "to_out.weight", "to_out.bias")
    }


def test_size_for_stable_diffusion() -> None:
    with torch.device("meta"):
        adapter = I2VAdapter(SD15.attention_sites, SD15.num_heads)
    assert sum(p.numel() for p in adapter.parameters()) == 24_793_280


def test_training_starts_from_the_base_queries(generator: torch.Generator) -> None:
    base = {site: torch.randn(width, width, generator=generator) for site, width in SITES.items()}
    adapter = I2VAdapter(SITES, 2)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    adapter.copy_queries(base.__getitem__)
    for site in adapter:
        assert torch.equal(adapter[site].to_q.weight, base[site])
        assert adapter[site].to_out.weight.eq(0).all()
        assert adapter[site].to_out.bias.eq(0).all()


def test_scale_multiplies_the_residual(generator: torch.Generator) -> None:
    adapter = I2VAdapter(SITES, 2)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    x = torch.randn(1, 3, 4, 8, generator=generator)
    key0, value0 = torch.randn(2, 1, 4, 8, generator=generator)
    site = Site("down", 0, 0)
    torch.testing.assert_close(adapter(site, x, key0, value0, scale=0.25), adapter(site, x, key0, value0) / 4)


def test_large_batches_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value = torch.randn(3, 7, 5, 8)
    whole = scaled_dot_product_attention(query, key, value, 2)
    monkeypatch.setattr("firstframe.modules.backend.BATCH_LIMIT", 3)
    attend, batches = functional.scaled_dot_product_attention, []
    monkeypatch.setattr(
        functional, "scaled_dot_product_attention", lambda q, k, v: batches.append(len(q)) or attend(q, k, v)
    )
    torch.testing.assert_close(scaled_dot_product_attention(query, key, value, 2), whole)
    assert batches == [3, 3, 1]
