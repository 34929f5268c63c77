"""The core's modules as the host runs them: its operations, its attention, its memory manager."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.ops
from comfy.ldm.modules.attention import optimized_attention
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...modules.backend import Backend
from ...weights import load
from ...weights.kinds import ModuleKind


def attention(query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
    """The attention that the host was told to use (PyTorch, xFormers, sub-quadratic, ...)."""
    return optimized_attention(query, key, value, num_heads)


HOST = Backend(comfy.ops.manual_cast, attention)
"""Layers that cast their weights to the type and device of their input when they are used, and the host's attention."""


def in_host(module: nn.Module) -> ModelPatcher:
    """A module that the host's memory manager moves and offloads, in the type that it picks for UNets."""
    parameters = sum(parameter.numel() for parameter in module.parameters())
    module.requires_grad_(False).eval().to(comfy.model_management.unet_dtype(model_params=parameters))
    return ModelPatcher(
        module,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )


def load_in_host(kind: ModuleKind[Any], path: Path) -> ModelPatcher:
    """A weights file as the host's nodes pass it on, for example ``MOTION_MODULE`` as a MOTION_MODULE."""
    return in_host(load(kind, path, backend=HOST, dtype=None))
