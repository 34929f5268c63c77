"""What every weights file must pass before anything is made of it. A file that does not is a WeightsError."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import WeightsError, printable

MAX_TENSORS = 100_000
MAX_NAME_LENGTH = 1_000
_SURROGATES = re.compile("[\ud800-\udfff]")


def check_is_file(path: Path) -> None:
    """Refuse what is no regular file: opening a pipe waits for somebody to write into it."""
    if not path.exists():
        raise WeightsError(f"{path}: there is no such file")
    if not path.is_file():
        raise WeightsError(f"{path}: this is a folder or a device, not a file; choose a weights file")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes a library raise into an error that names the file."""
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:
        reason = printable((str(error) or type(error).__name__).splitlines()[0])
        raise WeightsError(
            f"{path}: cannot be read as {path.suffix} ({reason}). It may be cut off; fetch it again"
        ) from error


def check_names(path: Path, names: Iterable[str]) -> None:
    """Refuse more tensors than any model has, and names that no file can store."""
    names = list(names)
    if len(names) > MAX_TENSORS:
        raise WeightsError(f"{path}: holds {len(names)} tensors, where {MAX_TENSORS} are the most that are read")
    for name in names:
        if len(name) > MAX_NAME_LENGTH or _SURROGATES.search(name):
            raise WeightsError(f"{path}: {printable(name[:80])!r}... is no name of a tensor. Fetch the file again")


def check_dense(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not plain numbers in memory. Pickles can hold such."""
    for name, tensor in tensors.items():
        if unusual := _unusual(tensor):
            raise WeightsError(
                f"{path}: {printable(name)} {tuple(tensor.shape)} is a {unusual} tensor, where plain ones are "
                "expected; save it as a dense floating-point tensor"
            )


def _unusual(tensor: Tensor) -> str | None:
    if tensor.is_nested:
        return "nested"
    if tensor.is_quantized:
        return "quantised"
    if tensor.is_meta:
        return "meta"
    return None if tensor.layout is torch.strided else "sparse"


def check_finite(path: Path | str, name: str, tensor: Tensor) -> None:
    """Refuse a tensor in which a value is NaN or infinite. ``name`` is printable."""
    if not is_finite(tensor):
        raise WeightsError(
            f"{name} {tuple(tensor.shape)} has NaN or infinite values, of which a model makes black frames; look at "
            f"it with: firstframe weights inspect {path}"
        )


def is_finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite, in one pass over the memory."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    if tensor.dtype is torch.float32 and _has_finite_norm(tensor):
        return True
    lowest_and_highest = (tensor.float() if tensor.itemsize == 1 else tensor).aminmax()
    return bool(torch.stack(lowest_and_highest).isfinite().all())


def _has_finite_norm(tensor: Tensor) -> bool:
    """By BLAS, as fast as the memory is. The norm of finite numbers may overflow, too: False decides nothing."""
    values = tensor.detach().flatten().numpy()
    with np.errstate(all="ignore"):
        return bool(np.isfinite(np.dot(values, values)))
