"""The core's modules as the host runs them: its operations, its attention, its memory manager."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch
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


def as_patcher(module: nn.Module, disable_dynamic: bool = False) -> ModelPatcher:
    """A module that the host's memory manager moves, pages and offloads, in the type that it picks for UNets.

    ``disable_dynamic`` keeps it from being paged, as the host asks for where it cannot page.
    """
    parameters = sum(parameter.numel() for parameter in module.parameters())
    _cast(module, comfy.model_management.unet_dtype(model_params=parameters))
    return managed(module.requires_grad_(False).eval(), comfy.model_management.get_torch_device(), disable_dynamic)


def managed(module: nn.Module, load_device: torch.device, disable_dynamic: bool = False) -> ModelPatcher:
    """A module as it is, in what the host carries its own models in: paged, where it pages (dynamic VRAM)."""
    plain = disable_dynamic or not hasattr(comfy.model_patcher, "CoreModelPatcher")
    patcher: type[ModelPatcher] = ModelPatcher if plain else comfy.model_patcher.CoreModelPatcher
    return patcher(module, load_device=load_device, offload_device=comfy.model_management.unet_offload_device())


def can_be_loaded_again(part: ModelPatcher, load: Callable[..., ModelPatcher], *arguments: Any) -> ModelPatcher:
    """Tell the host how ``part`` was made, by ``load(*arguments)``: it makes another for a second GPU."""
    part.cached_patcher_init = (load, arguments)
    return part


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


def load_in_host(kind: ModuleKind[Any], path: Path, disable_dynamic: bool = False) -> ModelPatcher:
    """A weights file as the host's nodes pass it on, for example ``MOTION_MODULE`` as a MOTION_MODULE."""
    part = as_patcher(load(kind, path, backend=HOST, dtype=None), disable_dynamic)
    return can_be_loaded_again(part, load_in_host, kind, path)
