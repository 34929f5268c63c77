"""A sampling that turns to NaN: noticed without waiting for the device, and traced to the network that made it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NotFiniteError
from ..modules.i2v_adapter import I2VAdapter
from ..modules.image_prompt import ImageTokenAdapter
from ..modules.motion import MotionModule
from ..modules.retention import RetentionBranch

UNKNOWN = 2
PINNED = ("cuda", "xpu")
NAMES: dict[type[nn.Module], str] = {
    MotionModule: "the motion module",
    I2VAdapter: "the I2V adapter",
    ImageTokenAdapter: "the content adapter",
    RetentionBranch: "the retention branch",
}

Network = tuple[str, nn.Module]
"""What a message calls a network, and the network."""


class Watch:
    """Stops a sampling whose clean latents are not finite.

    A flag for each step is computed on the device. It travels to the CPU while the next step runs, so that no step
    waits: on a GPU the sampling stops one step later. Devices that cannot send it like this are asked at the end.
    """

    def __init__(self) -> None:
        self._steps: deque[tuple[Flag, Callable[[], NotFiniteError]]] = deque()

    def note(self, denoised: Tensor, explain: Callable[[], NotFiniteError]) -> None:
        """Look at a step's clean latents of any shape, and at the steps before whose flags have arrived.

        Raises:
            NotFiniteError: from ``explain``, which may compute the step again.
        """
        self._steps.append((Flag(denoised), explain))
        while self._steps and self._steps[0][0].has_arrived:
            self._check_first()

    def finish(self) -> None:
        """Wait for all steps. Raises NotFiniteError as :meth:`note` does."""
        while self._steps:
            self._check_first()

    def clear(self, *_: object) -> None:
        """Forget all steps."""
        self._steps.clear()

    def _check_first(self) -> None:
        flag, explain = self._steps.popleft()
        if not flag.read():
            self.clear()
            raise explain()


class Flag:
    """Whether all values of a tensor are finite."""

    def __init__(self, values: Tensor) -> None:
        self.on_device = values.isfinite().all()
        self.on_cpu = self.on_device
        if self.on_device.device.type in PINNED:  # a copy into pinned memory does not wait
            self.on_cpu = torch.full((), UNKNOWN, dtype=torch.uint8, pin_memory=True)
            self.on_cpu.copy_(self.on_device, non_blocking=True)

    @property
    def has_arrived(self) -> bool:
        """Whether the CPU knows."""
        return self.on_cpu.device.type == "cpu" and int(self.on_cpu) != UNKNOWN

    def read(self) -> bool:
        """The flag; waits for the device where it has not arrived."""
        return bool(self.on_cpu if self.has_arrived else self.on_device)


def name_of(network: nn.Module) -> str:
    """What a message calls a network that is attached to a UNet."""
    return next((name for kind, name in NAMES.items() if isinstance(network, kind)), type(network).__name__)


def not_finite(
    where: str, latents: Tensor, networks: Sequence[Network], evaluate: Callable[[], object]
) -> NotFiniteError:
    """The error for a step, with the network that is at fault.

    Args:
        where: the step, in words.
        latents: that came into the step.
        networks: that may be at fault.
        evaluate: computes the step again, once.
    """
    if not latents.isfinite().all():
        return NotFiniteError(
            f"{where} began with latents that are not finite (NaN or infinite). The start latent has such values, or "
            "the sampler has diverged: check the image and its latent, use more steps or another sampler"
        )
    found = first_not_finite(networks, evaluate)
    if found is None:
        return NotFiniteError(
            f"{where} turned to values that are not finite (NaN or infinite), though no network computed such a "
            "value: lower the guidance scales, or leave out what else changes the prediction"
        )
    network, layer = found
    return NotFiniteError(
        f"{where} turned to values that are not finite (NaN or infinite): the first to compute one was {network}"
        f"{f', in its layer {layer}' if layer else ''}. Lower its strength or the guidance, compute in fp32, or check "
        "its file with: firstframe weights inspect FILE"
    )


def first_not_finite(networks: Sequence[Network], evaluate: Callable[[], object]) -> tuple[str, str] | None:
    """Name and layer of the first network whose output is not finite while ``evaluate`` runs."""
    found: list[tuple[str, str]] = []

    def looking_at(network: str, layer: str) -> Callable[..., None]:
        def hook(_layer: nn.Module, _inputs: Any, output: Any) -> None:
            if not found and not all(tensor.isfinite().all() for tensor in _tensors(output)):
                found.append((network, layer))

        return hook

    with ExitStack() as hooks:
        for network, module in networks:
            for layer, inner in module.named_modules():
                hooks.callback(inner.register_forward_hook(looking_at(network, layer)).remove)
        evaluate()
    return found[0] if found else None


def _tensors(output: Any) -> Iterator[Tensor]:
    """What a layer returns: a tensor, or several."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict | list | tuple):
        for part in output.values() if isinstance(output, dict) else output:
            yield from _tensors(part)
