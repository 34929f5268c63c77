"""Nodes in any order with any values that ComfyUI lets through: each call succeeds or ends in an error of ours.

Hypothesis prints the calls that lead to another error, and finds them again. FIRSTFRAME_FUZZ=40 plays forty times as
many games.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache, partial
from typing import Any, ClassVar

import comfy.model_management
import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy_api.latest import io
from comfyui_firstframe_pack.firstframe.bindings.comfy.finite import FINITE_KEY
from comfyui_firstframe_pack.firstframe.errors import FirstFrameError
from comfyui_firstframe_pack.nodes import FirstFrame
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from small import SMALLEST, conditioning, reference, small_adapter, small_model, small_motion, small_retention
from torch import Tensor

GAMES = 6 * int(os.environ.get("FIRSTFRAME_FUZZ", "1"))
CALLS = 25
MOST_SECONDS = 10.0
"""Of the processor, for one call."""
NAN = float("nan")
LEFT_OUT = {
    "FirstFrameTrainAdapter",  # trains and saves; it gets lists, from the host alone
    "FirstFrameTrainRetention",
    "FirstFrameSaveVideo",
    "FirstFrameMeasure",
    "FirstFrameLoadTinyModel",
    "FirstFrameExamplePicture",  # takes nothing
}
"""What needs the server, a model that has a text encoder of its own, and what cannot fail."""

FILES = {"motion_module", "motion_lora", "adapter", "content_adapter", "projections", "retention"}
SMALL_NUMBERS: dict[str, list[Any]] = {
    "width": [8, 16, 64, 64, 64, 100],
    "height": [8, 16, 64, 64, 64, 100],
    "num_frames": [2, 3, 5, 17],
    "steps": [1, 2],
    "blur_kernel": [3, 4, 9, 63],
    "frame": [-2, -1, 0, 1, 4, 99],
    "sampler_name": [name for name in comfy.samplers.SAMPLER_NAMES if name != "dpm_adaptive"],  # it sets its own steps
}
CURVES = [
    "",
    "0: 1",
    "0: 1, 1: 0.2",
    "1: 1, 0: 2",
    "0: nan",
    "0:1,",
    "x",
    f"0: {'9' * 400}",
    "0: 1, 0: 1",
    "-1: -5, 2: 7",
]
SCHEMAS: dict[type[io.ComfyNode], io.Schema] = {
    node: node.define_schema() for node in asyncio.run(FirstFrame().get_node_list())
}
NODES = {schema.node_id: node for node, schema in SCHEMAS.items()}


def played() -> list[type[io.ComfyNode]]:
    """Nodes without files and without what the server tells them."""

    def chooses_a_file(node: type[io.ComfyNode]) -> bool:
        return any(isinstance(given, io.Combo.Input) and given.id in FILES for given in SCHEMAS[node].inputs or ())

    return [node for name, node in NODES.items() if name not in LEFT_OUT and not chooses_a_file(node)]


PLAYED = played()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def images() -> list[Tensor]:
    """(F, H, W, C) as other packs pass them on, wrong ones among them."""
    shapes = [(1, 64, 64, 3), (3, 64, 64, 3), (1, 30, 70, 4), (2, 16, 16, 3), (1, 1, 1, 3), (1, 200, 1, 3)]
    shapes += [(0, 8, 8, 3), (1, 8, 8, 1), (1, 8, 8, 2), (8, 8, 3)]
    odd = [torch.full((1, 64, 64, 3), NAN), 100 * noise(1, 64, 64, 3)]
    return [noise(*shape).clamp(0, 1) for shape in shapes] + odd


def latents() -> list[dict[str, Any]]:
    shapes = [(3, 4, 8, 8), (1, 4, 8, 8), (3, 4, 8, 16), (3, 16, 8, 8), (1, 4, 3, 8, 8), (1, 16, 2, 4, 4), (0, 4, 8, 8)]
    found: list[dict[str, Any]] = [{"samples": noise(*shape)} for shape in shapes]
    found += [{"samples": torch.full((3, 4, 8, 8), NAN)}, {"samples": torch.zeros(1, 4, 3, 8, 8)}]
    return [*found, {"samples": noise(1, 4, 3, 8, 8), "noise_mask": torch.ones(1, 1, 1, 8, 8)}]


def masks() -> list[Tensor]:
    whole = [torch.ones(1, 5, 5), torch.rand(8, 8), torch.rand(3, 9, 4)]
    return [*whole, torch.full((1, 4, 4), NAN), torch.ones(0, 4, 4), torch.ones(4)]


@cache
def pools() -> dict[str, list[Any]]:
    """What sockets hold at first. No call may change any of it."""
    motion, adapter, image = small_motion(), small_adapter(), reference()
    moved = NODES["FirstFrameApplyMotionModule"].execute(small_model(), motion, 1.0, "auto").result[0]
    held = NODES["FirstFrameApplyAdapter"].execute(moved, adapter, image, 1.0, True).result[0]
    at_first = {
        "MODEL": [small_model(), small_model(SMALLEST), moved, held],
        "MOTION_MODULE": [motion, small_motion(max_frames=None), small_motion(SMALLEST)],
        "I2V_ADAPTER": [adapter, small_adapter(SMALLEST)],
        "RETENTION": [small_retention(), small_retention(SMALLEST)],
        "REFERENCE": [image],
        "CONDITIONING": [conditioning(1), conditioning(2)],
        "IMAGE": images(),
        "LATENT": latents(),
        "MASK": masks(),
    }
    _model, _clip, vae, adapter, retention = NODES["FirstFrameLoadTinyModel"].execute().result
    at_first["VAE"] = [vae]
    at_first["I2V_ADAPTER"].append(adapter)
    at_first["RETENTION"].append(retention)
    return at_first


def value_of(given: Any) -> st.SearchStrategy[Any]:
    """What a widget may hold when a node is called: ComfyUI checks types, bounds and choices, but lets NaN pass."""
    if given.id in SMALL_NUMBERS:
        return st.sampled_from(SMALL_NUMBERS[given.id])
    if isinstance(given, io.Combo.Input):
        return st.sampled_from(list(given.options))
    if isinstance(given, io.Float.Input):
        return st.floats(given.min, given.max) | st.sampled_from([given.min, given.max, given.default, NAN])
    if isinstance(given, io.Int.Input):
        return st.integers(given.min, given.max) | st.just(given.default)
    if isinstance(given, io.Boolean.Input):
        return st.booleans()
    return st.sampled_from(CURVES) if given.id.startswith("over_") else st.text(max_size=20)


def is_clip(latent: dict[str, Any]) -> bool:
    """Whether ComfyUI would give it to a model of Stable Diffusion 1.5."""
    return latent["samples"].ndim == 4 and latent["samples"].shape[1] == 4 and len(latent["samples"]) > 0


class Nodes(RuleBasedStateMachine):
    """What sockets hold, by type. A rule calls a node with some of it."""

    tried: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.held = [(pools()["MODEL"][-1], pools()["REFERENCE"][0].latent)]
        self.pools = defaultdict(list, {kind: list(values) for kind, values in pools().items()})

    @rule(data=st.data())
    def call(self, data: st.DataObject) -> None:
        """A node whose sockets can be filled."""
        node = data.draw(st.sampled_from([node for node in PLAYED if self.can_call(node)]), label="node")
        schema, arguments = SCHEMAS[node], {}
        for given in schema.inputs or ():
            pool = None if isinstance(given, io.WidgetInput) else self.pools[given.io_type]
            if given.optional and data.draw(st.booleans(), label=f"{given.id} is left out"):
                continue
            if pool is None:
                arguments[given.id] = data.draw(value_of(given), label=given.id)
            elif pool:
                arguments[given.id] = self.drawn(data, given.io_type)
        results = self.attempt(lambda: node.execute(**arguments).result)
        for output, result in zip(schema.outputs, results or (), strict=False):
            self.keep(output.io_type, result)
        if results and "model" in arguments:
            self.follow(schema.node_id, arguments, results[0])

    @precondition(lambda self: self.ours())
    @rule(data=st.data(), seed=st.integers(0, 3), sampler=st.sampled_from(["euler", "uni_pc", "ddim", "lcm"]))
    def sample(self, data: st.DataObject, seed: int, sampler: str) -> None:
        """What is attached to models, run by ComfyUI's sampler for two steps."""
        model = data.draw(st.sampled_from(self.ours()), label="model")
        start = data.draw(st.sampled_from([clip for clip in self.pools["LATENT"] if is_clip(clip)]))["samples"]
        prompts = {"positive": conditioning(1), "negative": conditioning(2)}
        numbers = {"steps": 2, "cfg": 3.0, "sampler_name": sampler, "scheduler": "normal", "seed": seed}
        noises = comfy.sample.prepare_noise(start, seed)
        run = partial(comfy.sample.sample, model, noises, latent_image=start, disable_pbar=True, **numbers, **prompts)
        self.tried["sampled"] += 1
        samples = self.attempt(run)
        if samples is not None:
            self.check(samples, self.images_of(model))

    def follow(self, node: str, arguments: dict[str, Any], result: Any) -> None:
        """The image goes from a model to the models that nodes make of it, and to clips."""
        images = self.images_of(arguments["model"])
        if node == "FirstFrameSampler":
            self.check(result["samples"], images)
        elif node == "FirstFrameApplyAdapter":  # a second one is no affair of this test
            images = [arguments["reference"].latent] if arguments["hold_first_frame"] and not images else []
        self.held += [(result, image) for image in images]

    def check(self, samples: Tensor, images: list[Tensor]) -> None:
        assert samples.isfinite().all(), "NaN passed"
        for image in images:
            assert torch.allclose(samples[0], image[0], atol=1e-3), "a wrong first frame"
            self.tried["first frames"] += 1

    def images_of(self, model: Any) -> list[Tensor]:
        """The latent that is held in a model's first frame."""
        return [image for held, image in self.held if held is model]

    def ours(self) -> list[Any]:
        """Models that a part of ours is attached to."""
        return [model for model in self.pools["MODEL"] if model.get_wrappers("predict_noise", FINITE_KEY)]

    def drawn(self, data: st.DataObject, kind: str) -> Any:
        return self.pools[kind][data.draw(st.integers(0, len(self.pools[kind]) - 1), label=f"which {kind}")]

    def can_call(self, node: type[io.ComfyNode]) -> bool:
        needed = {i.io_type for i in SCHEMAS[node].inputs or () if not i.optional and not isinstance(i, io.WidgetInput)}
        return all(self.pools.get(kind) for kind in needed)

    def keep(self, kind: str, result: Any) -> None:
        pool = self.pools[kind]
        pool.append(result)
        del pool[20:-1]

    def attempt(self, work: Callable[[], Any]) -> Any:
        """Its result; None where it is refused."""
        begun = time.process_time()
        try:
            result = work()
        except FirstFrameError as error:
            assert len(str(error)) > 15, "the message says nothing"
            self.tried["refused"] += 1
            return None
        finally:
            assert time.process_time() - begun < MOST_SECONDS, "it hung"
        self.tried["accepted"] += 1
        return result


@pytest.mark.filterwarnings("ignore")
def test_nothing_crashes() -> None:
    Nodes.tried.clear()
    pools()
    gc.freeze()  # ComfyUI collects garbage after each sampling: half of the time went into that
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    games = settings(
        max_examples=GAMES, stateful_step_count=CALLS, deadline=None, suppress_health_check=checks, database=None,
        derandomize="FIRSTFRAME_FUZZ" not in os.environ, print_blob=True, phases=[Phase.generate],
    )  # fmt: skip
    try:
        run_state_machine_as_test(Nodes, settings=games)
    finally:
        gc.unfreeze()
        pools.cache_clear()
        comfy.model_management.unload_all_models()
    print(f"nodes: {dict(Nodes.tried)}")
    assert Nodes.tried["refused"] and Nodes.tried["accepted"]
