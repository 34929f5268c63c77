"""The watch for faults on GPUs sees each kind of them, in backward passes too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from on_cuda import DeviceFault, OneDevice, backward, fake_cuda
from torch import Tensor

FAULTS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "item": lambda x, _: x[0].item(),
    "bool": lambda x, _: bool(x[0] > 0),
    "tolist": lambda x, _: x.tolist(),
    "boolean index": lambda x, _: x[x > 0],
    "boolean assignment": lambda x, y: x.index_put_((x > 0,), x),
    "nonzero": lambda x, _: x.nonzero(),
    "unique": lambda x, _: x.unique(),
    "index on the CPU": lambda x, y: x[y.long()],
    "indexed on the CPU": lambda x, y: y[x.long()],
    "indices from a list": lambda x, _: x[[0, 1]],
    "to the CPU": lambda x, _: x.cpu(),
    "to the GPU": lambda x, y: y.to(x),
    "made on the CPU": lambda x, _: torch.tensor([1.0, 2.0], device=x.device),
    "copied into": lambda x, y: x.copy_(y),
    "sent into memory that is not pinned": lambda x, y: y.copy_(x, non_blocking=True),
    "pinned, but waiting": lambda x, _: torch.empty(4, pin_memory=True).copy_(x),
    "two devices": lambda x, y: x + y,
}
HARMLESS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "number": lambda x, _: x * 2.0,
    "CPU scalar": lambda x, y: x * y[0],
    "index": lambda x, _: x[x.long()],
    "slice": lambda x, _: x[:2].flip(0),
    "choice by a mask": lambda x, _: torch.where(x > 0, x, 0.0),
    "made on the GPU": lambda x, _: torch.randn_like(x) + torch.arange(4, device=x.device),
    "sent into pinned memory": lambda x, _: torch.empty(4, pin_memory=True).copy_(x, non_blocking=True),
    "on the CPU alone": lambda _, y: y + y,
}


class Doubled(torch.autograd.Function):
    """Reads a value in its backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient.cpu().to(gradient)


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_seen(name: str, inference: bool) -> None:
    with torch.inference_mode(inference), fake_cuda(), pytest.raises(DeviceFault):
        x, y = torch.ones(4, device="cuda"), torch.ones(4)
        with OneDevice():
            FAULTS[name](x, y)


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("name", HARMLESS)
def test_what_does_no_harm_is_let_through(name: str, inference: bool) -> None:
    with torch.inference_mode(inference), fake_cuda():
        x, y = torch.ones(4, device="cuda"), torch.ones(4)
        with OneDevice() as watch:
            HARMLESS[name](x, y)
    assert watch.operations


@pytest.fixture
def gradients() -> Iterator[None]:
    with torch.inference_mode(False), torch.enable_grad():
        yield


def test_a_fault_in_the_backward_pass_is_seen(gradients: None) -> None:
    with fake_cuda():
        x = torch.ones(4, device="cuda", requires_grad=True)
        loss = Doubled.apply(x).sum()
        with OneDevice(), pytest.raises(DeviceFault):
            backward(loss)


def test_the_backward_pass_is_that_of_pytorch(gradients: None) -> None:
    def loss(x: Tensor) -> Tensor:
        low, high = x.chunk(2)
        return (low * high.exp() + low.detach() * x[0]).sum() * x.mean()

    x, y = (torch.arange(4.0).requires_grad_() for _ in range(2))
    backward(loss(x))
    loss(y).backward()
    torch.testing.assert_close(x.grad, y.grad)
