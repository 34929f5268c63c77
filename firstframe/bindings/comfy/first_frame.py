"""The clean first frame: the picture itself stands in frame 0 at every step, whatever sampler runs."""

from __future__ import annotations

from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...errors import FramesError, ModelMismatchError
from .picture_gate import seeing_clips

FIRST_FRAME_KEY = "firstframe_first_frame"
NOISY_FRAME = "firstframe_noisy_frame"


def hold_first_frame(model: ModelPatcher, latent: Tensor) -> ModelPatcher:
    """A clone of ``model`` that keeps ``latent`` (1, C, H, W), as the autoencoder gave it, in frame 0.

    The UNet sees frame 0 without noise (arXiv 2312.16693, section 3.2), its prediction for that frame is the picture,
    and a schedule that ends at sigma 0 ends with the picture. Nothing of the picture is changed by a sampler.
    Conditionings that do not see the picture see frame 0 as noisy as the others.
    """
    held = model.clone()
    held.add_wrapper_with_key(WrappersMP.APPLY_MODEL, FIRST_FRAME_KEY, _apply)
    held.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, FIRST_FRAME_KEY, _predict(latent))
    held.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, FIRST_FRAME_KEY, _sample(latent))
    return held


def _predict(latent: Tensor) -> Any:
    def predict(
        executor: Any, x: Tensor, timestep: Tensor, model_options: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Tensor:
        model = executor.class_obj.inner_model
        picture = model.process_latent_in(latent).to(x)
        scale = model.model_sampling.calculate_input(timestep[:1], torch.ones_like(picture))
        told = {**model_options.get("transformer_options", {}), NOISY_FRAME: x[:1]}
        options = {**model_options, "transformer_options": told}
        denoised: Tensor = executor(torch.cat([picture / scale, x[1:]]), timestep, options, *args, **kwargs)
        return torch.cat([picture, denoised[1:]])

    return predict


def _apply(executor: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """One call of the UNet, with noise in frame 0 of the clips that do not see the picture."""
    options = _transformer_options(args, kwargs)
    seeing = seeing_clips(kwargs, len(options["cond_or_uncond"]))
    if seeing is not None:
        clips = x.unflatten(0, (len(seeing), -1)).clone()
        clips[~seeing, 0] = options[NOISY_FRAME].to(x)
        x = clips.flatten(0, 1)
    result: Tensor = executor(x, *args, **kwargs)
    return result


def _transformer_options(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Of ``apply_model(x, t, c_concat, c_crossattn, control, transformer_options)``."""
    options: dict[str, Any] = kwargs["transformer_options"] if "transformer_options" in kwargs else args[4]
    return options


def _sample(latent: Tensor) -> Any:
    def sample(executor: Any, guider: Any, sigmas: Tensor, *args: Any) -> Tensor:
        _extra_args, _callback, noise, *_rest = args
        _check_clip(latent, noise)
        to_the_end = sigmas[-1].item() == 0  # asked before the run: uni_pc writes into sigmas
        samples: Tensor = executor(guider, sigmas, *args)
        if not to_the_end:
            return samples
        return torch.cat([guider.inner_model.process_latent_in(latent).to(samples), samples[1:]])

    return sample


def _check_clip(latent: Tensor, noise: Tensor) -> None:
    """Does a latent batch (F, C, H, W) fit the picture?"""
    if noise.shape[0] < 2:
        raise FramesError("one frame is no clip: set the latent's batch_size to the number of frames")
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
