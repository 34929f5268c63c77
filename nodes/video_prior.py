"""Where sampling starts, for the host's own image-to-video models."""

from __future__ import annotations

from typing import Any

import torch
from comfy.sampler_helpers import prepare_mask
from comfy_api.latest import io
from torch import Tensor

from ..firstframe.errors import ModelMismatchError
from ..firstframe.sampling.prior import Knobs, mask_generator, similar_clip
from .aliases import search_aliases
from .inputs import blur_inputs, prior_inputs


class VideoPrior(io.ComfyNode):
    """The frame similarity prior in the latent of a video model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameVideoPrior",
            display_name="Frame Similarity Prior (video models)",
            category="FirstFrame/prior",
            **search_aliases("Wan", "HunyuanVideo", "LTX", "Cosmos", "initial latent", "steadier video"),
            description=(
                "For Wan, HunyuanVideo, LTX, Cosmos and their like: starts every frame from a softened copy of the "
                "image instead of from nothing. Wire LATENT into the sampler's latent_image and denoise into its "
                "denoise."
            ),
            inputs=[
                io.Latent.Input(
                    "latent", tooltip="From the video model's own image-to-video node, with its mask if it has one."
                ),
                *prior_inputs(
                    0.8,
                    "steps. 1 starts from noise alone, where the prior has no effect on these models; smaller is "
                    "steadier, with less motion.",
                ),
                *blur_inputs(),
                io.Latent.Input(
                    "picture",
                    optional=True,
                    tooltip=(
                        "The image from VAE Encode, or a still clip of it as long as the video. Not needed where the "
                        "latent begins with the image (Wan 2.2 5B, LTX, Cosmos)."
                    ),
                ),
            ],
            outputs=[io.Latent.Output(display_name="LATENT"), io.Float.Output(display_name="denoise")],
        )

    @classmethod
    def execute(
        cls,
        latent: dict[str, Any],
        start_time: float,
        keep_probability: float,
        blur_kernel: int,
        blur_sigma: float,
        seed: int,
        picture: dict[str, Any] | None = None,
    ) -> io.NodeOutput:
        clip = _of_video(latent, "latent")
        first = clip[:, :, :1] if picture is None else _of_video(picture, "picture")
        knobs = Knobs(start_time, keep_probability)
        frames = similar_clip(clip, first, knobs.keep_probability, mask_generator(seed), blur_kernel, blur_sigma)
        if "noise_mask" in latent:
            held = prepare_mask(latent["noise_mask"], clip.shape, clip.device) < 1
            frames = torch.where(held, clip, frames)
        return io.NodeOutput({**latent, "samples": frames}, knobs.start_time)


def _of_video(latent: dict[str, Any], name: str) -> Tensor:
    """A latent's samples (B, C, F, H, W). Raises ModelMismatchError for those of an image model."""
    samples: Tensor = latent["samples"]
    if samples.ndim != 5:
        raise ModelMismatchError(
            f"{name}: a video model's latent is (B, C, F, H, W), this one is {tuple(samples.shape)}. For AnimateDiff "
            "use Frame Similarity Prior; for a video model encode with its own VAE"
        )
    return samples
