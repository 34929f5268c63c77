"""The numbers of one clip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from ...clips.metrics import first_frame_ssim, flow_score, warping_error
from ...clips.metrics.terms import Term
from ...errors import FramesError
from .embedding import ClipEmbedding
from .flow import Flow
from .pairs import Pair

TERMS: Mapping[str, Term] = {
    "fff_ssim": Term("FFF-SSIM", 3, "Structural similarity of the first frame to the image, 0 to 1; 1 is equal."),
    "fff_clip": Term(
        "FFF-CLIP", 3, "Cosine of the CLIP embeddings of the first frame and the image; 1 is equal. Needs CLIP weights."
    ),
    "clip_temp": Term(
        "CLIPTemp",
        3,
        "Mean cosine of the CLIP embeddings of the image and of every frame; 1 is equal. A clip in which nothing moves "
        "has the highest. Needs CLIP weights.",
    ),
    "flow_score": Term(
        "FlowScore (px/frame)",
        2,
        "Mean length of the optical flow between neighbouring frames, in pixels; a still has 0.",
    ),
    "warping_error": Term(
        "WarpingError",
        1,
        "Mean squared difference, colours from 0 to 255, between a frame and its next one warped back by the flow; a "
        "still has 0.",
    ),
    "fvd": Term("FVD", 1, "Fréchet distance of I3D's features (arXiv 1812.01717), as the I3D weights that were given."),
    "video_is": Term(
        "IS", 2, "Inception score of C3D's classes (arXiv 1611.06624, video: 1811.09245). Higher is better."
    ),
    "frechet_clip": Term(
        "Fréchet distance, CLIP",
        4,
        "Of the clips' mean CLIP embeddings to those of the true clips. This is not FVD, and not comparable with it.",
    ),
}


class Measured(NamedTuple):
    """The numbers of a clip, and the mean of its frames' CLIP embeddings (D,), if there are any."""

    numbers: dict[str, float]
    embedding: Tensor | None


def measure_clip(pair: Pair, flow: Flow, clip: ClipEmbedding | None) -> Measured:
    """Measure a clip against its reference.

    Raises:
        FramesError: it has a single frame.
    """
    frames = pair.frames()
    if len(frames) < 2:
        raise FramesError(f"{pair.clip}: a clip to measure needs at least two frames, got {len(frames)}")
    image = pair.image(*frames.shape[1:3])
    numbers = {"fff_ssim": first_frame_ssim(frames, image)}
    embeddings = None
    if clip is not None:
        embeddings = clip(frames)
        cosines = embeddings @ clip(image[None])[0]
        numbers |= {"fff_clip": cosines[0].item(), "clip_temp": cosines.mean().item()}
    moved = flow(frames)
    numbers |= {"flow_score": flow_score(frames, moved), "warping_error": warping_error(frames, moved)}
    return Measured(numbers, None if embeddings is None else embeddings.mean(0))
