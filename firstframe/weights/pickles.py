"""Weights in pickles, which torch writes: read without running the code that they may hold."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from ..errors import WeightsError, printable
from .door import check_dense, check_names, reading

PICKLES = {".ckpt", ".pt", ".pth", ".bin"}
SHARED = 2
"""How many times a file's size its tensors may take: some share their numbers, as tied embeddings do."""


def load_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a pickle, on the CPU, in the file's own types.

    torch's safe unpickler builds tensors and runs no code. A wrapping ``state_dict`` is taken off, and groups become
    prefixes, as IP-Adapter's files have them.

    Raises:
        WeightsError: the file is broken, would run code, or has tensors that are not plain or larger than itself.
    """
    with reading(path):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_archive(path))
        except UnpicklingError as error:
            if code := re.search(r"GLOBAL (\S+)", str(error)):
                raise WeightsError(_refused(path, printable(code[1]))) from error
            raise
    wrapped = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(wrapped, dict):
        raise WeightsError(f"{path}: holds a {type(wrapped).__name__}, not named tensors")
    tensors = dict(_named(wrapped))
    check_names(path, tensors)
    check_dense(path, tensors)
    _check_size(path, tensors)
    return tensors


def _is_archive(path: Path) -> bool:
    """Whether the file can be mapped into memory, which saves a copy of it: all but those of old versions of torch.

    torch compresses nothing: what would unpack to more than the file's size was not written by it.
    """
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > path.stat().st_size:
        raise WeightsError(_too_large(path, unpacked))
    return all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)


def _named(content: Mapping[object, object]) -> Iterator[tuple[str, Tensor]]:
    for name, value in content.items():
        if isinstance(value, Tensor):
            yield str(name), value
        elif isinstance(value, dict):
            yield from ((f"{name}.{inner}", tensor) for inner, tensor in value.items() if isinstance(tensor, Tensor))


def _check_size(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A tensor may be an expanded view of few numbers, which takes all of its memory once it is used."""
    taken = {name: tensor.numel() * tensor.itemsize for name, tensor in tensors.items()}
    if sum(taken.values()) > SHARED * path.stat().st_size:
        largest = max(taken, key=taken.__getitem__)
        shape = tuple(tensors[largest].shape)
        raise WeightsError(f"{_too_large(path, sum(taken.values()))} The largest is {printable(largest)} {shape}")


def _too_large(path: Path, size: int) -> str:
    return (
        f"{path}: its contents would take {size:,} bytes of memory, but the file has {path.stat().st_size:,}. It was "
        "not written by torch as it is; get it as safetensors, or from its publisher."
    )


def _refused(path: Path, code: str) -> str:
    return (
        f"{path}: refused, because it would call {code}: a weights file holds tensors and nothing else. It may be "
        "malicious; get it as safetensors, or from its publisher (firstframe weights verify compares the two)"
    )
