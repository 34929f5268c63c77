"""What PyTorch does, operation by operation: FLOPs and bytes, counted while tensors are only claimed to exist."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

FREE = {"_unsafe_view", "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "lift_fresh"}
"""Operations that neither compute nor touch memory, beside views."""

GATHER = {"embedding", "gather", "index", "index_select"}
"""Operations that read of their first input only as much as they write."""

READ_BY_CPU = "read by the CPU"
BOOLEAN_INDEX, DOWNLOAD, UPLOAD = "index by booleans", "copy to the CPU", "copy to the card"
SENT = "sent to the CPU, which does not wait"
ATTENTION = "attention"
KINDS = {
    "matrix product": ("mm", "addmm", "bmm", "baddbmm"),
    "convolution": ("convolution", "_convolution"),
    "norm": ("native_group_norm", "native_layer_norm"),
    "copy": ("clone", "copy_", "_to_copy", "cat", "repeat", "index", "index_select", "index_copy", "stack"),
    "addition": ("add", "add_", "sub", "index_add", "index_add_"),
    "product": ("mul", "mul_", "div", "div_"),
    "activation": ("gelu", "silu", "silu_", "sigmoid"),
    READ_BY_CPU: ("_local_scalar_dense", "nonzero", BOOLEAN_INDEX, DOWNLOAD),
    "written by the CPU": (UPLOAD,),
}
_KIND_OF = {name: kind for kind, names in KINDS.items() for name in names}


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        name: PyTorch's name for it, "attention" for fused attention.
        flops: two for each multiplication of a matrix product, a convolution or an attention; else none.
        read: bytes of its inputs. What is broadcast is read once.
        written: bytes of its outputs.
        shape: of its output; () where it has none.
    """

    name: str
    flops: int
    read: int
    written: int
    shape: tuple[int, ...]

    @property
    def kind(self) -> str:
        """A key of ``KINDS``, or "other"."""
        return ATTENTION if self.name == ATTENTION else _KIND_OF.get(self.name, "other")

    @property
    def bytes(self) -> int:
        """Read and written."""
        return self.read + self.written

    def seconds(self, bandwidth: float, flops: float) -> float:
        """At best, on a card of so many bytes and FLOP per second: the slower of memory and arithmetic."""
        return max(self.bytes / bandwidth, self.flops / flops)


@dataclass(frozen=True)
class Ledger:
    """How often each operation ran."""

    operations: Counter[Operation] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        return self.operations.total()

    @property
    def flops(self) -> int:
        return sum(count * operation.flops for operation, count in self.operations.items())

    @property
    def bytes(self) -> int:
        return sum(count * operation.bytes for operation, count in self.operations.items())

    def seconds(self, bandwidth: float, flops: float) -> float:
        """The sum of what every operation takes at best."""
        return sum(count * operation.seconds(bandwidth, flops) for operation, count in self.operations.items())

    def by(self, key: Callable[[Operation], str]) -> dict[str, Ledger]:
        """Split by ``key``, for example an operation's kind."""
        found: dict[str, Ledger] = {}
        for operation, count in self.operations.items():
            found.setdefault(key(operation), Ledger()).operations[operation] += count
        return found

    def __sub__(self, other: Ledger) -> Ledger:
        """What is done here beyond ``other``; the same operations cancel out."""
        return Ledger(self.operations - other.operations)

    def as_json(self) -> list[dict[str, Any]]:
        """A row for each operation."""
        return [{**asdict(operation), "count": count} for operation, count in self.operations.items()]

    @classmethod
    def from_json(cls, rows: list[dict[str, Any]]) -> Ledger:
        """The inverse of :meth:`as_json`."""
        counts = {_operation_of(**row): row["count"] for row in rows}
        return cls(Counter(counts))


def _operation_of(name: str, flops: int, read: int, written: int, shape: list[int], count: int) -> Operation:
    return Operation(name, flops, read, written, tuple(shape))


@contextmanager
def counted() -> Iterator[Ledger]:
    """Count what a card does in the block. Gradients are off, but not by inference mode, which hides operations."""
    ledger = Ledger()
    with FusedAttention(ledger), _Operations(ledger):
        yield ledger


class FusedAttention(TorchFunctionMode):
    """Counts ``scaled_dot_product_attention`` as one operation and answers with the layout of the fused kernels."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is not functional.scaled_dot_product_attention:
            return function(*args, **(kwargs or {}))
        query, key, value = args[:3]
        batch, heads, queries, width = query.shape
        out = query.new_empty(batch, queries, heads, value.shape[-1]).transpose(1, 2)
        flops = 2 * batch * heads * queries * key.shape[2] * (width + value.shape[-1])
        read = memory([query, key, value])
        self.ledger.operations[Operation(ATTENTION, flops, read, memory([out]), tuple(out.shape))] += 1
        return out


class _Operations(TorchDispatchMode):
    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = function(*args, **kwargs)
        name = function.overloadpacket.__name__
        free = function.is_view or function.namespace == "prim" or name in FREE
        if not free and any(tensor.is_cuda for tensor in _tensors((args, kwargs, out))):
            self.ledger.operations[_operation(function, name, args, kwargs, out)] += 1
        return out


def _operation(function: Any, name: str, args: Any, kwargs: Any, out: Any) -> Operation:
    inputs, outputs = _tensors((args, kwargs)), _tensors(out)
    written = memory(outputs)
    overwritten = [args[0]] if name in ("copy_", "fill_", "zero_") else []
    read = memory(tensor for tensor in inputs if not any(tensor is other for other in overwritten))
    if name in GATHER:
        read += min(written, memory(inputs[:1])) - memory(inputs[:1])
    count = flop_registry.get(function.overloadpacket)
    flops = 0 if count is None else count(*args, **kwargs, out_val=out)
    title = SENT if name == "copy_" and outputs[0].is_cpu and args[2:] == (True,) else _title(name, inputs, outputs)
    return Operation(title, flops, read, written, tuple(outputs[0].shape) if outputs else ())


def _title(name: str, inputs: list[Tensor], outputs: list[Tensor]) -> str:
    """PyTorch's name, or ours for what moves numbers between card and CPU."""
    if name == "index" and any(tensor.dtype is torch.bool for tensor in inputs[1:]):
        return BOOLEAN_INDEX
    came, went = (any(tensor.is_cuda for tensor in tensors) for tensors in (inputs, outputs))
    if name in ("_to_copy", "copy_") and came != went:
        return UPLOAD if went else DOWNLOAD
    return name


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def memory(tensors: Iterable[Tensor]) -> int:
    """Bytes that different tensors occupy; an expanded dimension counts once."""
    return sum(_bytes(tensor) for tensor in {id(tensor): tensor for tensor in tensors}.values())


def _bytes(tensor: Tensor) -> int:
    sizes = [size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride]
    return int(torch.Size(sizes).numel()) * tensor.element_size()


class Peak(TorchDispatchMode):
    """The bytes of a card that are in use at once.

    Attributes:
        highest: of what was made in the block.
    """

    def __init__(self) -> None:
        super().__init__()
        self.highest = self._now = 0
        self._storages: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {storage_of(leaf)._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.is_cuda and storage_of(leaf)._cdata not in given | self._storages:
                self._keep(storage_of(leaf))
        return result

    def _keep(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._storages.add(key)
        self._now += size
        self.highest = max(self.highest, self._now)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._storages.discard(key)
        self._now -= size


def storage_of(tensor: Tensor) -> torch.UntypedStorage:
    """What views of one tensor share."""
    return tensor.untyped_storage()
