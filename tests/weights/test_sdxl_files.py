"""Files for SDXL: told apart from those for Stable Diffusion 1.5 by their names, saved and renamed as those are."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from firstframe.errors import WeightsError
from firstframe.modules.i2v_adapter import I2VAdapter
from firstframe.modules.image_prompt import ImageTokenAdapter, Resampler, ResamplerConfig
from firstframe.modules.motion import MotionConfig, MotionModule
from firstframe.modules.retention import RetentionBranch, RetentionConfig
from firstframe.sites import SD15, SDXL, Site, UNetConfig
from firstframe.weights import (
    I2V_ADAPTER,
    IMAGE_TOKENS,
    MOTION_MODULE,
    RESAMPLER,
    RETENTION,
    load,
    load_metadata,
    save,
)
from firstframe.weights.convert import to_own_layout, to_published_layout
from firstframe.weights.inspect import inspect
from firstframe.weights.keymaps import (
    ANIMATEDIFF,
    HOTSHOT,
    IP_ADAPTER_RESAMPLER,
    IP_ADAPTER_SDXL,
    OFFICIAL_ADAPTER,
    to_theirs,
)
from firstframe.weights.unet_names import unet_tensors

sys.path.insert(0, str(Path(__file__).parents[1]))
from synthetic import shapes

SMALL = UNetConfig(
    (32, 64, 128), 1, (False, True, True), None, 16, depths=(1, 1, 2), head_channels=64, pooled_channels=8
)


def small(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor as a number that takes all of its shape: files of full size would be hundreds of megabytes."""
    return {name: torch.zeros(1).expand(tensor.shape) for name, tensor in tensors.items()}


def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tensors: dict[str, Tensor]) -> Path:
    """A file of which loaders see ``tensors``."""
    path = tmp_path / "x.safetensors"
    save_file({"nothing": torch.zeros(1)}, path)
    monkeypatch.setattr("firstframe.weights.contents.load_state_dict", lambda _: small(tensors))
    return path


@pytest.mark.parametrize(
    ("keymap", "max_frames", "expected"),
    [
        (ANIMATEDIFF, 32, {"norm_over_frames": True, "betas": "animatediff_sdxl"}),
        (HOTSHOT, 24, {"pooled_unet_norms": True, "betas": "sdxl"}),
    ],
    ids=["AnimateDiff", "Hotshot-XL"],
)
def test_motion_modules_are_told_apart_by_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keymap, max_frames: int, expected: dict[str, object]
) -> None:
    config = MotionConfig(SDXL.block_out_channels, 2, False, max_frames, **expected)
    with torch.device("meta"):
        state = MotionModule(config).state_dict()
    assert load(MOTION_MODULE, read(tmp_path, monkeypatch, to_theirs(state, keymap)), dtype=None).config == config


def test_names_of_hotshot() -> None:
    theirs = "up_blocks.2.temporal_attentions.1.transformer_blocks.0.attention_blocks.1.pos_encoder.positional_encoding"
    assert HOTSHOT.ours(theirs) == "sites.up_2_1.attentions.1.pe"
    assert HOTSHOT.theirs("sites.up_2_1.attentions.1.pe") == theirs


def test_ip_adapter_plus_for_sdxl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        tokens = ImageTokenAdapter(SDXL.attention_sites, 2048, SDXL.heads)
        resampler = Resampler(ResamplerConfig(width=1280, token_dim=2048))
    projections = to_theirs(tokens.state_dict(), IP_ADAPTER_SDXL)
    assert projections["ip_adapter.1.to_k_ip.weight"].shape == (640, 2048)
    assert projections["ip_adapter.139.to_k_ip.weight"].shape == (1280, 2048)
    assert IP_ADAPTER_SDXL.ours("ip_adapter.11.to_k_ip.weight") == "sites.down_2_0_1.to_k_ip.weight"
    path = read(tmp_path, monkeypatch, projections | to_theirs(resampler.state_dict(), IP_ADAPTER_RESAMPLER))
    loaded = load(IMAGE_TOKENS, path, dtype=None)
    assert (loaded.heads, loaded.token_dim, loaded.num_tokens) == (SDXL.heads, 2048, 16)
    assert load(RESAMPLER, path, dtype=None).config == resampler.config


@pytest.mark.parametrize("number", [2, 141])
def test_a_number_that_is_no_text_attention(number: int) -> None:
    with pytest.raises(WeightsError, match="odd numbers to 139"):
        IP_ADAPTER_SDXL.ours(f"ip_adapter.{number}.to_k_ip.weight")


def test_an_adapter_goes_through_every_layout(tmp_path: Path) -> None:
    adapter = I2VAdapter(SMALL.attention_sites, SMALL.heads)
    own, theirs, back = (tmp_path / f"{name}.safetensors" for name in ("own", "theirs", "back"))
    save(I2V_ADAPTER, own, adapter, dtype=torch.float32)
    assert json.loads(load_metadata(own)["firstframe.config"]) == {"head_channels": 64}
    to_published_layout(own, theirs, "i2v_adapter")
    to_own_layout(theirs, back, "i2v_adapter")
    for path in (own, back):
        again = load(I2V_ADAPTER, path)
        assert again.heads == adapter.heads == {**dict.fromkeys(adapter, 1), **dict.fromkeys(_wide(adapter), 2)}
        assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in adapter.state_dict().items())


def _wide(adapter: I2VAdapter) -> list[Site]:
    return [site for site, width in adapter.widths.items() if width == 128]


def test_inspect_says_what_an_adapter_lacks(tmp_path: Path) -> None:
    sites = [site for site in SDXL.attention_sites if site != Site("up", 0, 1, 3)]
    names = [f"sites.{site.key}.to_q.weight" for site in sites]
    save_file({OFFICIAL_ADAPTER.theirs(name): torch.zeros(1) for name in names}, tmp_path / "x.safetensors")
    (part,) = inspect(tmp_path / "x.safetensors").parts
    assert (len(part.sites), part.missing) == (69, (Site("up", 0, 1, 3),))


def test_a_branch_is_saved_with_all_that_its_unet_is(tmp_path: Path) -> None:
    config = RetentionConfig(
        SMALL, MotionConfig((32, 64, 128), 1, False, 8, norm_over_frames=True, betas="sdxl"), (2, 2, 4, 4)
    )
    branch = RetentionBranch(config)
    save(RETENTION, tmp_path / "x.safetensors", branch, dtype=torch.float32)
    again = load(RETENTION, tmp_path / "x.safetensors")
    assert again.config == config
    assert again.state_dict().keys() == branch.state_dict().keys()
    assert again.add_embedding.linear_1.weight.shape == (4 * 32, 8)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"depths": [1, 1]}, "depths has 2 entries, not 3"),
        ({"depths": [1, 1, 65]}, "depths is 65; expected 1 to 64"),
        ({"head_channels": 48}, "attention heads of 48 channels"),
        ({"head_channels": None}, "neither num_heads nor head_channels"),
        ({"betas": "cosine"}, "betas is 'cosine'; expected one of animatediff_sdxl, sdxl"),
    ],
)
def test_a_setting_out_of_its_bounds(tmp_path: Path, changed: dict[str, object], says: str) -> None:
    config = RetentionConfig(SMALL, MotionConfig((32, 64, 128), 1, False, 8, betas="sdxl"), (2, 2, 4, 4))
    save(RETENTION, tmp_path / "x.safetensors", RetentionBranch(config), dtype=torch.float32)
    metadata = load_metadata(tmp_path / "x.safetensors")
    stored = json.loads(metadata["firstframe.config"])
    (stored["motion"] if "betas" in changed else stored["unet"]).update(changed)
    branch = RetentionBranch(config).state_dict()
    save_file(branch, tmp_path / "x.safetensors", {**metadata, "firstframe.config": json.dumps(stored)})
    with pytest.raises(WeightsError, match=says):
        load(RETENTION, tmp_path / "x.safetensors")


@pytest.mark.parametrize("unet", [SD15, SDXL], ids=["SD15", "SDXL"])
def test_what_sd15_files_say_has_not_changed(tmp_path: Path, unet: UNetConfig) -> None:
    """The names and entries of their metadata: an older version reads them."""
    with torch.device("meta"):
        adapter = I2VAdapter(unet.attention_sites, unet.heads)
    told = I2V_ADAPTER.config(adapter)
    assert (told.num_heads, told.head_channels) == ((8, None) if unet is SD15 else (None, 64))
    save(I2V_ADAPTER, tmp_path / "x.safetensors", I2VAdapter({Site("down", 0, 0): 32}, 8), dtype=torch.float32)
    assert load_metadata(tmp_path / "x.safetensors")["firstframe.config"] == '{"num_heads": 8}'


def test_a_unet_changes_its_names_and_back() -> None:
    host = {name: tensor for name, tensor in shapes("sdxl-base").items() if name.startswith("model.diffusion_model.")}
    diffusers = unet_tensors(host, "diffusers")
    assert len(diffusers) == len(host) == 1680
    assert "add_embedding.linear_2.bias" in diffusers
    assert {name: tensor.shape for name, tensor in unet_tensors(diffusers, "host").items()} == {
        name: tensor.shape for name, tensor in host.items()
    }
