"""A sampling that turns to NaN stops, and the network that made it is named."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from firstframe.errors import NotFiniteError
from firstframe.modules.i2v_adapter import I2VAdapter
from firstframe.sampling.finite import Watch, first_not_finite, name_of, not_finite
from firstframe.sites import Site

NAN = float("nan")


def explain() -> NotFiniteError:
    return NotFiniteError("here")


class Split(nn.Module):
    """A network whose layers return dictionaries and tuples."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(2, 2), nn.Identity()

    def forward(self, x: Tensor) -> dict[str, list[Tensor]]:
        return {"output": [self.outer(self.inner(x))]}


def broken(network: nn.Module) -> nn.Module:
    """The same with weights of NaN."""
    for parameter in network.parameters():
        parameter.data.fill_(NAN)
    return network


def test_a_finite_step_passes() -> None:
    watch = Watch()
    for _ in range(3):
        watch.note(torch.ones(2, 3), explain)
    watch.finish()


@pytest.mark.parametrize("value", [NAN, float("inf"), float("-inf")])
def test_a_step_that_is_not_finite_stops_at_once(value: float) -> None:
    watch, clip = Watch(), torch.zeros(2, 3, 4)
    clip[1, 2, 3] = value
    with pytest.raises(NotFiniteError, match="here"):
        watch.note(clip, explain)
    watch.finish()


def test_the_largest_numbers_are_finite() -> None:
    for dtype in (torch.float16, torch.float32):
        Watch().note(torch.full((9,), torch.finfo(dtype).max, dtype=dtype), explain)


def test_the_first_network_is_named() -> None:
    first, second = Split(), broken(Split())
    networks = [("the second", second), ("the first", first)]
    evaluate = lambda: second(first(torch.ones(1, 2))["output"][0])  # noqa: E731
    assert first_not_finite(networks, evaluate) == ("the second", "inner")
    broken(first)
    assert first_not_finite(networks, evaluate) == ("the first", "inner")
    assert not any(module._forward_hooks for module in [*first.modules(), *second.modules()]), "hooks stay"


def test_what_the_message_says() -> None:
    good, bad = nn.Linear(2, 2), broken(nn.Linear(2, 2))
    x = torch.ones(1, 2)
    assert "step 3 began with latents that are not finite" in str(not_finite("step 3", x * NAN, [], explain))
    assert "no network computed" in str(not_finite("step 3", x, [("it", good)], lambda: good(x)))
    said = str(not_finite("step 3", x, [("it", bad)], lambda: bad(x)))
    assert said.startswith("step 3 turned to values that are not finite") and "the first to compute one was it." in said
    said = str(not_finite("step 3", x, [("it", broken(Split()))], lambda: broken(Split())(x)))
    assert "no network computed" in said


def test_names() -> None:
    assert name_of(I2VAdapter({Site("down", 0, 0): 32}, 4)) == "the I2V adapter"
    assert name_of(nn.Linear(1, 1)) == "Linear"
