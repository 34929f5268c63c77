"""``firstframe animate``: a clip from an image and prompts, with the model that ships or with weights of your own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .. import __version__
from ..errors import FirstFrameError
from .animate_options import (
    Adapter,
    AmongLast,
    Clips,
    ColorMatch,
    Content,
    Economy,
    Exact,
    Fit,
    Fps,
    Guidance,
    HowToFit,
    Image,
    Motion,
    Negative,
    Out,
    Overlap,
    Parallel,
    PassesOption,
    Prompt,
    Rescale,
    RetentionStrength,
    Side,
    Strength,
    UseRetention,
)
from .model_options import (
    SD15,
    TINY,
    AdapterFile,
    CheckpointFile,
    ContentFile,
    Loras,
    MotionFile,
    Offload,
    ProjectionsFile,
    RetentionFile,
    VaeFile,
    VisionFile,
    files_of,
    load_video_model,
    names_of,
)
from .options import (
    Device,
    Frames,
    ImageScale,
    Keep,
    Seed,
    Start,
    Steps,
    TextScale,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ..bindings.diffusers.settings import Progress


def animate(
    image: Image,
    prompt: Prompt,
    out: Out = Path("out.mp4"),
    negative: Negative = "",
    frames: Frames = 16,
    steps: Steps = 20,
    cfg: Guidance = None,
    seed: Seed = 0,
    keep: Keep = 0.5,
    start: Start = 1.0,
    motion: Motion = None,
    adapter: Adapter = True,
    strength: Strength = 1.0,
    retention: UseRetention = False,
    retention_strength: RetentionStrength = 1.0,
    image_scale: ImageScale = None,
    text_scale: TextScale = None,
    clips: Clips = None,
    among_last: AmongLast = 1,
    overlap: Overlap = 0,
    fps: Fps = 8.0,
    width: Side = None,
    height: Side = None,
    fit: HowToFit = Fit.cover,
    color_match: ColorMatch = False,
    exact: Exact = True,
    device: Device = "",
    passes: PassesOption = Economy.full,
    parallel: Parallel = 1.0,
    rescale: Rescale = 0.0,
    content_strength: Content = 1.0,
    checkpoint: CheckpointFile = None,
    motion_module: MotionFile = None,
    i2v_adapter: AdapterFile = None,
    retention_branch: RetentionFile = None,
    content_adapter: ContentFile = None,
    projections: ProjectionsFile = None,
    clip_vision: VisionFile = None,
    vae: VaeFile = None,
    lora: Loras = [],  # noqa: B006
    offload: Offload = False,
) -> None:
    """Animate an image: a clip, and its frames side by side in a png next to it.

    Without --checkpoint, the tiny model that ships with FirstFrame makes the clip.
    """
    from ..bindings.diffusers.animate import Animation, animate_image

    _check_output(out, fps)
    files = files_of(
        checkpoint,
        lora,
        motion_module=motion_module,
        i2v_adapter=i2v_adapter,
        retention=retention_branch,
        content_adapter=content_adapter,
        projections=projections,
        clip_vision=clip_vision,
        vae=vae,
    )
    if files and retention and not retention_branch:
        raise FirstFrameError("--retention is the tiny model's branch; with a checkpoint give --retention-branch FILE")
    defaults = TINY if files is None else SD15
    animation = Animation(
        tuple(_one_prompt_per_clip(prompt, clips)),
        negative,
        frames,
        steps,
        defaults.cfg if cfg is None else cfg,
        seed,
        keep,
        start,
        motion.value if motion else None,
        adapter=adapter and (files is None or files.i2v_adapter is not None),
        strength=strength,
        retention=retention or retention_branch is not None,
        retention_strength=retention_strength,
        content_strength=content_strength,
        image_scale=image_scale,
        text_scale=text_scale,
        passes=passes.value,
        parallel=parallel,
        rescale=rescale,
        among_last=among_last,
        overlap=overlap,
        width=width or defaults.side,
        height=height or defaults.side,
        fit=fit.value,
        color_match=color_match,
        exact=exact,
    )
    prepared = animation.prepare(image)
    if files is None:
        _warn([*animation.prompts, negative], animation.width, animation.height)
    clip = animate_image(load_video_model(files, device, offload), prepared, animation, _progress_bar)
    made_by = {"prompts": list(animation.prompts), **asdict(animation.scales), **asdict(animation.settings)}
    _write(out, clip, fps, {"version": __version__, **made_by, **names_of(files)})


def _one_prompt_per_clip(prompts: list[str], clips: int | None) -> list[str]:
    """A prompt for each clip; one prompt may serve all of them."""
    if clips is None or clips == len(prompts):
        return prompts
    if clips < 1 or len(prompts) > 1:
        raise FirstFrameError(f"{clips} clips need one prompt each, or one for all of them; {len(prompts)} were given")
    return prompts * clips


def _sheet_of(out: Path) -> Path:
    return out.with_name(f"{out.stem}_frames.png")


def _check_output(out: Path, fps: float) -> None:
    """Refuse what could not be written after sampling."""
    from ..clips.video import check_format, check_place

    check_format(out, fps)
    check_place(_sheet_of(out))


def _warn(prompts: list[str], width: int, height: int) -> None:
    """Say on stderr what the tiny model will not do well."""
    from ..tiny.notices import about_size, about_words

    for notice in (about_words(" ".join(prompts)), about_size(width, height)):
        if notice:
            typer.echo(f"firstframe: {notice}", err=True)


@contextmanager
def _progress_bar(words: str) -> Iterator[Progress]:
    from tqdm.auto import tqdm

    with tqdm(desc=words) as bar:

        def advance(done: int, total: int, _: Tensor) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield advance


def _write(out: Path, clip: Tensor, fps: float, made_by: dict[str, Any]) -> None:
    from ..clips.video import contact_sheet, write_clip

    write_clip(out, clip, fps, {"firstframe": json.dumps(made_by)})
    contact_sheet(clip).save(_sheet_of(out))
    typer.echo(f"{out}\n{_sheet_of(out)}")
