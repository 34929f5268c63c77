"""Context windows on a MODEL, of which every one sees the clean first frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import comfy.context_windows
import comfy.model_management
import torch
from comfy.context_windows import ContextHandlerABC, ContextWindowABC
from comfy.controlnet import ControlBase
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP
from torch import Tensor

from ...sampling.windows import anchored_windows, blend_weights
from .once import Once

WINDOWS_KEY = "firstframe_windows"


class Window(ContextWindowABC):
    """Some frames of a clip. Others find it as ``transformer_options["context_window"]``."""

    dim = 0

    def __init__(self, index_list: list[int]) -> None:
        super().__init__()
        self.index_list = index_list
        self.context_length = len(index_list)
        self.once = Once()

    def get_tensor(self, full: Tensor, device: Any = None, dim: int = 0, **_: Any) -> Tensor:
        """The window's part of a tensor with all frames; one that has a single frame holds for all."""
        if full.shape[dim] == 1:
            return full
        return full.index_select(dim, self._index(full.device)).to(device or full.device)

    def add_window(self, full: Tensor, to_add: Tensor) -> Tensor:
        """``full`` (F, ...), to which the window's part is added in place."""
        return full.index_add_(0, self._index(full.device), to_add)

    def share(self, like: Tensor) -> Tensor:
        """How much each frame of the window counts, (F, 1, 1, 1)."""
        key = ("share", like.device, like.dtype)
        return self.once(key, lambda: blend_weights(self.context_length).to(like)[:, None, None, None])

    def _index(self, device: torch.device) -> Tensor:
        return self.once(device, lambda: torch.tensor(self.index_list, device=device))


class AnchoredWindows(ContextHandlerABC):
    """Evaluates a long clip window by window; where they overlap, the middle of a window counts most."""

    dim = 0

    def __init__(self, context_length: int, overlap: int) -> None:
        super().__init__()
        self.context_length, self.overlap = context_length, overlap
        self.once = Once()

    def should_use_context(
        self, model: Any, conds: Any, x_in: Tensor, timestep: Tensor, model_options: dict[str, Any]
    ) -> bool:
        """Called by the host: whether the clip is longer than a window."""
        return len(x_in) > self.context_length

    def execute(
        self,
        calc_cond_batch: Callable[..., list[Tensor]],
        model: Any,
        conds: list[Any],
        x_in: Tensor,
        timestep: Tensor,
        model_options: dict[str, Any],
    ) -> list[Tensor]:
        """Called by the host: what the model says of each conditioning, for the whole clip."""
        totals = [torch.zeros_like(x_in) for _ in conds]
        weight = x_in.new_zeros(len(x_in), 1, 1, 1)
        for window in self._windows(len(x_in)):
            comfy.model_management.throw_exception_if_processing_interrupted()
            told = {**model_options["transformer_options"], "context_window": window}
            with controls_of_window(conds, len(x_in), window, model) as controlled:
                found = calc_cond_batch(
                    model,
                    [self.get_resized_cond(cond, x_in, window) for cond in controlled],
                    window.get_tensor(x_in),
                    window.get_tensor(timestep),
                    {**model_options, "transformer_options": told},
                )
            share = window.share(x_in)
            window.add_window(weight, share)
            for total, part in zip(totals, found, strict=True):
                window.add_window(total, share * part)
        return [total / weight for total in totals]

    def _windows(self, num_frames: int) -> list[Window]:
        listed = partial(anchored_windows, num_frames, self.context_length, self.overlap)
        return self.once(num_frames, lambda: [Window(frames) for frames in listed()])

    def get_resized_cond(
        self, cond_in: list[dict[str, Any]] | None, x_in: Tensor, window: ContextWindowABC, device: Any = None
    ) -> list[dict[str, Any]] | None:
        """Copies of a conditioning's parts that keep the window's frames of whatever has one entry for each frame."""
        if cond_in is None:
            return None
        return [{name: _of_window(value, len(x_in), window) for name, value in cond.items()} for cond in cond_in]


def _of_window(value: Any, num_frames: int, window: ContextWindowABC) -> Any:
    if isinstance(value, Tensor):
        return window.get_tensor(value) if value.ndim and len(value) == num_frames else value
    if isinstance(value, dict):
        return {name: _of_window(one, num_frames, window) for name, one in value.items()}
    if isinstance(getattr(value, "cond", None), Tensor):
        return value._copy_with(_of_window(value.cond, num_frames, window))
    return value


@contextmanager
def controls_of_window(
    conds: list[Any], num_frames: int, window: Window, model: Any
) -> Iterator[list[list[dict[str, Any]] | None]]:
    """Conditionings whose controls have the window's images, where they have one image for each frame.

    Such controls are copied for the window, once where several conditionings share one, so that the host still puts
    them into one call.
    """
    copies: dict[int, ControlBase] = {}

    def copied(control: ControlBase | None) -> ControlBase | None:
        if control is None or not any(_has_each_frame(one, num_frames) for one in _chain(control)):
            return control
        if id(control) not in copies:
            other = copies[id(control)] = control.copy()
            if _has_each_frame(control, num_frames):
                other.cond_hint_original = window.get_tensor(control.cond_hint_original)
            other.set_previous_controlnet(copied(control.previous_controlnet))
            other.pre_run(model, model.model_sampling.percent_to_sigma)
        return copies[id(control)]

    try:
        yield [
            cond and [{**one, "control": copied(one["control"])} if "control" in one else one for one in cond]
            for cond in conds
        ]
    finally:
        for control in copies.values():
            control.set_previous_controlnet(None)
            control.cleanup()


def _chain(control: ControlBase | None) -> Iterator[ControlBase]:
    while control is not None:
        yield control
        control = control.previous_controlnet


def _has_each_frame(control: ControlBase, num_frames: int) -> bool:
    return control.cond_hint_original is not None and len(control.cond_hint_original) == num_frames


def apply_windows(model: ModelPatcher, length: int, overlap: int) -> ModelPatcher:
    """A clone of ``model`` that samples long clips in windows. Raises FramesError for an overlap that is too large."""
    anchored_windows(length + 1, length, overlap)
    windowed, handler = model.clone(), AnchoredWindows(length, overlap)
    windowed.model_options["context_handler"] = handler
    windowed.add_callback_with_key(CallbacksMP.ON_CLEANUP, WINDOWS_KEY, handler.once.clear)
    comfy.context_windows.create_prepare_sampling_wrapper(windowed)
    return windowed
