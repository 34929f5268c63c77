"""The ways to make a clip that are compared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from torch import Tensor

from ..bindings.diffusers import PartScales, SamplingSettings
from ..bindings.diffusers.pipeline import decode_clip, reference_of, sample_clip
from ..tiny.model import TinyModel
from ..tiny.scenes import COLOURS, SHAPES, Scene
from ..tiny.scenes.target import Target

METHODS = {
    "target": "the rendered scene itself",
    "autoencoder": "the target encoded and decoded: the ceiling for ssim and psnr",
    "base": "from the prompt alone, without the image",
    "clean_frame": "the clean first frame is held and sampling starts from the frame similarity prior; no adapter",
    "adapter": "the same, with the I2V adapter",
    "unspoken": "the adapter, with words for colour and shape that the model does not know",
    "contradicted": "the adapter, with wrong words for colour and shape",
    "retention": "from noise, with the frame retention branch, which makes its own first frame",
    "adapter+retention": "adapter and branch together",
}
REFERENCES = ("target", "autoencoder")
"""Methods that sample nothing."""
COMPARED = ("base", "clean_frame", "adapter")
MISLED = ("unspoken", "contradicted")
"""Methods whose prompts do not say what the image shows."""
RETAINED = ("retention", "adapter+retention")
_SCALES = {
    "base": PartScales(adapter=0.0, retention=0.0),
    "clean_frame": PartScales(adapter=0.0, retention=0.0),
    **dict.fromkeys(("adapter", *MISLED), PartScales(retention=0.0)),
    "retention": PartScales(adapter=0.0),
    "adapter+retention": PartScales(),
}


def make_clip(model: TinyModel, method: str, target: Target, settings: SamplingSettings) -> Tensor:
    """Make a clip (F, H, W, 3) in [0, 1] by one of METHODS, with a noise of its own for every target."""
    if method == "target":
        return target.frames
    if method == "autoencoder":
        return _round_trip(model, target)
    height, width = target.frames.shape[1:3]
    settings = replace(settings, seed=settings.seed + target.seed, size=(height, width))
    reference = None if method == "base" else reference_of(model, target.image, encode=method != "retention")
    return sample_clip(model, _prompt(method, target.scene), settings, reference, _SCALES[method])


def _prompt(method: str, scene: Scene) -> str:
    if method == "unspoken":
        return replace(scene, colour="zorp", shape="blib").caption
    if method == "contradicted":
        return replace(scene, colour=_next(COLOURS, scene.colour), shape=_next(SHAPES, scene.shape)).caption
    return scene.caption


def _next(words: Iterable[str], word: str) -> str:
    """Another word of the same kind."""
    ordered = list(words)
    return ordered[(ordered.index(word) + 1) % len(ordered)]


def _round_trip(model: TinyModel, target: Target) -> Tensor:
    """Encode and decode the frames of a target."""
    latents = model.encode(target.frames.movedim(-1, 1).to(model.unet.device))
    return decode_clip(model, latents.movedim(0, 1)[None])
