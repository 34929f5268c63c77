"""The workflows that need published weights, in the real server, with files of the published names and sizes.

The images are small and the steps few: a full-size UNet on a CPU. Files as in test_full_size.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import comfy.cldm.cldm
import comfy.ops
import pytest
import torch
import yaml
from comfyui_firstframe_pack.firstframe.clips.video import read_clip
from comfyui_firstframe_pack.firstframe.sites import SD15
from conftest import HOST
from harness import ROOT, Server, find_node, running_server, workflow
from safetensors.torch import save_file
from small import host_config, randomise
from test_full_size import FOLDER, SIZE, file, pytestmark  # noqa: F401
from test_packs import PACKS
from test_workflows import opened_and_queued

FRAMES = 4
WINDOW = 16
FILES = {
    "i2v_adapter_official": ["ip-adapter-plus", "clip-vision-vit-h"],
    "community_models": [],
    "controlnet": [],
    "sdxl": ["sdxl-base", "sdxl-vae", "animatediff-sdxl", "ip-adapter-plus-sdxl", "clip-vision-vit-h"],
    "animatediff_evolved": ["animatediff-v2", "ip-adapter-plus", "clip-vision-vit-h"],
}
FOLDERS = ("checkpoints", "animatediff_models", "firstframe", "ipadapter", "clip_vision", "loras", "controlnet", "vae")


def write_lora(path: Path) -> None:
    """One layer of the UNet, by the names of kohya's scripts."""
    layer, width = "lora_unet_down_blocks_0_attentions_0_proj_in", SD15.block_out_channels[0]
    halves = {f"{layer}.lora_up.weight": (width, 4, 1, 1), f"{layer}.lora_down.weight": (4, width, 1, 1)}
    generator = torch.Generator().manual_seed(1)
    save_file({name: 0.1 * torch.randn(shape, generator=generator) for name, shape in halves.items()}, path)


def write_controlnet(path: Path) -> None:
    """ControlNet 1.1's layout and size."""
    settings = {**host_config(SD15).unet_config, "hint_channels": 3, "dtype": torch.float16}
    settings.pop("out_channels", None)
    network = comfy.cldm.cldm.ControlNet(**settings, operations=comfy.ops.disable_weight_init, device="cpu")
    randomise(network.eval(), 11)
    torch.save({f"control_model.{name}": tensor.half() for name, tensor in network.state_dict().items()}, path)


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that finds the full-size files, and the packs that are there."""
    folder, own = Path(FOLDER).expanduser(), tmp_path_factory.mktemp("full_size")
    for id in ("sd15-fp16", "i2v-adapter-base", "i2v-adapter"):
        file(id)
    for name, write in (("your_lora.safetensors", write_lora), ("control_v11p_sd15_canny.pth", write_controlnet)):
        if not (folder / name).exists():
            write(folder / name)
    paths = own / "paths.yaml"
    paths.write_text(yaml.safe_dump({"full_size": {kind: str(folder) for kind in FOLDERS}}), "utf-8")
    packs = [PACKS / name for name in ("ComfyUI-AnimateDiff-Evolved", "ComfyUI_IPAdapter_plus")]
    found = [pack for pack in packs if pack.is_dir()]
    with running_server(HOST, own / "base", found, ["--extra-model-paths-config", str(paths)]) as server:
        (server.base / "input").mkdir(exist_ok=True)
        (server.base / "input" / "example.png").write_bytes((ROOT / "firstframe/tiny/example.png").read_bytes())
        yield server


@pytest.mark.feature("Workflows that ship for published weights (files of full size, random numbers)")
@pytest.mark.parametrize("name", FILES)
def test_it_runs(full_size: Server, name: str) -> None:
    graph = workflow(name)
    frames = WINDOW + 4 if name == "animatediff_evolved" else FRAMES
    opened, queued = opened_and_queued(name, full_size.get("object_info"))
    assert opened == queued
    for id in FILES[name]:
        file(id)
    find_node(graph, "FirstFrameEncodeReference")["inputs"].update(width=SIZE, height=SIZE)
    find_node(graph, "FirstFrameSimilarityPrior")["inputs"].update(num_frames=frames, blur_kernel=9)
    find_node(graph, "KSampler")["inputs"].update(steps=2)
    outcome = full_size.run(graph)
    assert outcome.event == "execution_success", json.dumps(outcome.data)[:2000]
    clip = read_clip(full_size.output_file(outcome)).frames
    assert clip.shape == (frames, SIZE, SIZE, 3)
    assert clip.float().std() > 1
