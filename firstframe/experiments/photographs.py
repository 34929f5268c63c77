"""Photographs under each camera word, against the same photographs truly panned, zoomed and turned."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from .. import __version__
from ..bindings.diffusers import SamplingSettings
from ..bindings.diffusers.pipeline import decode_clip, reference_of, sample_clip
from ..clips import metrics
from ..clips.exact import exact_first_frame
from ..clips.reference import prepare_image
from ..clips.video import contact_sheet
from ..errors import FirstFrameError
from ..tiny.config import SIZE
from ..tiny.model import TinyModel
from ..tiny.scenes import CAMERAS, GROUND_SIDES, film
from ..tiny.scenes.render import Clip

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
NUMBERS = ("ssim", "ceiling", "frame0_psnr", "ground_jump")
_SHOWN = (0, 1, 5, 10, 15)

Numbers = dict[str, float]


def measure_photographs(
    model: TinyModel, photographs: Path, folder: Path, settings: SamplingSettings
) -> dict[str, Any]:
    """Animate every photograph under every camera word, and compare it with the truth.

    Clips are made as ``firstframe animate`` makes them, with the image itself as frame 0.

    Args:
        model: the model that is measured.
        photographs: a folder; every image in it or below it is used, cropped to a square.
        folder: gets ``report.json`` and a contact sheet for every photograph, the truth above each clip.
        settings: how clips are sampled.

    Returns:
        What is in the JSON file: NUMBERS, means over photographs, for each camera word and for all of them. ``ssim`` is
        against the truth, ``ceiling`` that of the truth encoded and decoded, ``frame0_psnr`` of frame 0 against the
        image in dB, ``ground_jump`` the mean colour difference from frame 0 to frame 1 (CIE76).

    Raises:
        FirstFrameError: the folder has no image.
    """
    files = sorted(file for file in photographs.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise FirstFrameError(f"{photographs} has no image: a file that ends in {', '.join(SUFFIXES)}")
    folder.mkdir(parents=True, exist_ok=True)
    measured: dict[str, list[Numbers]] = {camera: [] for camera in CAMERAS}
    results: dict[str, Any] = {}
    for index, file in enumerate(tqdm(files, desc="photographs")):
        rows = []
        for camera, truth, clip in _clips(model, _canvas(file), settings):
            measured[camera].append(_numbers(model, truth, clip))
            rows += [_tensor(truth)[list(_SHOWN)], clip[list(_SHOWN)]]
        contact_sheet(torch.cat(rows), len(_SHOWN)).save(folder / f"{index:03}_{file.stem}.png")
        results = _report(measured, files[: index + 1], settings)
        (folder / "report.json").write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    return results


def _canvas(file: Path) -> NDArray[np.float32]:
    side = int(SIZE * GROUND_SIDES)
    return np.asarray(prepare_image(file, side, side, "cover")[0].movedim(0, -1).numpy(), np.float32)


def _clips(
    model: TinyModel, canvas: NDArray[np.float32], settings: SamplingSettings
) -> Iterator[tuple[str, Clip, Tensor]]:
    """Camera word, truth and sampled clip (F, H, W, 3)."""
    for camera in CAMERAS:
        truth = film(canvas, camera, settings.num_frames, SIZE)
        image = _tensor(truth)[0]
        clip = sample_clip(model, camera, settings, reference_of(model, image.movedim(-1, 0)[None]))
        yield camera, truth, exact_first_frame(clip, image)


def _numbers(model: TinyModel, truth: Clip, clip: Tensor) -> Numbers:
    true = _tensor(truth)
    latents = model.encode(true.movedim(-1, 1).to(model.unet.device))
    return {
        "ssim": metrics.ssim(clip, true),
        "ceiling": metrics.ssim(decode_clip(model, latents.movedim(0, 1)[None]), true),
        "frame0_psnr": metrics.psnr(clip[:1], true[:1]),
        "ground_jump": metrics.camera_jump(clip, truth.flow),
    }


def _report(measured: dict[str, list[Numbers]], files: Sequence[Path], settings: SamplingSettings) -> dict[str, Any]:
    everything = [numbers for of_camera in measured.values() for numbers in of_camera]
    return {
        "version": __version__,
        "settings": asdict(settings),
        "photographs": [file.name for file in files],
        "overall": _means(everything),
        "cameras": {camera: _means(numbers) for camera, numbers in measured.items()},
    }


def _means(numbers: Sequence[Numbers]) -> Numbers:
    return {name: round(float(np.mean([one[name] for one in numbers])), 4) for name in NUMBERS}


def _tensor(truth: Clip) -> Tensor:
    """Its frames (F, H, W, 3) in [0, 1]."""
    return torch.from_numpy(truth.frames).float() / 255
