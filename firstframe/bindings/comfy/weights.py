"""The core's modules as the host runs them: its operations, its attention, its memory manager."""

from __future__ import annotations

from pathlib import Path

import comfy.model_management
import comfy.ops
from comfy.ldm.modules.attention import optimized_attention
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...modules.backend import Backend
from ...weights import load_adapter, load_motion, load_retention


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


def load_host_motion(path: Path) -> ModelPatcher:
    """A motion module file as a MOTION_MODULE."""
    return in_host(load_motion(path, backend=HOST, dtype=None))


def load_host_adapter(path: Path) -> ModelPatcher:
    """An adapter file as an I2V_ADAPTER."""
    return in_host(load_adapter(path, backend=HOST, dtype=None))


def load_host_retention(path: Path) -> ModelPatcher:
    """A retention branch file as a RETENTION."""
    return in_host(load_retention(path, backend=HOST, dtype=None))
