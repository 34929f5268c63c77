"""AnimateDiff-Evolved's motion module on fake tensors, to be counted beside ours."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any
from unittest.mock import patch

import comfy.utils
import folder_paths
from comfy.model_patcher import ModelPatcher
from common import EVOLVED
from fake_tensors import built_on_card

from firstframe.modules.motion import MotionConfig, MotionModule
from firstframe.weights.keymaps import ANIMATEDIFF, to_theirs


def nodes() -> dict[str, Any]:
    """The pack's nodes; it is imported as the host imports packs."""
    name = EVOLVED.name.replace("-", "_")
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, EVOLVED / "__init__.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name].NODE_CLASS_MAPPINGS


def with_evolved_motion(model: ModelPatcher, config: MotionConfig) -> ModelPatcher:
    """What its node AnimateDiff Loader (Gen 1) makes of a MODEL, and a file of ``config`` with fake numbers."""
    loader = nodes()["ADE_AnimateDiffLoaderGen1"]()
    with (
        built_on_card(),
        patch.object(
            comfy.utils, "load_torch_file", lambda *_, **__: to_theirs(MotionModule(config).state_dict(), ANIMATEDIFF)
        ),
        patch.object(folder_paths, "get_full_path", lambda _, name: name),
    ):
        return loader.load_mm_and_inject_params(model, "motion.safetensors", "autoselect", context_options=None)[0]
