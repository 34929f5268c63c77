"""All frames of a clip as a small animation while it is sampled. The host's own preview shows the first frame alone."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import latent_preview
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfy_api.latest import ComfyAPI
from comfy_execution.utils import get_executing_context
from PIL import Image
from torch import Tensor

PREVIEW_KEY = "firstframe_preview"
FRAMES_PER_SECOND = 8
SHARE = 0.05
"""Of the time that decoding may take from sampling: slow decoders show fewer frames."""

Callback = Callable[[int, Tensor, Tensor, int], None]


def preview_all_frames(model: ModelPatcher) -> ModelPatcher:
    """A clone of ``model`` that shows all frames while it samples, if the host shows previews at all. Twice is once.

    Frame after frame goes through the host's progress, in the way of its own previews. Latents are only looked at.
    """
    shown = model.clone()
    if not shown.get_wrappers(WrappersMP.OUTER_SAMPLE, PREVIEW_KEY):
        shown.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, PREVIEW_KEY, _sample)
    return shown


def _sample(
    executor: Any,
    noise: Tensor,
    latent_image: Tensor,
    sampler: Any,
    sigmas: Tensor,
    denoise_mask: Tensor | None = None,
    callback: Callback | None = None,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    def sample(callback: Callback | None) -> Tensor:
        samples: Tensor = executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, *args, **kwargs)
        return samples

    model, node = executor.class_obj.model_patcher, get_executing_context()
    if callback is None or node is None:
        return sample(callback)
    previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
    if previewer is None:
        return sample(callback)
    player = Player(previewer, node.node_id)

    def show(step: int, denoised: Tensor, x: Tensor, total: int) -> None:
        callback(step, denoised, x, total)
        player.show(denoised, step + 1, total)

    try:
        return sample(show)
    finally:
        player.close()


class Player(threading.Thread):
    """Shows the frames of the newest clean latents in turn, beside the sampling, until it is closed."""

    def __init__(self, previewer: Any, node_id: str) -> None:
        super().__init__(name="firstframe preview", daemon=True)
        self.previewer, self.node_id = previewer, node_id
        self.closed = threading.Event()
        self.frames: list[Tensor] = []
        self.done = (0, 1)
        self.start()

    def show(self, denoised: Tensor, step: int, total: int) -> None:
        """From now on the frames of ``denoised``, (F, C, H, W) or (B, C, F, H, W)."""
        clip = denoised.tensors[0] if denoised.is_nested else denoised  # type: ignore[attr-defined]
        self.frames, self.done = frames_of(clip), (step, total)

    def close(self) -> None:
        """The last frame was shown when this returns."""
        self.closed.set()
        self.join()

    def run(self) -> None:
        """Called by the thread. A pack that previews in its own way answers with no image: it is left alone."""
        shown, pause = 0, 1 / FRAMES_PER_SECOND
        decoded: dict[int, Image.Image] = {}
        frames = self.frames
        with torch.inference_mode():
            while not self.closed.wait(pause):
                if frames is not self.frames:
                    frames, decoded = self.frames, {}
                if len(frames) < 2:
                    continue
                index, start = shown % len(frames), time.monotonic()
                if index not in decoded:
                    decoded[index] = self.previewer.decode_latent_to_preview(frames[index])
                if not isinstance(decoded[index], Image.Image):
                    return
                pause = max(1 / FRAMES_PER_SECOND, (time.monotonic() - start) / SHARE)
                asyncio.run(ComfyAPI.Execution().set_progress(*self.done, self.node_id, decoded[index]))
                shown += 1


def frames_of(clip: Tensor) -> list[Tensor]:
    """(F, C, H, W) to F times (1, C, H, W); the first of (B, C, F, H, W) to F times (1, C, 1, H, W)."""
    return list(torch.split(clip, 1) if clip.ndim == 4 else torch.split(clip[:1], 1, dim=2))
