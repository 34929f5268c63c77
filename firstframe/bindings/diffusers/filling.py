"""Weights into a network that takes no memory yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

from ...errors import WeightsError

Network = TypeVar("Network", bound=nn.Module)


def fill(network: Network, weights: Mapping[str, Tensor], called: str) -> Network:
    """``network``, built on the meta device, with ``weights`` as its own; those that it has no place for are left out.

    Raises:
        WeightsError: one is missing or has another shape; ``called`` is what the message calls the network.
    """
    wanted = network.state_dict()
    for name, tensor in wanted.items():
        if name not in weights:
            raise WeightsError(f"the {called} lacks {name}; the file is cut off")
        if weights[name].shape != tensor.shape:
            raise WeightsError(
                f"{name} of the {called} has shape {tuple(weights[name].shape)}, not {tuple(tensor.shape)}"
            )
    network.load_state_dict({name: weights[name] for name in wanted}, assign=True)
    return network
