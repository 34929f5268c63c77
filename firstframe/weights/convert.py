"""From one kind of weights file to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import WeightsError
from .files import load_metadata, load_state_dict, save_state_dict
from .layouts import Kind
from .load import (
    load_adapter,
    load_image_tokens,
    load_motion,
    load_retention,
    save_adapter,
    save_image_tokens,
    save_motion,
    save_retention,
)

_OWN: Mapping[Kind, tuple[Callable[..., Any], Callable[..., None]]] = {
    "i2v_adapter": (load_adapter, save_adapter),
    "motion_module": (load_motion, save_motion),
    "image_tokens": (load_image_tokens, save_image_tokens),
    "retention": (load_retention, save_retention),
}


def to_safetensors(source: Path, target: Path) -> None:
    """The tensors of ``source``, a pickle or safetensors file, under their own names in a safetensors file.

    Its metadata keeps what ``source`` had and says where it is from. Raises WeightsError where ``source`` cannot be
    read, and leaves a ``target`` that was there as it was.
    """
    state = load_state_dict(source)
    _check_target(target)
    save_state_dict(target, state, {**load_metadata(source), "firstframe.converted_from": source.name})


def to_own_layout(source: Path, target: Path, kind: Kind) -> None:
    """One part of ``source``, in whichever layout, in FirstFrame's own: the other parts of the file are left out.

    Raises WeightsError where there is no such part in it, or something is wrong with it.
    """
    load, save = _OWN[kind]
    module = load(source, dtype=None)
    _check_target(target)
    dtype = next(module.parameters()).dtype
    save(target, module, {"firstframe.converted_from": source.name}, dtype)


def _check_target(target: Path) -> None:
    if target.suffix != ".safetensors":
        raise WeightsError(f"{target}: only safetensors files are written; give it that ending")
    if not target.parent.is_dir():
        raise WeightsError(f"{target}: there is no folder {target.parent}")
