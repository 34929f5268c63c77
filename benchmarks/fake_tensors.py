"""CUDA tensors without a card: shapes, types and devices are true, numbers are known where there are few of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakIdKeyDictionary

CUDA = torch.device("cuda")
HALF = torch.float16
FEW = 2**20
UNKNOWN = ("rand", "empty", "new_empty")
SHAPE_ALONE = {"zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"}
"""Operations that ask nothing but the shape of their first input."""


@contextmanager
def fake_tensors() -> Iterator[None]:
    """In the block no tensor has memory, and devices that are not there may be named."""
    with torch.inference_mode(False), torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), _KnownNumbers():
        yield


@contextmanager
def built_on_card() -> Iterator[None]:
    """Modules that are made in the block are on the card, in 16 bit; being told to move or convert, they stay so."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(HALF)
    try:
        with CUDA, patch.object(nn.Module, "to", lambda module, *_, **__: module):
            yield
    finally:
        torch.set_default_dtype(default)


class _KnownNumbers(TorchDispatchMode):
    """Computes on the CPU what follows from known numbers alone, so that code may read them: sigmas, steps, gates.

    Fake tensors cannot be read. What a sampler reads of them decides which way it takes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.known: Any = WeakIdKeyDictionary()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.ops.aten._local_scalar_dense.default:
            with unset_fake_temporarily():
                return self._number(args[0]).item()
        if function is torch.ops.aten.nonzero.default:
            return self._places(args[0])
        if function is torch.ops.aten.index.Tensor:
            args = (args[0], [place for index in args[1] for place in self._as_places(index)])
        out = function(*args, **kwargs)
        name = function.overloadpacket.__name__
        if name in SHAPE_ALONE:
            args = (_unfilled(args[0]), *args[1:])
        if not name.startswith(UNKNOWN) and self._are_known(args, kwargs, out):
            self._compute(function, args, kwargs, out)
        return out

    def _are_known(self, args: Any, kwargs: Any, out: Any) -> bool:
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        outputs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        few = all(tensor.numel() <= FEW for tensor in outputs)
        return few and all(not isinstance(tensor, FakeTensor) or tensor in self.known for tensor in inputs)

    def _compute(self, function: Any, args: Any, kwargs: Any, out: Any) -> None:
        args, kwargs = tree_map(
            self._on_cpu, (args, {**kwargs, "pin_memory": False} if "pin_memory" in kwargs else kwargs)
        )
        with unset_fake_temporarily():
            numbers = function(*args, **kwargs)
        for fake, real in zip(tree_leaves(out), tree_leaves(numbers), strict=True):
            if isinstance(fake, Tensor):
                self.known[fake] = real

    def _on_cpu(self, leaf: Any) -> Any:
        if isinstance(leaf, torch.device):
            return torch.device("cpu")
        return self._number(leaf) if isinstance(leaf, Tensor) else leaf

    def _number(self, tensor: Tensor) -> Tensor:
        return self.known[tensor] if isinstance(tensor, FakeTensor) else tensor

    def _places(self, mask: Tensor) -> Tensor:
        """Where a mask with known numbers is true, (places, dimensions)."""
        with unset_fake_temporarily():
            numbers = self._number(mask).nonzero()
        places = torch.empty(numbers.shape, dtype=numbers.dtype, device=mask.device)
        self.known[places] = numbers
        return places

    def _as_places(self, index: Tensor | None) -> list[Tensor | None]:
        """A boolean index as one of places for each of its dimensions; another index as it is."""
        if index is None or index.dtype is not torch.bool:
            return [index]
        return [*self._places(index).unbind(1)]


def _unfilled(like: Tensor) -> Tensor:
    with unset_fake_temporarily():
        return torch.empty((), dtype=like.dtype).expand(like.shape)
