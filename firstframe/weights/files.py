"""Reading and writing weights files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import WeightsError

StateDict = dict[str, Tensor]

PICKLES = {".ckpt", ".pt", ".pth", ".bin"}


def load_state_dict(path: Path | str) -> StateDict:
    """The tensors of a safetensors file or of a pickle, on the CPU, in the file's own types.

    Pickles are read with torch's safe unpickler, which builds tensors and runs no code; a wrapping
    ``state_dict`` and a ``module.`` prefix are taken off, and groups become prefixes, as IP-Adapter's files
    have them. A file that is missing, broken or of another type is a WeightsError that names it.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        try:
            tensors: StateDict = load_file(path)
        except (OSError, SafetensorError) as error:
            raise WeightsError(_unreadable(path, error)) from error
    elif path.suffix in PICKLES:
        tensors = _load_pickle(path)
    else:
        known = ", ".join([".safetensors", *sorted(PICKLES)])
        raise WeightsError(f"{path}: a weights file is expected, with one of the endings {known}")
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def _load_pickle(path: Path) -> StateDict:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a broken pickle raises is anyone's guess
        if code := re.search(r"GLOBAL (\S+)", str(error)):
            raise WeightsError(_refused(path, code[1])) from error
        raise WeightsError(_unreadable(path, error)) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, not named tensors")
    content = content.get("state_dict", content)
    flat = dict(content)
    for group, members in content.items():
        if isinstance(members, dict):
            flat.update({f"{group}.{name}": tensor for name, tensor in members.items()})
    return {name: tensor for name, tensor in flat.items() if isinstance(tensor, Tensor)}


def _refused(path: Path, code: str) -> str:
    return (
        f"{path}: refused, because it would call {code}: a weights file holds tensors and nothing else. It may be "
        "malicious; get it as safetensors, or from its publisher (firstframe weights verify compares the two)"
    )


def _unreadable(path: Path, error: Exception) -> str:
    if not path.is_file():
        return f"{path}: there is no such file"
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"{path}: cannot be read as {path.suffix} ({reason}). It may be cut off; fetch it again"


def load_metadata(path: Path | str) -> dict[str, str]:
    """The metadata of a safetensors file; a pickle has none. Call it after :func:`load_state_dict`."""
    if Path(path).suffix != ".safetensors":
        return {}
    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def save_state_dict(path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all."""
    path = Path(path)
    unfinished = path.with_name(path.name + ".part")
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, unfinished, dict(metadata))
    unfinished.replace(path)
