"""Weights of one's own make the same clip in the host and without it, from the same files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sd
import comfy.utils
import pytest
import torch
from comfy.sdxl_clip import SDXLClipModel, SDXLTokenizer
from comfyui_firstframe_pack.firstframe.bindings.comfy.content_adapter import load_host_content_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.weights import load_in_host
from comfyui_firstframe_pack.firstframe.bindings.diffusers import clip_vocabulary
from comfyui_firstframe_pack.firstframe.bindings.diffusers.animate import Animation, animate_image
from comfyui_firstframe_pack.firstframe.bindings.diffusers.models import ModelFiles, load_model
from comfyui_firstframe_pack.firstframe.bindings.diffusers.text import encode_prompts
from comfyui_firstframe_pack.firstframe.weights import I2V_ADAPTER, MOTION_MODULE, RETENTION
from comfyui_firstframe_pack.nodes.adapter import ApplyAdapter
from comfyui_firstframe_pack.nodes.content import ApplyContentAdapter
from comfyui_firstframe_pack.nodes.motion import ApplyMotionModule
from comfyui_firstframe_pack.nodes.reference import EncodeReference
from comfyui_firstframe_pack.nodes.retention import ApplyRetention
from comfyui_firstframe_pack.nodes.sampler import Sampler
from conftest import HOST
from cut_down import Files, vision, write
from small import relative_error
from test_full_size import FOLDER, path_of
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from nodes import CLIPTextEncode, VAEDecode

pytestmark = pytest.mark.feature("Equal to the command line's result")

PROMPT, NEGATIVE, SIDE, FRAMES, STEPS, SEED = "a red fish swims to the left, isn't it?", "blurry", 64, 4, 4, 7
WHOLE = ("adapter", "retention", "content", "lora")
OPTIONS = {
    "adapter": {"i2v_adapter": "adapter"},
    "retention": {"retention": "retention"},
    "content": {"content_adapter": "content", "projections": "projections", "clip_vision": "vision"},
    "lora": {},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    with torch.inference_mode():
        return write(tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host has the same vocabulary; its environment does not have the package with it."""
    merges = (HOST / "comfy" / "sd1_tokenizer" / "merges.txt").read_text("utf-8")
    monkeypatch.setattr(clip_vocabulary, "_vocabulary", lambda: merges)


def image() -> Tensor:
    coarse = torch.rand(1, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, (70, 90), mode="bicubic").clamp(0, 1).movedim(1, -1)


def by_nodes(
    files: Files, parts: tuple[str, ...], scales: tuple[float, float], start: float, frames: int = FRAMES
) -> Tensor:
    """Frames by the stock loader, our nodes and the stock VAE Decode."""
    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(files.checkpoint))
    if "lora" in parts:
        lora = comfy.utils.load_torch_file(str(files.lora))
        model, clip = comfy.sd.load_lora_for_models(model, clip, lora, 0.7, 0.7)
    encoder = vision() if "content" in parts else None
    reference = EncodeReference.execute(image(), vae, SIDE, SIDE, "cover", encoder).args[0]
    prompts: list[Any] = [CLIPTextEncode().encode(clip, text)[0] for text in (PROMPT, NEGATIVE)]
    model = ApplyMotionModule.execute(model, load_in_host(MOTION_MODULE, files.motion), 1.0, "auto").args[0]
    if "adapter" in parts:
        adapter = load_in_host(I2V_ADAPTER, files.adapter)
        model = ApplyAdapter.execute(model, adapter, reference, 1.0, hold_first_frame=True).args[0]
    if "content" in parts:
        content = load_host_content_adapter(files.content, files.projections)
        model, *prompts = ApplyContentAdapter.execute(model, *prompts, content, reference, 1.0).args
    if "retention" in parts:
        branch = load_in_host(RETENTION, files.retention)
        prompts = list(ApplyRetention.execute(*prompts, branch, reference, 1.0, 0.0, 1.0).args)
    (latent,) = Sampler.execute(
        model, *prompts, reference, frames, SEED, STEPS, "ddim", "ddim_uniform", start, 0.5,
        image_scale=scales[0], text_scale=scales[1], image_start=0.0, image_end=1.0, text_start=0.0, text_end=1.0,
        parallel=1.0, rescale=0.0,
    ).args  # fmt: skip
    return VAEDecode().decode(vae, latent)[0]


def by_command(
    files: Files, parts: tuple[str, ...], scales: tuple[float, float], start: float, frames: int = FRAMES
) -> Tensor:
    """Frames as ``firstframe animate`` makes them."""
    named = {option: getattr(files, name) for part in parts for option, name in OPTIONS[part].items()}
    if "lora" in parts:
        named["loras"] = {files.lora: 0.7}
    model = load_model(ModelFiles(files.checkpoint, files.motion, **named))
    animation = Animation(
        (PROMPT,), NEGATIVE, frames, STEPS, seed=SEED, start=start, adapter="adapter" in parts,
        retention="retention" in parts, image_scale=scales[0], text_scale=scales[1], width=SIDE, height=SIDE,
        exact=False, scale_blur=False,  # as the nodes by themselves
    )  # fmt: skip
    return animate_image(model, animation.prepare(image()), animation)


@pytest.mark.parametrize(
    ("parts", "scales", "start"),
    [(("adapter",), (1.0, 7.5), 1.0), (WHOLE, (1.5, 4.0), 0.6), (("content", "adapter"), (1.0, 3.0), 1.0)],
    ids=["adapter", "everything", "content adapter"],
)
def test_the_same_frames(files: Files, parts: tuple[str, ...], scales: tuple[float, float], start: float) -> None:
    hosted, alone = by_nodes(files, parts, scales, start), by_command(files, parts, scales, start)
    assert hosted.shape == alone.shape == (FRAMES, SIDE, SIDE, 3)
    assert hosted.std() > 0.05, "a clip that shows something"
    assert relative_error(alone, hosted.cpu()) < 1e-3


def test_each_part_counts(files: Files) -> None:
    alone = by_command(files, (), (1.0, 4.0), 1.0)
    for part in WHOLE:
        assert relative_error(by_command(files, (part,), (1.0, 4.0), 1.0), alone) > 5e-3, part


@dataclass(frozen=True)
class FullSize:
    """Files of the published names and sizes."""

    checkpoint: Path
    motion: Path
    adapter: Path


@pytest.mark.slow
@pytest.mark.skipif(FOLDER is None, reason="FULL SIZE NOT TESTED: set FIRSTFRAME_FULL_SIZE, as in test_full_size.py")
def test_the_same_frames_at_full_size() -> None:
    files: Any = FullSize(*map(path_of, ("sd15-fp16", "animatediff-v1", "i2v-adapter")))
    arguments = (files, ("adapter",), (1.0, 7.5), 1.0, 8)
    hosted = by_nodes(*arguments).cpu()
    comfy.model_management.unload_all_models()
    alone = by_command(*arguments)
    print(f"relative error {relative_error(alone, hosted):.2e}, deviation of the frames {hosted.std():.3f}")
    assert relative_error(alone, hosted) < 1e-3


@pytest.mark.parametrize("prompt", ["Ünïcode — 猫 (a:1) isn't 123", "", "fish " * 120])
def test_tokens(prompt: str) -> None:
    """The host's tokenizer, without its weights in parentheses."""
    from comfy.sd1_clip import SDTokenizer

    rows = SDTokenizer().tokenize_with_weights(prompt, disable_weights=True)
    assert clip_vocabulary.tokenize(prompt).tolist() == [[token for token, _ in row] for row in rows]


def small_texts() -> list[Any]:
    """SDXL's two text encoders with random weights, in transformers' classes."""
    torch.manual_seed(0)
    common = {"vocab_size": 49408, "num_hidden_layers": 3, "eos_token_id": clip_vocabulary.END, "intermediate_size": 64}
    first = CLIPTextConfig(hidden_size=64, num_attention_heads=1, **common)
    second = CLIPTextConfig(hidden_size=128, num_attention_heads=2, projection_dim=128, hidden_act="gelu", **common)
    return [CLIPTextModel(first).eval(), CLIPTextModelWithProjection(second).eval()]


@pytest.mark.parametrize("prompt", [PROMPT, "", "fish " * 120])
def test_both_texts_of_sdxl(prompt: str) -> None:
    """States and pooled text are those of the host's own class."""
    encoders = small_texts()
    sizes = [encoder.config.to_dict() for encoder in encoders]
    theirs = SDXLClipModel(model_options={f"clip_{n}_model_config": size for n, size in zip("lg", sizes, strict=True)})
    for encoder, network in zip(encoders, (theirs.clip_l, theirs.clip_g), strict=True):
        weights = encoder.state_dict().items()
        bare = {name.removeprefix("text_model."): weight for name, weight in weights}
        network.load_sd({n if n.startswith("text_projection") else f"text_model.{n}": w for n, w in bare.items()})
    states, pooled = theirs.encode_token_weights(SDXLTokenizer().tokenize_with_weights(prompt))[:2]
    text = encode_prompts(encoders, [prompt])
    assert text.states.shape == states.shape and text.pooled is not None
    assert relative_error(text.states, states) < 1e-5 and relative_error(text.pooled, pooled) < 1e-5
