"""The clean first frame: the image itself stands in frame 0 at every step, whatever sampler runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP, WrappersMP
from torch import Tensor

from ...errors import FramesError, ModelMismatchError
from .evaluation import frames_seen
from .image_gate import seeing_clips
from .once import Once
from .preview import preview_all_frames

FIRST_FRAME_KEY = "firstframe_first_frame"
HELD_FRAMES = "firstframe_held_frames"
AREAS = "firstframe_areas"

Images = Mapping[int, Tensor]
"""Latents (1, C, H, W) by the number of the frame that they are held in."""


def hold_first_frame(model: ModelPatcher, latent: Tensor, others: Mapping[int, Tensor] | None = None) -> ModelPatcher:
    """A clone of ``model`` that keeps ``latent`` (1, C, H, W), as the autoencoder gave it, in frame 0.

    The UNet sees frame 0 without noise (arXiv 2312.16693, section 3.2), its prediction for that frame is the image,
    and a schedule that ends at sigma 0 ends with the image. Nothing of the image is changed by a sampler.
    Conditionings that do not see the image see frame 0 as noisy as the others. ``others`` are kept likewise, by their
    numbers; -1 is the last frame.
    """
    images = {0: latent, **(others or {})}
    held, once = preview_all_frames(model), Once()
    held.add_wrapper_with_key(WrappersMP.APPLY_MODEL, FIRST_FRAME_KEY, _apply)
    held.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, FIRST_FRAME_KEY, _predict(images, once))
    held.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, FIRST_FRAME_KEY, _sample(images))
    held.add_callback_with_key(CallbacksMP.ON_CLEANUP, FIRST_FRAME_KEY, once.clear)
    return held


def _predict(images: Images, once: Once) -> Any:
    def predict(
        executor: Any, x: Tensor, timestep: Tensor, model_options: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Tensor:
        model = executor.class_obj.inner_model
        frames = held_frames(images, len(x))
        clean = once(x.device, lambda: model.process_latent_in(torch.cat(list(images.values()))).to(x))
        scale = model.model_sampling.calculate_input(timestep[:1], torch.ones_like(clean))
        told = {HELD_FRAMES: {frame: x[frame] for frame in frames}, AREAS: _areas(executor.class_obj.conds)}
        options = {**model_options, "transformer_options": {**model_options.get("transformer_options", {}), **told}}
        denoised: Tensor = executor(_with(x, frames, clean / scale), timestep, options, *args, **kwargs)
        return _with(denoised, frames, clean)

    return predict


def held_frames(images: Images, num_frames: int) -> list[int]:
    """The frames that are held in a clip; FramesError where one lies outside of it, or two are the same."""
    frames = [frame + num_frames if frame < 0 else frame for frame in images]
    for frame in frames:
        if not 0 <= frame < num_frames:
            raise FramesError(f"an image is to be held in frame {frame}, but the clip has frames 0 to {num_frames - 1}")
    if len(set(frames)) < len(frames):
        raise FramesError(f"two images are to be held in one frame: {frames}")
    return frames


def _with(clip: Tensor, frames: list[int], images: Tensor) -> Tensor:
    """A copy of a clip (F, C, H, W) with ``images`` (R, C, H, W) in ``frames``."""
    shown = clip.clone()
    for frame, image in zip(frames, images, strict=True):
        shown[frame] = image
    return shown


def _areas(conds: Mapping[str, list[dict[str, Any]]]) -> dict[Any, tuple[int, ...]]:
    """The areas (height, width, y, x), in latent pixels, of a guider's conditionings that have one, by their uuids."""
    return {entry["uuid"]: entry["area"] for entries in conds.values() for entry in entries if "area" in entry}


def _apply(executor: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """One call of the UNet, with noise in the held frames of the clips that do not see the image."""
    options = _transformer_options(args, kwargs)
    seeing = seeing_clips(kwargs)
    if seeing is not None:
        x = _with_noise(x, [clip for clip, sees in enumerate(seeing) if not sees], options)
    result: Tensor = executor(x, *args, **kwargs)
    return result


def _with_noise(x: Tensor, blind: Sequence[int], options: dict[str, Any]) -> Tensor:
    """A call's batch (clips*F, C, H, W) with noise in the held frames of the clips ``blind``.

    A call may show a part of the frames' width and height: the area of its conditionings.
    """
    clips = x.reshape(len(options["cond_or_uncond"]), -1, *x.shape[1:]).clone()
    for place, frame in enumerate(frames_seen(options, clips.shape[1])):
        if frame in options[HELD_FRAMES]:
            for clip in blind:
                area = options[AREAS].get(options["uuids"][clip])
                clips[clip, place] = _cropped(options[HELD_FRAMES][frame], area).to(x)
    return clips.flatten(0, 1)


def _cropped(frame: Tensor, area: tuple[int, ...] | None) -> Tensor:
    """The part of a frame (C, H, W) that the host evaluates for an area (height, width, y, x)."""
    if area is None:
        return frame
    height, width, top, left = area
    return frame[:, top : top + height, left : left + width]


def _transformer_options(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Of ``apply_model(x, t, c_concat, c_crossattn, control, transformer_options)``."""
    options: dict[str, Any] = kwargs["transformer_options"] if "transformer_options" in kwargs else args[4]
    return options


def _sample(images: Images) -> Any:
    def sample(executor: Any, guider: Any, sigmas: Tensor, *args: Any) -> Tensor:
        _extra_args, _callback, noise, *_rest = args
        for latent in images.values():
            _check_clip(latent, noise)
        to_the_end = sigmas[-1].item() == 0  # asked before the run: uni_pc writes into sigmas
        samples: Tensor = executor(guider, sigmas, *args)
        if not to_the_end:
            return samples
        clean = guider.inner_model.process_latent_in(torch.cat(list(images.values())))
        return _with(samples, held_frames(images, len(samples)), clean)

    return sample


def _check_clip(latent: Tensor, noise: Tensor) -> None:
    """Does a latent batch (F, C, H, W) fit the image?"""
    if noise.shape[0] < 2:
        raise FramesError("a clip needs at least two frames: set the latent's batch_size to the number of frames")
    if noise.shape[1] != latent.shape[1]:
        raise ModelMismatchError(
            f"the reference has {latent.shape[1]} latent channels, the sampled latent has {noise.shape[1]}: "
            "encode the reference with the VAE of this model"
        )
    if noise.shape[2:] != latent.shape[2:]:
        reference, sampled = (f"{8 * frames.shape[3]}x{8 * frames.shape[2]}" for frames in (latent, noise))
        raise FramesError(
            f"the reference is {reference} pixels, the sampled latent is {sampled}: "
            "give both nodes the same width and height"
        )
