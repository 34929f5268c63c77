"""An image and prompts to a clip: every option of ``firstframe animate``, by its name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from PIL.Image import Image
from torch import Tensor

from ...clips.color import match_color
from ...clips.exact import exact_first_frame
from ...clips.extend import check_among_last
from ...clips.overlap import check_overlap
from ...clips.reference import Fit, Reference, check_size, prepare_image
from ...errors import FirstFrameError
from ...sampling.guidance import PASSES, DualGuidance
from ...sampling.prior import MOTION, Knobs
from .injection import PartScales
from .pipeline import VideoModel, animate_sequence, continue_sequence, decode_clip, reference_of, sample_latents
from .settings import Progress, SamplingSettings

Watch = Callable[[str], AbstractContextManager[Progress | None]]
"""Called with each clip's prompt; within its context it is told of every step."""


@dataclass(frozen=True)
class Animation:
    """What is made of an image.

    Attributes:
        prompts: one for each clip; the next clip starts where the one before ended.
        negative: what should not be seen.
        frames, steps, cfg, seed: as in :class:`~.settings.SamplingSettings`.
        keep, start: of the frame similarity prior: ``keep_probability`` and ``start_time`` there.
        motion: "subtle", "balanced" or "lively", in place of ``keep`` and ``start``.
        adapter, retention: whether the I2V adapter and the retention branch are used. The branch alone makes the first
            frame itself.
        strength, retention_strength, content_strength: of adapter, branch and content adapter; 1 is as trained.
        image_scale, text_scale: dual guidance in place of ``cfg``, each 1 or ``cfg`` where it is None.
        passes: where both scales hold: "full" or "economical".
        parallel, rescale: as in :class:`~firstframe.sampling.guidance.DualGuidance`.
        among_last: the next clip starts with the sharpest of so many last frames.
        overlap: the next clip begins with so many last frames, as latents; 0: with the last image alone.
        width, height: pixels, multiples of 8.
        fit: how the image is brought to that size.
        color_match: whether the colours of all frames are held to the image's.
        exact: whether frame 0 is the image itself, as :func:`firstframe.clips.exact.exact_first_frame` makes it. Not
            where the branch alone makes the first frame.
        scale_blur: whether the prior's blur is scaled with the latent's size.

    Raises:
        FirstFrameError: a value is out of its range, before anything is loaded.
    """

    prompts: tuple[str, ...]
    negative: str = ""
    frames: int = 16
    steps: int = 20
    cfg: float = 7.5
    seed: int = 0
    keep: float = 0.5
    start: float = 1.0
    motion: str | None = None
    adapter: bool = True
    strength: float = 1.0
    retention: bool = False
    retention_strength: float = 1.0
    content_strength: float = 1.0
    image_scale: float | None = None
    text_scale: float | None = None
    passes: Literal["full", "economical"] = "full"
    parallel: float = 1.0
    rescale: float = 0.0
    among_last: int = 1
    overlap: int = 0
    width: int = 512
    height: int = 512
    fit: Fit = "cover"
    color_match: bool = False
    exact: bool = True
    scale_blur: bool = True

    def __post_init__(self) -> None:
        if not self.prompts:
            raise FirstFrameError("a clip needs a prompt; it may be empty")
        for name, known in {"motion": (None, *MOTION), "passes": tuple(PASSES)}.items():
            if getattr(self, name) not in known:
                choices = ", ".join(str(one) for one in known if one)
                raise FirstFrameError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
        check_size(self.width, self.height)
        settings, _ = self.settings, self.scales  # refuse what they refuse
        if len(self.prompts) > 1:
            check_among_last(self.among_last, settings.num_frames)
        if self.overlap:
            check_overlap(self.overlap, settings.num_frames)

    def prepare(self, image: Tensor | Image | str | Path) -> Tensor:
        """An image of any kind in the clip's size, (1, 3, H, W) in [0, 1]. Raises ImageError."""
        return prepare_image(image, self.width, self.height, self.fit)

    @cached_property
    def settings(self) -> SamplingSettings:
        """How each clip is sampled."""
        prior = MOTION[self.motion] if self.motion else Knobs(self.start, self.keep)
        return SamplingSettings(
            self.frames,
            self.steps,
            self.cfg,
            self.seed,
            prior.keep_probability,
            prior.start_time,
            guidance=self._guidance,
            size=(self.height, self.width),
            scale_blur=self.scale_blur,
        )

    @property
    def _guidance(self) -> DualGuidance | None:
        """None where plain guidance by the text is all that is asked for."""
        refined = (self.passes, self.parallel, self.rescale) != ("full", 1.0, 0.0)
        if self.image_scale is None and self.text_scale is None and not refined:
            return None
        return DualGuidance(
            1.0 if self.image_scale is None else self.image_scale,
            self.cfg if self.text_scale is None else self.text_scale,
            PASSES[self.passes].image_interval,
            PASSES[self.passes].text_interval,
            self.parallel,
            self.rescale,
        )

    @cached_property
    def scales(self) -> PartScales:
        """How strong each part is."""
        return PartScales(
            adapter=self.adapter * self.strength,
            image_tokens=self.content_strength,
            retention=self.retention * self.retention_strength,
        )


def animate_image(
    model: VideoModel, image: Tensor, animation: Animation, watch: Watch = lambda _: nullcontext()
) -> Tensor:
    """Animate one image.

    Args:
        model: that of :func:`~.models.load_model`, or the tiny one.
        image: (1, 3, H, W) in [0, 1], as :meth:`Animation.prepare` makes it.
        animation: what is made of it.
        watch: told of every step of every clip.

    Returns:
        Frames (F, H, W, 3) in [0, 1] on the CPU.
    """

    held = animation.adapter or not animation.retention
    start = image[0].movedim(0, -1)

    def sampled(reference: Reference, prompt: str, settings: SamplingSettings) -> Tensor:
        with watch(prompt) as progress:
            return sample_latents(
                model, prompt, settings, reference, animation.scales, negative=animation.negative, progress=progress
            )

    def animated(first: Tensor, prompt: str, settings: SamplingSettings) -> Tensor:
        clip = decode_clip(model, sampled(reference_of(model, first, encode=held), prompt, settings))
        return finished(clip, first[0].movedim(0, -1))

    def finished(clip: Tensor, first: Tensor) -> Tensor:
        coloured = match_color(clip, start) if animation.color_match else clip
        return exact_first_frame(coloured, first) if animation.exact and held else coloured

    prompts, settings = animation.prompts, animation.settings
    if not animation.overlap:
        return animate_sequence(animated, image, prompts, settings, animation.among_last)
    reference = reference_of(model, image, encode=held)
    return finished(continue_sequence(model, sampled, reference, prompts, settings, animation.overlap), start)
