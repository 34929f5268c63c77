"""Motion LoRAs (arXiv 2106.09685): low-rank changes of a motion module."""

from __future__ import annotations

from pathlib import Path

from ..errors import WeightsError
from .contents import Contents, opened
from .files import StateDict


def load_motion_lora(path: Path | str) -> StateDict:
    """Low-rank changes of a motion module from AnimateDiff's layout.

    Returns:
        For each changed layer ``sites.down_0_0.attentions.0.to_q.lora_up.weight`` (C, r) and ``.lora_down.weight``
        (r, C), whose product is added to its weight (C, C).

    Raises:
        WeightsError: naming the file and what is wrong in it, for example one half alone, or halves that do not fit.
    """
    with opened(path, "motion_lora") as contents:
        for name in contents.state:
            _check_halves(contents, name)
        contents.check_values()
        return contents.state


def _check_halves(contents: Contents, name: str) -> None:
    up, down = name.replace("lora_down", "lora_up"), name.replace("lora_up", "lora_down")
    if not {up, down} <= contents.state.keys():
        raise WeightsError(f"{contents.shown(name)} has no other half; the file is cut off")
    shapes = contents.shape(up, 2), contents.shape(down, 2)
    if shapes[0] != shapes[1][::-1]:
        raise WeightsError(
            f"the halves of {contents.shown(name)} are {shapes[0]} and {shapes[1]}, which do not fit each other"
        )
