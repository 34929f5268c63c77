"""Training inside the host: on a small model, and in the real server on its own dataset nodes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion
from comfyui_firstframe_pack.firstframe.bindings.comfy.training import frozen_base
from comfyui_firstframe_pack.firstframe.bindings.comfy.weights import load_in_host
from comfyui_firstframe_pack.firstframe.clips.video import write_clip
from comfyui_firstframe_pack.firstframe.errors import FirstFrameError, ModelMismatchError
from comfyui_firstframe_pack.firstframe.training.comfy import Settings, as_clips, text_of, train_in_host
from comfyui_firstframe_pack.firstframe.weights import I2V_ADAPTER, RETENTION, load_metadata, save
from comfyui_firstframe_pack.nodes.train import _plot
from harness import Server
from small import FRAMES, SIDE, conditioning, small_model, small_motion
from small_sdxl import SMALL_SDXL, prompt, small_sdxl

SETTINGS = Settings(steps=6, learning_rate=1e-2, num_frames=FRAMES, drop_text=0.3, checkpointing=False, seed=3)
LOADER = "LoadVideoTextDataSetFromFolder"


def sd15() -> ModelPatcher:
    return apply_motion(small_model(), small_motion(), 1.0, "auto")


def sdxl() -> ModelPatcher:
    motion = small_motion(SMALL_SDXL, mid=False, norm_over_frames=True, betas="animatediff_sdxl")
    return apply_motion(small_sdxl(), motion, 1.0, "auto")


@pytest.fixture(params=[sd15, sdxl])
def model(request: pytest.FixtureRequest) -> ModelPatcher:
    made: ModelPatcher = request.param()
    return made


def numbers(*shape: int, seed: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def clips(model: ModelPatcher) -> Any:
    """Two clips, of one frame more than a step sees."""
    latents = [{"samples": 5 * numbers(FRAMES + 1, 4, SIDE, SIDE, seed=seed)} for seed in (1, 2)]
    images = [numbers(FRAMES + 1, 8 * SIDE, 8 * SIDE, 3, seed=seed) for seed in (3, 4)]
    return as_clips(latents, [prompt(1), prompt(2)], images, model.model.process_latent_in)


def trained(model: ModelPatcher, kind: str, **changes: Any) -> Any:
    settings = Settings(**{**vars(SETTINGS), **changes})
    empty = text_of(prompt(5))
    return train_in_host(kind, frozen_base(model), clips(model), empty, settings, lambda *_: None)


@pytest.mark.parametrize("kind", ["adapter", "retention"])
def test_a_seed_trains_the_same_part_and_leaves_the_model_as_it_was(model: ModelPatcher, kind: str) -> None:
    before = copy.deepcopy(model.model.state_dict())
    (first, losses), (second, again) = (trained(model, kind) for _ in range(2))
    assert losses == again and len(losses) == SETTINGS.steps
    assert all(torch.equal(weight, second.state_dict()[name]) for name, weight in first.state_dict().items())
    changed = [name for name, weight in model.model.state_dict().items() if not torch.equal(weight, before[name])]
    assert not [name for name in changed if not name.startswith("model_sampling.")], "the schedule is a patch"


@pytest.mark.parametrize("kind", ["adapter", "retention"])
def test_the_loss_falls(model: ModelPatcher, kind: str) -> None:
    _, losses = trained(model, kind, steps=60)
    assert sum(losses[-10:]) < 0.95 * sum(losses[:10])


@pytest.mark.parametrize("kind", ["adapter", "retention"])
def test_recomputed_activations_train_the_same(model: ModelPatcher, kind: str) -> None:
    (plain, _), (recomputed, _) = (trained(model, kind, checkpointing=flag) for flag in (False, True))
    for name, weight in plain.state_dict().items():
        torch.testing.assert_close(recomputed.state_dict()[name], weight, atol=1e-4, rtol=1e-3)


def test_a_part_for_sdxl_is_saved_and_loaded(tmp_path: Path) -> None:
    """The file loads by its names, applies to the model, and changes what it predicts."""
    model = sdxl()
    adapter, _ = trained(model, "adapter")
    branch, _ = trained(model, "retention")
    save(I2V_ADAPTER, tmp_path / "adapter.safetensors", adapter)
    save(RETENTION, tmp_path / "branch.safetensors", branch)
    assert load_in_host(RETENTION, tmp_path / "branch.safetensors").model.config.unet == SMALL_SDXL
    loaded = load_in_host(I2V_ADAPTER, tmp_path / "adapter.safetensors")
    assert loaded.model.heads == SMALL_SDXL.heads and loaded.model.widths == SMALL_SDXL.attention_sites
    apply_adapter(model, loaded, 1.0)


def test_sdxl_needs_pooled_text() -> None:
    latents = [{"samples": numbers(FRAMES, 4, SIDE, SIDE, seed=0)}]
    clips = as_clips(latents, [conditioning(1)], [], lambda latents: latents)
    with pytest.raises(ModelMismatchError, match="pooled text"):
        train_in_host("adapter", frozen_base(sdxl()), clips, None, SETTINGS, lambda *_: None)


def test_what_is_missing_is_named(model: ModelPatcher) -> None:
    with pytest.raises(ModelMismatchError, match="no motion module"):
        frozen_base(small_model())
    one_frame = [{"samples": numbers(1, 4, SIDE, SIDE, seed=0)}]
    with pytest.raises(FirstFrameError, match=r"clip 0 has latents of shape .*Get Video Components"):
        as_clips(one_frame, [conditioning(1)], [], lambda latents: latents)
    with pytest.raises(FirstFrameError, match="1 latents, 2 texts"):
        as_clips(one_frame, [conditioning(1), conditioning(2)], [], lambda latents: latents)


def test_the_plot_shows_the_loss() -> None:
    plot = _plot([1.0, 0.5, 0.25])
    assert plot.shape == (1, 256, 512, 3) and 0 < (plot[..., 0] == 0).float().mean() < 0.1


def write_clips(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(2):
        frames = (255 * numbers(1, 64, 64, 3, seed=index)).to(torch.uint8).repeat(6, 1, 1, 1)
        for number in range(6):
            frames[number, 20:40, 6 * number : 6 * number + 20] = 255
        write_clip(folder / f"{index}.mp4", frames)
        (folder / f"{index}.txt").write_text("a star moves right")


def graph(kind: str, file: str) -> dict[str, Any]:
    """From clips in a folder to a trained part, which the same graph samples with."""
    train: dict[str, Any] = {
        "model": ["1", 0],
        "latents": ["4", 0],
        "conditioning": ["4", 1],
        "steps": 3,
        "learning_rate": 1e-3,
        "frames": 4,
        "drop_text": 0.1,
        "gradient_checkpointing": True,
        "seed": 1,
        "file_name": file,
        "empty_text": ["5", 0],
    }
    if kind == "Retention":
        train["images"] = ["3", 0]
    return {
        "1": {"class_type": "FirstFrameLoadTinyModel", "inputs": {}},
        "2": {"class_type": LOADER, "inputs": {"folder": "training_clips"}},
        "3": {"class_type": "GetVideoComponents", "inputs": {"video": ["2", 0]}},
        "4": {
            "class_type": "MakeTrainingDataset",
            "inputs": {"images": ["3", 0], "vae": ["1", 2], "clip": ["1", 1], "texts": ["2", 1]},
        },
        "5": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}},
        "6": {"class_type": f"FirstFrameTrain{kind}", "inputs": train},
        "7": {"class_type": "LossGraphNode", "inputs": {"loss": ["6", 1], "filename_prefix": "loss"}},
    }


def _then_sample(nodes: dict[str, Any], kind: str) -> None:
    """Add what makes a clip with the part that was trained."""
    size = {"width": 64, "height": 64}
    nodes["8"] = {"class_type": "FirstFrameExamplePicture", "inputs": {}}
    nodes["9"] = {
        "class_type": "FirstFrameEncodeReference",
        "inputs": {"image": ["8", 0], "vae": ["1", 2], **size, "fit": "cover"},
    }
    model, positive, negative = ["1", 0], ["5", 0], ["5", 0]
    if kind == "Adapter":
        applied = {
            "model": model,
            "adapter": ["6", 0],
            "reference": ["9", 0],
            "strength": 1.0,
            "hold_first_frame": True,
        }
        nodes["10"], model = {"class_type": "FirstFrameApplyAdapter", "inputs": applied}, ["10", 0]
    else:
        both = {"positive": positive, "negative": negative, "retention": ["6", 0], "reference": ["9", 0]}
        strength = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
        nodes["10"] = {"class_type": "FirstFrameApplyRetention", "inputs": {**both, **strength}}
        positive, negative = ["10", 0], ["10", 1]
    nodes["11"] = {"class_type": "EmptyLatentImage", "inputs": {**size, "batch_size": 4}}
    sampler = {"seed": 1, "steps": 2, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    links = {"model": model, "positive": positive, "negative": negative, "latent_image": ["11", 0]}
    nodes["14"] = {"class_type": "KSampler", "inputs": {**sampler, **links}}
    nodes["15"] = {"class_type": "VAEDecode", "inputs": {"samples": ["14", 0], "vae": ["1", 2]}}
    nodes["16"] = {"class_type": "PreviewImage", "inputs": {"images": ["15", 0]}}


@pytest.mark.feature("Training on Make Training Dataset")
@pytest.mark.parametrize("kind", ["Adapter", "Retention"])
def test_a_part_is_trained_and_used_in_one_graph(server: Server, kind: str) -> None:
    if LOADER not in server.get("object_info"):
        pytest.skip("this ComfyUI has no nodes for datasets of videos")
    write_clips(server.base / "input" / "training_clips")
    nodes = graph(kind, f"my {kind}")
    _then_sample(nodes, kind)
    progress = []
    outcome = server.run(nodes, lambda event, data: progress.append(data) if event == "progress" else None)
    assert outcome.event == "execution_success", outcome.data
    file = server.base / "models" / "firstframe" / f"my {kind}.safetensors"
    told = json.loads(load_metadata(file)["firstframe.training"])
    assert told["steps"] == 3 and told["clips"] == 2 and told["kind"] == kind.lower()
    assert outcome.outputs["6"]["images"] and outcome.outputs["7"]["images"]
    assert outcome.outputs["16"]["images"]
    assert {data["value"] for data in progress if data.get("node") == "6"} >= {1, 2, 3}


@pytest.mark.feature("Training on Make Training Dataset")
def test_a_cancelled_training_saves_nothing(server: Server) -> None:
    if LOADER not in server.get("object_info"):
        pytest.skip("this ComfyUI has no nodes for datasets of videos")
    write_clips(server.base / "input" / "training_clips")
    nodes = graph("Adapter", "cancelled")
    nodes["6"]["inputs"]["steps"] = 1000

    def cancel(event: str, data: dict[str, Any]) -> None:
        if event == "progress" and data.get("node") == "6" and data["value"] >= 2:
            server.interrupt()

    assert server.run(nodes, cancel).event == "execution_interrupted"
    assert not (server.base / "models" / "firstframe" / "cancelled.safetensors").exists()
