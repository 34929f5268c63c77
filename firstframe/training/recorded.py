"""Training steps on a GPU that are recorded once and replayed, so that no kernel waits for Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

WARM_UP = 3
FEW = 8


class RecordedStep:
    """Loss and gradients of a model in bf16, for batches that all have the same shapes (CUDA graphs).

    A step of a small model is thousands of kernels of a few microseconds each: a GPU runs them faster than Python can
    ask for them. Draws from PyTorch's own generator follow its seed as they do without a recording.

    Args:
        model: on a CUDA device.
        weights: those of its parameters that are trained, in fp32.
        loss: ``loss(model, batch)`` -> scalar. It must not read from the device.
    """

    def __init__(self, model: nn.Module, weights: Mapping[str, nn.Parameter], loss: Callable[[Any, Any], Tensor]):
        self.model, self.weights, self.loss = model, list(weights.values()), loss
        self.graph: torch.cuda.CUDAGraph | None = None
        self.batch: Any = None
        self.result: tuple[Tensor, tuple[Tensor | None, ...]]

    def __call__(self, batch: Any) -> Tensor:
        """The loss of a batch; the gradients are in the weights' ``grad`` until the next call."""
        if self.graph is None:
            self._record(batch)
        _copy_into(self.batch, batch)
        self.graph.replay()  # type: ignore[union-attr]
        loss, gradients = self.result
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        return loss.clone()

    def _record(self, batch: Any) -> None:
        self.batch, drawn = tree_map_only(Tensor, torch.clone, batch), torch.cuda.get_rng_state()
        self.graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._compute()
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(self.graph, stream=stream):
            self.result = self._compute()
        torch.cuda.set_rng_state(drawn)

    def _compute(self) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        with forward_with_bf16_weights(self.model), FewTokensAttention():
            loss = self.loss(self.model, self.batch)
        gradients = torch.autograd.grad(loss, self.weights, allow_unused=True)
        return loss.detach(), tuple(map(_laid_out_like, self.weights, gradients))


def _laid_out_like(weight: Tensor, gradient: Tensor | None) -> Tensor | None:
    """With the weight's strides, as autograd leaves a gradient in ``grad``: fused optimisers need them."""
    if gradient is None or gradient.stride() == weight.stride():
        return gradient
    return torch.empty_like(weight).copy_(gradient)


def _copy_into(target: Any, source: Any) -> None:
    for kept, new in zip(_tensors(target), _tensors(source), strict=True):
        kept.copy_(new, non_blocking=True)


def _tensors(tree: Any) -> list[Tensor]:
    found = list[Tensor]()
    tree_map_only(Tensor, found.append, tree)
    return found


@contextmanager
def forward_with_bf16_weights(model: nn.Module) -> Iterator[None]:
    """Forward passes of ``model`` with weights, buffers and inputs in bf16 until the end; it keeps its own in fp32.

    Where weights are few and activations many, this takes fewer kernels and less memory traffic than autocast, which
    normalises in fp32.
    """
    forward = _Forward(model)

    def cast_forward(*args: Any) -> Any:
        state = dict(forward.named_parameters()) | dict(forward.named_buffers())
        trained = {name: tensor for name, tensor in state.items() if tensor.requires_grad}
        frozen = {name: tensor for name, tensor in state.items() if tensor.is_floating_point() and name not in trained}
        cast = dict(zip(trained, _Bf16.apply(*trained.values()), strict=True))  # type: ignore[no-untyped-call]
        cast |= zip(frozen, _as(torch.bfloat16, frozen.values()), strict=True)
        return functional_call(forward, cast, tree_map_only(Tensor, _bf16_if_floating, args))

    vars(model)["forward"] = cast_forward
    try:
        yield
    finally:
        del vars(model)["forward"]


class _Forward(nn.Module):
    """The forward pass that a model had when this was made."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.original = model, model.forward

    def forward(self, *args: Any) -> Any:
        return self.original(*args)


class _Bf16(torch.autograd.Function):
    """Many tensors to bf16 at once, and their gradients back to fp32."""

    @staticmethod
    def forward(context: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        context.set_materialize_grads(False)
        return _as(torch.bfloat16, tensors)

    @staticmethod
    def backward(_: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        copies = iter(_as(torch.float32, [gradient for gradient in gradients if gradient is not None]))
        return tuple(None if gradient is None else next(copies) for gradient in gradients)


def _as(dtype: torch.dtype, tensors: Iterable[Tensor]) -> tuple[Tensor, ...]:
    originals = list(tensors)
    copies = [torch.empty_like(tensor, dtype=dtype) for tensor in originals]
    if copies:
        torch._foreach_copy_(copies, originals)
    return tuple(copies)


def _bf16_if_floating(tensor: Tensor) -> Tensor:
    return tensor.bfloat16() if tensor.is_floating_point() else tensor


class FewTokensAttention(TorchFunctionMode):
    """Attention among at most FEW tokens as products and sums.

    Fused kernels are made for long sequences. A motion module that sees four frames of each place attends in sequences
    of four, many thousands of them, and such a kernel spends a block of threads on each.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is functional.scaled_dot_product_attention and not kwargs and args[1].shape[-2] <= FEW:
            return by_sums(*args)
        return function(*args, **(kwargs or {}))


def by_sums(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention without a matrix product: query (..., N, D), key and value (..., M, D) to (..., N, D)."""
    scores = (query.unsqueeze(-2) * key.unsqueeze(-3)).sum(-1) / query.shape[-1] ** 0.5
    shares = scores.float().softmax(-1).to(value)
    return (shares.unsqueeze(-1) * value.unsqueeze(-3)).sum(-2)
