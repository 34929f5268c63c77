"""The precision of a forward pass: bf16 by autocast, and attention in fp32 where bf16 is slow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Precision = Literal["no", "fp16", "bf16"]


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """Everything until the end in a precision."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return nullcontext() if precision == "no" else torch.autocast(device.type, dtype)


def forward_in(precision: Precision, model: nn.Module, device: torch.device) -> AbstractContextManager[None]:
    """Forward passes of ``model`` in a precision until the end. fp16 is accelerate's, which scales the gradients."""
    return forward_in_bf16(model, device) if precision == "bf16" else nullcontext()


@contextmanager
def forward_in_bf16(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Forward passes of ``model`` under bf16 autocast until the end; on CPUs, attention stays in fp32."""
    autocast = torch.autocast(device.type, torch.bfloat16)
    forward = model.forward

    def cast_forward(*args: Any, **kwargs: Any) -> Any:
        with autocast:
            return forward(*args, **kwargs)

    vars(model)["forward"] = cast_forward
    try:
        if device.type == "cpu":
            with FullPrecisionAttention():
                yield
        else:
            yield
    finally:
        del vars(model)["forward"]


class FullPrecisionAttention(TorchFunctionMode):
    """Attention in fp32 under a bf16 autocast: its gradient in bf16 is slow on CPUs."""

    entered = 0

    def __enter__(self) -> FullPrecisionAttention:
        FullPrecisionAttention.entered += 1
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        FullPrecisionAttention.entered -= 1
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    @classmethod
    def again(cls) -> AbstractContextManager[Any]:
        """The mode, where it holds: PyTorch leaves it for backward passes, which may compute a forward pass again."""
        return cls() if cls.entered else nullcontext()

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is not functional.scaled_dot_product_attention:
            return function(*args, **(kwargs or {}))
        query, key, value = args[:3]
        with torch.autocast(query.device.type, enabled=False):
            result = function(query.float(), key.float(), value.float(), *args[3:], **(kwargs or {}))
        return result.to(query.dtype)
