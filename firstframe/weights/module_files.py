"""From a weights file to a module and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..modules.backend import TORCH, Backend
from ..modules.image_prompt import Resampler
from ..modules.motion import MotionModule
from .contents import Module, config_key, opened
from .files import StateDict, load_metadata, save_state_dict
from .keymaps import IP_ADAPTER_RESAMPLER, to_theirs
from .kinds import MOTION_MODULE, ModuleKind, OwnKind


def load(
    kind: ModuleKind[Module],
    path: Path | str,
    *,
    backend: Backend = TORCH,
    dtype: torch.dtype | None = torch.float32,
) -> Module:
    """The module of ``kind`` in a file, in whichever layout it is, for example ``load(MOTION_MODULE, path)``.

    Args:
        kind: an entry of `firstframe.weights.kinds`.
        path: a safetensors file or a pickle.
        backend: what the module is made of.
        dtype: of its weights; None keeps the file's types.

    Raises:
        WeightsError: naming the file and what is wrong in it: a name, a shape, a type, a value that is not finite.
    """
    with opened(path, kind.name) as contents:
        return contents.fill(kind.read(contents), backend, dtype)


def has_motion_module(path: Path | str) -> bool:
    """Whether the retention branch's file ``path`` also has a motion module, for ``load(MOTION_MODULE, path)``."""
    return config_key("motion_module", "retention") in load_metadata(path)


def save(
    kind: OwnKind[Module],
    path: Path | str,
    module: Module,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype = torch.float16,
    motion: MotionModule | None = None,
    resampler: Resampler | None = None,
) -> None:
    """Write a module in our own layout.

    Args:
        kind: of the module.
        path: of the safetensors file.
        module: what is written.
        metadata: beside what loading it needs.
        dtype: of its parameters in the file.
        motion: the motion module that was trained together with a retention branch, to go into the same file.
        resampler: the same for image tokens.

    Raises:
        WeightsError: the file cannot be written.
    """
    own = {"firstframe.kind": kind.name, "firstframe.config": _json(kind.config(module))}
    tensors = _tensors(module, dtype)
    if motion is not None:
        tensors |= _tensors(motion, dtype)
        own[config_key("motion_module", kind.name)] = _json(MOTION_MODULE.config(motion))
    if resampler is not None:
        tensors |= to_theirs(_tensors(resampler, dtype), IP_ADAPTER_RESAMPLER)
    save_state_dict(path, tensors, {**(metadata or {}), **own})


def _tensors(module: nn.Module, dtype: torch.dtype) -> StateDict:
    """Parameters in ``dtype``, buffers as they are."""
    return {**module.state_dict(), **{name: tensor.to(dtype) for name, tensor in module.named_parameters()}}


def _json(config: Any) -> str:
    """Entries that are None by default are left out while they are."""
    return json.dumps(_told(config))


def _told(config: Any) -> dict[str, Any]:
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    untold = {field.name for field in fields(config) if field.default is None and values[field.name] is None}
    return {
        name: _told(value) if is_dataclass(value) else value for name, value in values.items() if name not in untold
    }
