"""``firstframe animate`` with weights of one's own, from files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from firstframe.bindings.diffusers import Prompts, pipeline
from firstframe.bindings.diffusers.animate import Animation, animate_image
from firstframe.bindings.diffusers.models import ModelFiles, load_model
from firstframe.cli.app import app
from firstframe.cli.model_options import parse_lora
from firstframe.clips.video import read_clip
from firstframe.errors import FirstFrameError
from firstframe.modules.i2v_adapter import I2VAdapter
from firstframe.modules.image_prompt import ImageTokenAdapter, Resampler, ResamplerConfig
from firstframe.modules.motion import MotionConfig, MotionModule
from firstframe.modules.retention import RetentionBranch, RetentionConfig
from firstframe.weights import I2V_ADAPTER, IMAGE_TOKENS, MOTION_MODULE, RETENTION, save, save_state_dict

sys.path.insert(0, str(Path(__file__).parents[1]))  # for what the tests share
from small_checkpoint import SMALL, ldm_checkpoint, small_networks, small_vision

FAST = ["--frames", "3", "--steps", "2", "--width", "64", "--height", "64", "--device", "cpu"]
MOTION = MotionConfig(SMALL.block_out_channels, SMALL.layers_per_block, True, 8, SMALL.num_heads)


def randomised(module: torch.nn.Module) -> Any:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    return module


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file for every option."""
    folder = tmp_path_factory.mktemp("weights")
    branch = RetentionBranch(RetentionConfig(SMALL, MOTION, (4, 4, 8, 8)))
    tokens = ImageTokenAdapter(SMALL.attention_sites, 64, SMALL.num_heads, 4)
    resampler = Resampler(ResamplerConfig(64, 64, 64, 4, depth=1))
    save_state_dict(folder / "checkpoint.safetensors", ldm_checkpoint(small_networks()), {})
    save(MOTION_MODULE, folder / "motion.safetensors", randomised(MotionModule(MOTION)))
    save(I2V_ADAPTER, folder / "adapter.safetensors", randomised(I2VAdapter(SMALL.attention_sites, SMALL.num_heads)))
    save(RETENTION, folder / "branch.safetensors", randomised(branch))
    save(RETENTION, folder / "both.safetensors", branch, motion=randomised(MotionModule(MOTION)))
    save(IMAGE_TOKENS, folder / "tokens.safetensors", randomised(tokens))
    named = {f"image_proj.{name}": tensor for name, tensor in randomised(resampler).state_dict().items()}
    save_state_dict(folder / "content.safetensors", named, {})
    save_state_dict(folder / "vision.safetensors", small_vision().state_dict(), {})
    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora"
    halves = {f"{layer}.up.weight": torch.ones(32, 1), f"{layer}.down.weight": torch.ones(1, 32)}
    save_state_dict(folder / "look.safetensors", halves, {})
    Image.new("RGB", (48, 40), "orange").save(folder / "image.png")
    return folder


def run(files: Path, out: Path, *options: str) -> Any:
    given = [str(files / option) if option.split(":")[0].endswith("safetensors") else option for option in options]
    return CliRunner().invoke(
        app, ["animate", str(files / "image.png"), "--prompt", "it jumps", "-o", str(out), *FAST, *given]
    )


BASE = ("--checkpoint", "checkpoint.safetensors", "--motion-module", "motion.safetensors")
PARTS = {
    "adapter": ("--i2v-adapter", "adapter.safetensors"),
    "branch": ("--retention-branch", "branch.safetensors"),
    "content": (
        "--content-adapter", "content.safetensors", "--projections", "tokens.safetensors",
        "--clip-vision", "vision.safetensors",
    ),
    "lora": ("--lora", "look.safetensors:0.5"),
}  # fmt: skip


def test_every_part_counts(files: Path, tmp_path: Path) -> None:
    clips = {}
    for name, options in {"none": (), **PARTS, "all": sum(PARTS.values(), ())}.items():
        result = run(files, tmp_path / f"{name}.webp", *BASE, *options)
        assert result.exit_code == 0, result.output
        clips[name] = read_clip(tmp_path / f"{name}.webp")
        assert clips[name].frames.shape == (3, 64, 64, 3)
    distinct = {clip.frames.numpy().tobytes() for clip in clips.values()}
    assert len(distinct) == len(clips)
    first = [clips[name].frames[0].float() for name in ("none", "adapter")]
    assert (first[0] - first[1]).abs().max() <= 2, "the first frame is held"
    model = json.loads(clips["all"].metadata["firstframe"])["model"]
    assert model["checkpoint"] == "checkpoint.safetensors" and model["loras"] == {"look.safetensors": 0.5}


def test_offloading_changes_no_bit(files: Path, tmp_path: Path) -> None:
    for name, options in {"kept": (), "moved": ("--offload",)}.items():
        assert run(files, tmp_path / f"{name}.gif", *BASE, *PARTS["content"], *options).exit_code == 0
    assert (tmp_path / "kept.gif").read_bytes() == (tmp_path / "moved.gif").read_bytes()


def test_offloading_brings_one_network_at_a_time(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(ModelFiles(files / "checkpoint.safetensors", files / "motion.safetensors"), offload=True)
    moves: list[tuple[str, str]] = []
    for network in (model.unet, model.checkpoint.vae, *model.checkpoint.text_encoders, model.parts.motion):
        name = type(network).__name__
        monkeypatch.setattr(network, "to", lambda device, name=name: moves.append((name, str(device))))
    model.prompts("a", "b", None)
    model.encode(torch.rand(1, 3, 16, 16))
    with model.sampling():
        assert moves[-2:] == [("UNet2DConditionModel", "cpu"), ("MotionModule", "cpu")]
    assert [name for name, _ in moves] == [
        *["CLIPTextModel"] * 2, *["AutoencoderKL"] * 2, "UNet2DConditionModel", "MotionModule", "MotionModule",
        "UNet2DConditionModel",
    ]  # fmt: skip


def test_what_the_negative_prompt_is_told_of_the_image(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of none under plain guidance, as IP-Adapter; of the image under dual guidance, as FirstFrame Sampler."""
    named = {"content_adapter": "content", "projections": "tokens", "clip_vision": "vision"}
    parts = {name: files / f"{stem}.safetensors" for name, stem in named.items()}
    model = load_model(ModelFiles(files / "checkpoint.safetensors", files / "motion.safetensors", **parts))
    told: list[Prompts] = []

    def sample(unet: Any, parts: Any, prompts: Prompts, *_: Any, **__: Any) -> torch.Tensor:
        told.append(prompts)
        return torch.zeros(1, 4, 3, 8, 8)

    monkeypatch.setattr(pipeline, "sample", sample)
    for image_scale in (None, 1.0):
        animation = Animation(("x",), frames=3, steps=1, width=64, height=64, image_scale=image_scale)
        animate_image(model, animation.prepare(files / "image.png"), animation)
    tokens = [(prompts.text[:, 77:], prompts.negative[:, 77:]) for prompts in told]
    assert not torch.allclose(*tokens[0]) and torch.equal(*tokens[1]) and tokens[0][0].shape == (1, 4, 64)


def test_the_branchs_own_motion_module(files: Path, tmp_path: Path) -> None:
    result = run(
        files, tmp_path / "a.gif", "--checkpoint", "checkpoint.safetensors", "--retention-branch", "both.safetensors"
    )
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--checkpoint", "checkpoint.safetensors"), "give a motion module"),
        (
            ("--checkpoint", "checkpoint.safetensors", "--retention-branch", "branch.safetensors"),
            "give a motion module",
        ),
        (("--motion-module", "motion.safetensors"), "motion module: needs --checkpoint"),
        (("--lora", "look.safetensors"), "lora: needs --checkpoint"),
        ((*BASE, "--content-adapter", "content.safetensors"), "CLIP ViT-H"),
        ((*BASE, "--retention"), "--retention-branch FILE"),
        ((*BASE, "--i2v-adapter", "motion.safetensors"), "an I2V adapter was expected"),
        ((*BASE, "--vae", "motion.safetensors"), "no autoencoder"),
        ((*BASE, "--frames", "9"), "8"),
        ((*BASE, "--lora", "look.safetensors:much"), "look.safetensors:0.8"),
    ],
)
def test_refused_in_one_line(files: Path, tmp_path: Path, options: tuple[str, ...], says: str) -> None:
    result = run(files, tmp_path / "a.gif", *options)
    assert result.exit_code == 1 and says in result.stderr.splitlines()[-1], result.output
    assert not list(tmp_path.iterdir())


def test_loras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_lora("a.safetensors") == (Path("a.safetensors"), 1.0)
    assert parse_lora("a.safetensors:-0.5") == (Path("a.safetensors"), -0.5)
    monkeypatch.chdir(tmp_path)
    Path("b:c").touch()
    assert parse_lora("b:c") == (Path("b:c"), 1.0)
    with pytest.raises(FirstFrameError, match="strength"):
        parse_lora("C:a.safetensors")
