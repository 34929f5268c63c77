"""The quickstart with other nodes of the host in it, in the real server: before ours and behind them."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfy_extras.nodes_freelunch import FreeU_V2
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.first_frame import hold_first_frame
from comfyui_firstframe_pack.firstframe.clips.reference import prepare_image
from comfyui_firstframe_pack.firstframe.clips.video import read_clip
from comfyui_firstframe_pack.firstframe.tiny.files import weights_file
from comfyui_firstframe_pack.nodes.load import EXAMPLE_IMAGE
from harness import Graph, Server, find_node, quickstart
from small import ksample, reference_latent, small_adapter, small_model
from torch import Tensor

LORA = "tiny_dusk.safetensors"
ADAPTER, SAMPLER = "FirstFrameApplyAdapter", "KSampler"
COMPILES = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="there is no C++ compiler")


def case(feature: str, kind: str, marks: Any = (), **inputs: Any) -> Any:
    """A node that takes a MODEL and gives one, with its other inputs."""
    return pytest.param(kind, inputs, id=kind, marks=[pytest.mark.feature(feature), *marks])


MODEL_NODES = [
    case("LoRA (LoraLoaderModelOnly)", "LoraLoaderModelOnly", lora_name=LORA, strength_model=1.0),
    case("ModelSamplingDiscrete", "ModelSamplingDiscrete", sampling="v_prediction", zsnr=True),
    case("RescaleCFG", "RescaleCFG", multiplier=0.7),
    case("FreeU", "FreeU_V2", b1=1.3, b2=1.4, s1=0.9, s2=0.2),
    case("PAG (PerturbedAttentionGuidance)", "PerturbedAttentionGuidance", scale=3.0),
    case("SAG (SelfAttentionGuidance)", "SelfAttentionGuidance", scale=0.5, blur_sigma=2.0),
    case("HyperTile", "HyperTile", tile_size=64, swap_size=2, max_depth=1, scale_depth=False),
    case("ToMe (TomePatchModel)", "TomePatchModel", ratio=0.3),
    case(
        "Deep shrink (PatchModelAddDownscale)",
        "PatchModelAddDownscale",
        block_number=3,
        downscale_factor=2.0,
        start_percent=0.0,
        end_percent=0.5,
        downscale_after_skip=True,
        downscale_method="bicubic",
        upscale_method="bicubic",
    ),
    case("DifferentialDiffusion", "DifferentialDiffusion", strength=1.0),
    case("CFG-Zero*", "CFGZeroStar"),
    case("Mahiro", "Mahiro"),
    case("Core APG", "APG", eta=0.5, norm_threshold=5.0, momentum=0.0),
    case("TorchCompileModel", "TorchCompileModel", marks=[COMPILES], backend="inductor"),
    case("EasyCache", "EasyCache", reuse_threshold=0.2, start_percent=0.15, end_percent=0.95, verbose=False),
    case("LazyCache", "LazyCache", reuse_threshold=0.1, start_percent=0.15, end_percent=0.95, verbose=False),
]
NO_EFFECT = {
    "DifferentialDiffusion",  # without a mask
    "EasyCache",  # skips no step of the quickstart; benchmarks/fewer_steps.py sees what it changes
    "FreeU_V2",  # works on layers that are wider than the first, which the tiny model has not: see below
}


@pytest.fixture(scope="module")
def loras(server: Server) -> None:
    """A LoRA for the tiny model, where the host looks for LoRAs."""
    folder = server.base / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(weights_file("look_lora"), folder / LORA)


@pytest.fixture(scope="module")
def plain(server: Server) -> Tensor:
    return video(server, quickstart())


def video(server: Server, graph: Graph) -> Tensor:
    """The frames that a graph saves, of which the first is the image."""
    outcome = server.run(graph)
    assert outcome.event == "execution_success", outcome.data
    frames = read_clip(server.output_file(outcome)).frames
    image = prepare_image(EXAMPLE_IMAGE, 128, 128)[0].movedim(0, -1)
    assert (frames[0] / 255 - image).abs().mean() < 0.05
    assert frames[-1].float().std() > 10, "the last frame is one colour"
    return frames


def insert(graph: Graph, before: str, kind: str, inputs: dict[str, Any]) -> Graph:
    """The graph with one more node on the MODEL that comes into the node ``before``."""
    target = find_node(graph, before)
    graph["stock"] = {"class_type": kind, "inputs": {"model": target["inputs"]["model"], **inputs}}
    target["inputs"]["model"] = ["stock", 0]
    return graph


def known(server: Server, kind: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs that this version of the host knows; skips where it has no such node."""
    nodes = server.get("object_info")
    if kind not in nodes:
        pytest.skip(f"this ComfyUI has no {kind}")
    described = nodes[kind]["input"]
    names = {*described.get("required", {}), *described.get("optional", {})}
    return {name: value for name, value in inputs.items() if name in names}


@pytest.mark.parametrize("before", [ADAPTER, SAMPLER], ids=["before ours", "behind ours"])
@pytest.mark.parametrize(("kind", "inputs"), MODEL_NODES)
def test_a_node_on_the_model(
    server: Server, loras: None, plain: Tensor, kind: str, inputs: dict[str, Any], before: str
) -> None:
    clip = video(server, insert(quickstart(), before, kind, known(server, kind, inputs)))
    assert clip.shape == plain.shape
    assert kind in NO_EFFECT or not torch.equal(clip, plain)


@pytest.mark.feature("FreeU")
@pytest.mark.parametrize("behind", [False, True], ids=["before ours", "behind ours"])
def test_freeu_on_a_model_with_wider_layers(behind: bool) -> None:
    def freed(model: ModelPatcher) -> ModelPatcher:
        found = FreeU_V2().patch(model, b1=1.3, b2=1.4, s1=0.9, s2=0.2)
        return found[0] if isinstance(found, tuple) else found.args[0]

    def ours(model: ModelPatcher) -> ModelPatcher:
        return hold_first_frame(apply_adapter(model, small_adapter(), 1.0), reference_latent())

    clip = ksample(freed(ours(small_model())) if behind else ours(freed(small_model())))
    assert torch.allclose(clip[0], reference_latent()[0], atol=1e-5)
    assert not torch.allclose(clip, ksample(ours(small_model())), rtol=1e-2)


@pytest.mark.feature("Merged models (ModelMergeSimple)")
def test_a_merged_model(server: Server, loras: None, plain: Tensor) -> None:
    """Half of the tiny model, half of it with a LoRA: as the LoRA at half its strength."""
    lora = {"class_type": "LoraLoaderModelOnly", "inputs": {"model": ["1", 0], "lora_name": LORA}}
    merged, halved = quickstart(), quickstart()
    merged["lora"] = {**lora, "inputs": {**lora["inputs"], "strength_model": 1.0}}
    merged["merge"] = {
        "class_type": "ModelMergeSimple",
        "inputs": {"model1": ["1", 0], "model2": ["lora", 0], "ratio": 0.5},
    }
    halved["merge"] = {**lora, "inputs": {**lora["inputs"], "strength_model": 0.5}}
    for graph in (merged, halved):
        find_node(graph, ADAPTER)["inputs"]["model"] = ["merge", 0]
    clips = [video(server, graph) for graph in (merged, halved)]
    assert not torch.equal(clips[1], plain)
    assert (clips[0].float() - clips[1].float()).abs().mean() < 10, "a merge that holds a LoRA, or not"


@pytest.mark.feature("Hook LoRA on a prompt (CreateHookLora)")
def test_a_hook_lora(server: Server, loras: None, plain: Tensor) -> None:
    graph = quickstart()
    hook = {"lora_name": LORA, "strength_model": 1.0, "strength_clip": 0.0}
    graph["hook"] = {"class_type": "CreateHookLora", "inputs": hook}
    sampler = find_node(graph, SAMPLER)["inputs"]
    for name in ("positive", "negative"):
        properties = {"cond_NEW": sampler[name], "strength": 1.0, "set_cond_area": "default", "hooks": ["hook", 0]}
        graph[name] = {"class_type": "ConditioningSetProperties", "inputs": properties}
        sampler[name] = [name, 0]
    hooked = video(server, graph)
    applied = video(
        server, insert(quickstart(), ADAPTER, "LoraLoaderModelOnly", {"lora_name": LORA, "strength_model": 1.0})
    )
    assert not torch.equal(hooked, plain)
    assert (hooked.float() - applied.float()).abs().mean() < 2, "the same as the LoRA on the model"


@pytest.mark.feature("Models unloaded between runs")
def test_unloaded_between_runs(server: Server, plain: Tensor) -> None:
    server.post("free", {"unload_models": True, "free_memory": True})
    assert torch.equal(video(server, quickstart()), plain)
