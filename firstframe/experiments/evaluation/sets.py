"""Numbers of a whole set of clips: Fréchet distances and the inception score, by torchmetrics."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import FirstFrameError, WeightsError

LEAST_FRAMES = 10
"""I3D needs so many."""


def torchscript(path: Path, device: torch.device) -> Any:
    """A network in TorchScript, as I3D and C3D are published for these metrics."""
    try:
        return torch.jit.load(path, map_location=device).eval()  # type: ignore[no-untyped-call]
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path}: cannot be read as TorchScript ({str(error).splitlines()[0]})") from error


class Features(nn.Module):
    """Features that are computed already, as torchmetrics asks for a network of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        """The same."""
        return features


def frechet_distance(made: Tensor, true: Tensor) -> float:
    """Fréchet distance of two sets of features (N, D), each taken for a Gaussian; 0 where they are equal.

    Raises:
        FirstFrameError: a set has fewer than two.
    """
    if min(len(made), len(true)) < 2:
        raise FirstFrameError(f"a Fréchet distance needs two clips on each side, got {len(made)} and {len(true)}")
    metric = _torchmetrics("fid").FrechetInceptionDistance(feature=Features(made.shape[1])).set_dtype(torch.float64)
    metric.update(made.double(), real=False)
    metric.update(true.double(), real=True)
    return float(metric.compute())


@torch.inference_mode()
def i3d_features(network: Any, frames: Tensor, device: torch.device) -> Tensor:
    """Features (400,) of a clip (F, H, W, 3), uint8, by the I3D in TorchScript, which scales and resizes by itself.

    Raises:
        FirstFrameError: the clip is too short.
    """
    if len(frames) < LEAST_FRAMES:
        raise FirstFrameError(f"FVD needs clips of {LEAST_FRAMES} frames or more, got {len(frames)}")
    features: Tensor = network(_clip(frames, device), rescale=True, resize=True, return_features=True)
    return features[0].float().cpu()


@torch.inference_mode()
def c3d_probabilities(network: Any, frames: Tensor, device: torch.device) -> Tensor:
    """Class probabilities (K,) of a clip (F, H, W, 3), uint8, by a C3D in TorchScript, whose clips have 16 frames."""
    clip = functional.interpolate(_clip(frames, device), (16, *frames.shape[1:3])) if len(frames) != 16 else None
    scores: Tensor = network(_clip(frames, device) if clip is None else clip)[0].float().cpu()
    is_probability = bool((scores >= 0).all()) and abs(scores.sum().item() - 1) < 1e-3
    return scores if is_probability else scores.softmax(-1)


def inception_score(probabilities: Tensor, splits: int = 10) -> float:
    """IS of class probabilities (N, K): the mean over ``splits``, at most one for each two clips."""
    splits = max(1, min(splits, len(probabilities) // 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of memory, and of the deviation of a single split
        metric = _torchmetrics("inception").InceptionScore(feature=Features(probabilities.shape[1]), splits=splits)
        metric.update(probabilities.clamp(min=1e-12).log())
        return float(metric.compute()[0])


def _clip(frames: Tensor, device: torch.device) -> Tensor:
    """(F, H, W, 3) to (1, 3, F, H, W), 0 to 255."""
    return frames.permute(3, 0, 1, 2)[None].float().to(device)


def stacked(features: Sequence[Tensor | None]) -> Tensor:
    """Those that are there, (N, D)."""
    return torch.stack([feature for feature in features if feature is not None])


def _torchmetrics(name: str) -> Any:
    try:
        return import_module(f"torchmetrics.image.{name}")
    except ImportError as error:
        raise FirstFrameError("this number needs torchmetrics: pip install torchmetrics") from error
