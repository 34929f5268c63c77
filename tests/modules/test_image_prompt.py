"""The resampler against diffusers' own of IP-Adapter Plus, and the attention to image tokens."""

from __future__ import annotations

import torch
from diffusers.models.embeddings import IPAdapterPlusImageProjection

from firstframe.modules.image_prompt import ImageTokenAdapter, Resampler, ResamplerConfig
from firstframe.sites import Site

SMALL = ResamplerConfig(feature_dim=20, width=32, token_dim=24, num_tokens=5, depth=3, head_dim=8)


def in_diffusers(name: str) -> str:
    """A published name under diffusers' names: its attention and feed-forward come apart differently."""
    layer, _, rest = name.removeprefix("layers.").partition(".")
    if not name.startswith("layers."):
        return name
    part, _, rest = rest.partition(".")
    if part == "1":
        inside = {"0": "ff.0", "1": "ff.1.net.0.proj", "3": "ff.1.net.2"}
        index, _, kind = rest.partition(".")
        return f"layers.{layer}.{inside[index]}.{kind}"
    places = {"norm1": "ln0", "norm2": "ln1", "to_q": "attn.to_q", "to_out": "attn.to_out.0"}
    place, _, kind = rest.partition(".")
    return f"layers.{layer}.{places[place]}.{kind}"


def test_equals_diffusers(generator: torch.Generator) -> None:
    ours = Resampler(SMALL)
    for parameter in ours.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / max(parameter.shape[-1], 4) ** 0.5
    theirs = IPAdapterPlusImageProjection(20, 24, 32, 3, 8, 4, 5)
    renamed = {}
    for name, tensor in ours.state_dict().items():
        if name.endswith("to_kv.weight"):
            layer = name.split(".")[1]
            renamed[f"layers.{layer}.attn.to_k.weight"], renamed[f"layers.{layer}.attn.to_v.weight"] = tensor.chunk(2)
        else:
            renamed[in_diffusers(name)] = tensor
    theirs.load_state_dict(renamed)
    features = torch.randn(2, 7, 20, generator=generator)
    torch.testing.assert_close(ours(features), theirs(features), rtol=1e-4, atol=1e-5)


def test_published_sizes() -> None:
    """Tensors and parameters of image_proj in ip-adapter-plus_sd15."""
    with torch.device("meta"):
        state = Resampler(ResamplerConfig()).state_dict()
    assert state["latents"].shape == (1, 16, 768)
    assert state["proj_in.weight"].shape == (768, 1280)
    assert state["layers.3.1.3.weight"].shape == (768, 3072)


def test_tokens_are_attended_at_each_site(generator: torch.Generator) -> None:
    """Equation 5 of IP-Adapter with one token: its value, whatever the query."""
    adapter = ImageTokenAdapter({Site("down", 0, 0): 8, Site("mid", 0, 0): 16}, token_dim=6, num_heads=2)
    assert set(adapter.state_dict()) == {
        f"sites.{site}.to_{name}_ip.weight" for site in ("down_0_0", "mid_0_0") for name in ("k", "v")
    }
    query = torch.randn(2, 5, 16, generator=generator)
    tokens = torch.randn(2, 1, 6, generator=generator)
    leaf = adapter[Site("mid", 0, 0)]
    torch.testing.assert_close(leaf(query, tokens), leaf.to_v_ip(tokens).expand(2, 5, 16))
