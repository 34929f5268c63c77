"""The core's modules as the host runs them: its operations, its attention, its memory manager."""

from __future__ import annotations

from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch
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
    """A module that the host's memory manager moves, pages and offloads, in the type that it picks for UNets."""
    parameters = sum(parameter.numel() for parameter in module.parameters())
    _cast(module, comfy.model_management.unet_dtype(model_params=parameters))
    return as_part(module, comfy.model_management.get_torch_device())


def as_part(module: nn.Module, load_device: torch.device) -> ModelPatcher:
    """A module on its way to ``load_device``, as it is."""
    module.requires_grad_(False).eval()
    # As the host carries its own models: paged, where it pages (dynamic VRAM). Older hosts have one patcher.
    patcher: type[ModelPatcher] = getattr(comfy.model_patcher, "CoreModelPatcher", ModelPatcher)
    return patcher(module, load_device=load_device, offload_device=comfy.model_management.unet_offload_device())


def compute_dtype(part: ModelPatcher) -> torch.dtype:
    """The type in which the host computes with a part's weights."""
    stored = next(part.model.parameters()).dtype
    return comfy.model_management.unet_manual_cast(stored, part.load_device) or stored


def _cast(module: nn.Module, dtype: torch.dtype) -> None:
    """Store a module's weights in ``dtype``. Types of eight bits are for matrices and kernels alone."""
    if dtype.itemsize > 1:
        module.to(dtype)
        return
    device = comfy.model_management.get_torch_device()
    module.to(comfy.model_management.unet_manual_cast(dtype, device))
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.weight.data = layer.weight.data.to(dtype)


def load_host_motion(path: Path) -> ModelPatcher:
    """A motion module file as a MOTION_MODULE."""
    return in_host(load_motion(path, backend=HOST, dtype=None))


def load_host_adapter(path: Path) -> ModelPatcher:
    """An adapter file as an I2V_ADAPTER."""
    return in_host(load_adapter(path, backend=HOST, dtype=None))


def load_host_retention(path: Path) -> ModelPatcher:
    """A retention branch file as a RETENTION."""
    return in_host(load_retention(path, backend=HOST, dtype=None))
