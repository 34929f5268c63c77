"""Reading and writing weights files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import WeightsError
from .door import check_is_file, check_names, reading
from .pickles import PICKLES, load_pickle

StateDict = dict[str, Tensor]


def load_state_dict(path: Path | str) -> StateDict:
    """The tensors of a safetensors file or of a pickle, on the CPU, in the file's own types.

    A ``module.`` prefix is taken off the names. For pickles see `load_pickle`.

    Raises:
        WeightsError: the file is missing, broken, malicious or of another type; the message names it.
    """
    path = Path(path)
    check_is_file(path)
    if path.suffix == ".safetensors":
        tensors = _load_safetensors(path)
    elif path.suffix in PICKLES:
        tensors = load_pickle(path)
    else:
        known = ", ".join([".safetensors", *sorted(PICKLES)])
        raise WeightsError(f"{path}: a weights file is expected, with one of the endings {known}")
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def _load_safetensors(path: Path) -> StateDict:
    """The library compares the sizes in the header with each other and with the file's before it reads a tensor."""
    with reading(path):
        with safe_open(path, "pt") as file:
            check_names(path, file.keys())
        tensors: StateDict = load_file(path)
    return tensors


def load_metadata(path: Path | str) -> dict[str, str]:
    """The metadata of a safetensors file; a pickle has none.

    Raises:
        WeightsError: the file is missing or broken.
    """
    path = Path(path)
    check_is_file(path)
    if path.suffix != ".safetensors":
        return {}
    with reading(path), safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def save_state_dict(path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all. Tensors that share memory are written as often as they occur.

    Raises:
        WeightsError: the file cannot be written, or a tensor is of a type that safetensors files do not have.
    """
    path = Path(path)
    unfinished = path.with_name(f"{path.name}.{uuid4().hex}.part")
    try:
        save_file(_apart(tensors), unfinished, dict(metadata))
        unfinished.replace(path)
    except (OSError, SafetensorError, KeyError) as error:
        raise WeightsError(f"{path}: cannot be written ({error})") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _apart(tensors: Mapping[str, Tensor]) -> StateDict:
    """On the CPU, contiguous, each in memory of its own."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    return apart
