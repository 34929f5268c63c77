"""The ways to make a clip that are compared."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ..bindings.diffusers import SamplingSettings
from ..tiny.model import TinyModel
from ..tiny.pipeline import Strengths, animate_picture, decode_clip, generate_clip, retain_picture
from ..tiny.scenes.target import Target

METHODS = {
    "target": "the rendered scene itself",
    "autoencoder": "the target encoded and decoded: the ceiling for ssim and psnr",
    "base": "from the prompt alone, without the image",
    "clean_frame": "the clean first frame is held and sampling starts from the frame similarity prior; no adapter",
    "adapter": "the same, with the I2V adapter",
    "retention": "from noise, with the frame retention branch, which makes its own first frame",
    "adapter+retention": "adapter and branch together",
}
REFERENCES = ("target", "autoencoder")
"""Methods that sample nothing."""
COMPARED = ("base", "clean_frame", "adapter")
RETAINED = ("retention", "adapter+retention")
_STRENGTHS = {
    "clean_frame": Strengths(adapter=0.0),
    "adapter": Strengths(),
    "adapter+retention": Strengths(retention=1.0),
}


def make_clip(model: TinyModel, method: str, target: Target, settings: SamplingSettings) -> Tensor:
    """Make a clip (F, H, W, 3) in [0, 1] by one of METHODS, with a noise of its own for every target."""
    settings = replace(settings, seed=settings.seed + target.seed)
    caption = target.scene.caption
    if method == "target":
        return target.frames
    if method == "autoencoder":
        return _round_trip(model, target)
    if method == "base":
        height, width = target.frames.shape[1:3]
        return generate_clip(model, caption, settings, (height, width))
    if method == "retention":
        return retain_picture(model, target.picture, caption, settings)
    return animate_picture(model, target.picture, caption, settings, _STRENGTHS[method])


def _round_trip(model: TinyModel, target: Target) -> Tensor:
    """Encode and decode the frames of a target."""
    latents = model.encode(target.frames.movedim(-1, 1).to(model.unet.device))
    return decode_clip(model, latents.movedim(0, 1)[None])
