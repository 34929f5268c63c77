"""Tensors that claim to be on "cuda" where there is none, and a watch for what would stop or wait on a GPU.

    with fake_cuda():
        with torch.device("cuda"):
            model, x = Model(), torch.zeros(2, 3)
        with OneDevice():
            backward(model(x).sum())

PyTorch has to be linked with CUDA; no card is needed. Modules are built under ``torch.device("cuda")``, since ``.to``
does not turn parameters into fake ones.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
READS = {aten._local_scalar_dense, aten.equal, aten.is_nonzero}
SIZED_BY_VALUES = {aten.nonzero, aten.masked_select, aten.unique_dim, aten._unique, aten._unique2}
COPIES = {aten._to_copy, aten.copy_, aten.copy}
MIXTURE = "tensors on several devices"


class DeviceFault(AssertionError):
    """An operation that would stop or wait on a GPU."""


@contextmanager
def fake_cuda() -> Iterator[FakeTensorMode]:
    """Tensors have shapes, types and devices, but no values."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode


class OneDevice(TorchDispatchMode):
    """Every operation, forward and backward, finds all its tensors on one device, and none reads or moves them.

    CPU tensors without dimensions may take part in arithmetic, as kernels take them for numbers. Faults are indices
    on another device than what they index, boolean indices, values that Python reads (``.item()``, ``bool(tensor)``),
    results whose size depends on values, and copies between devices.

    Attributes:
        operations: how often each operation ran.

    Raises DeviceFault, in the line that is at fault.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if operation.namespace != "aten":
            return operation(*args, **kwargs)
        if torch.is_inference_mode_enabled():  # there PyTorch hands over compound operations in one
            with self:
                result = operation.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        self.operations[operation.overloadpacket.__name__] += 1
        fault = find_fault(operation.overloadpacket, args, kwargs)
        result = self.run(operation, args, kwargs, fault)
        if kwargs.get("pin_memory"):
            result.is_in_pinned_memory = True  # fake tensors do not know
        return result

    def run(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], fault: str | None) -> Any:
        """One operation, after what was found wrong with it."""
        if fault:
            raise DeviceFault(f"{operation}: {fault}")
        return computed_or_read(operation, args, kwargs)


class Waits(OneDevice):
    """The same, but waiting is noted, and a value that Python reads is 1. Mixed devices are still a DeviceFault.

    Attributes:
        found: where something waited, as "file.py:function", in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def run(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], fault: str | None) -> Any:
        if fault and fault.startswith(MIXTURE):
            raise DeviceFault(f"{operation}: {fault}")
        if fault:
            self.found.append(place_in_code())
        return computed_or_read(operation, args, kwargs)


def computed_or_read(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What an operation returns; 1 for a value that Python reads."""
    if operation.overloadpacket in READS:
        return True if operation.overloadpacket is not aten._local_scalar_dense else _one(args[0])
    return operation(*args, **kwargs)


def place_in_code() -> str:
    """The innermost function that is neither PyTorch's nor this file's, as "file.py:function"."""
    frame: Any = sys._getframe()
    skipped = (str(Path(torch.__file__).parent), __file__)
    while frame.f_code.co_filename.startswith(skipped):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}"


def _one(read: Tensor) -> float | int | bool:
    if read.dtype == torch.bool:
        return True
    return 1.0 if read.is_floating_point() else 1


def backward(loss: Tensor) -> None:
    """The backward pass of a fake loss, node by node: PyTorch's own engine asks the card for its streams."""
    before: dict[Any, set[Any]] = {loss.grad_fn: set()}
    found = [loss.grad_fn]
    for node in found:
        for following, _ in node.next_functions:
            if following is not None:
                found += [] if following in before else [following]
                before.setdefault(following, set()).add(node)
    gradients: dict[Any, dict[int, Tensor]] = {node: {} for node in found}
    gradients[loss.grad_fn][0] = torch.ones_like(loss)
    with torch.no_grad():
        for node in TopologicalSorter(before).static_order():
            _hand_on(node, gradients.pop(node), gradients)


def _hand_on(node: Any, received: dict[int, Tensor], gradients: dict[Any, dict[int, Tensor]]) -> None:
    """Add the gradients that a node computes from those it received to those of the nodes behind it."""
    if not received:
        return
    run = getattr(node, "apply", node)  # functions that are written in Python are not called directly
    computed = run(*[received.get(i) for i in range(len(node._input_metadata))])
    each = computed if isinstance(computed, tuple) else (computed,)
    for (following, index), gradient in zip(node.next_functions, each, strict=False):
        if following is not None and gradient is not None:
            sums, fitting = gradients[following], gradient.sum_to_size(following._input_metadata[index].shape)
            sums[index] = sums[index] + fitting if index in sums else fitting


def find_fault(operation: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    """What would stop or wait on a GPU, in words; None where nothing would."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    gpu = any(tensor.is_cuda for tensor in tensors)
    if operation is aten.copy_ and getattr(args[0], "is_in_pinned_memory", False) and args[2:] == (True,):
        return None  # it does not wait
    if operation in COPIES:
        return _copy_fault(tensors, kwargs.get("device"))
    if operation in INDEXING and gpu:
        return _index_fault([args[0], *(index for index in args[1] if index is not None)])
    if operation in READS | SIZED_BY_VALUES and gpu:
        return "Python waits for a value"
    return _mixture(tensor for tensor in tensors if tensor.dim() or tensor.is_cuda)


def _copy_fault(tensors: list[Tensor], device: torch.device | None) -> str | None:
    kinds = {tensor.device.type for tensor in tensors} | ({torch.device(device).type} if device else set())
    return f"a copy between {' and '.join(sorted(kinds))}" if len(kinds) > 1 else None


def _index_fault(tensors: list[Tensor]) -> str | None:
    if any(index.dtype in (torch.bool, torch.uint8) for index in tensors[1:]):
        return "boolean indexing waits for the number of elements"
    return _mixture(tensors)


def _mixture(tensors: Iterable[Tensor]) -> str | None:
    found = {str(tensor.device): tuple(tensor.shape) for tensor in tensors}
    return f"{MIXTURE}, {found}" if len(found) > 1 else None
