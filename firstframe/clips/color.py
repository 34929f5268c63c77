"""Colours of a clip held to those of its first frame: a and b of LAB are histogram-matched, L is kept."""

from __future__ import annotations

import torch
from kornia.color import lab_to_rgb, rgb_to_lab
from torch import Tensor

from ..errors import still_wanted
from .opencv_lab import lab8_to_rgb, rgb_to_lab8

_LEAST_DEVIATION = 1.0
"""Of a channel of LAB; below it, all pixels are about the same and nothing is stretched."""


def match_color(frames: Tensor, reference: Tensor, official: bool = False) -> Tensor:
    """Give every frame the reference's distribution of a and b in CIE LAB, each channel by itself.

    Args:
        frames: (F, H, W, 3) RGB in [0, 1].
        reference: (h, w, 3) RGB in [0, 1], of any size.
        official: what the released I2V-Adapter code does (`color_match_frames`): 8 bits per channel, and RGB taken
            for BGR on the way into LAB and back. It reproduces that code's results.

    Returns:
        Frames of the same shape and type. Colours outside the RGB gamut are clipped, so that L changes a little there.
    """
    match = _match_official if official else _match
    matched = torch.stack([match(frame, reference.float()) for frame in still_wanted(frames.float())])
    return matched.to(frames.dtype)


def match_clip_color(frames: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Move the colours of ``frames`` as those of ``source`` move to ``target``, by one transform for all frames.

    Each channel of CIE LAB gets the target's mean and deviation (Reinhard et al. 2001). A transform for each frame
    would flicker.

    Args:
        frames: (F, H, W, 3) RGB in [0, 1].
        source: (S, H, W, 3), what the frames look like on the whole, for example the frames themselves.
        target: (T, H, W, 3), what they should look like.

    Returns:
        Frames of the same shape and type, clipped to the RGB gamut.
    """
    mean, deviation = _lab_statistics(source)
    wanted_mean, wanted_deviation = _lab_statistics(target)
    lab = rgb_to_lab(frames.float().movedim(-1, 1))
    moved = (lab - mean) * (wanted_deviation / deviation.clamp(min=_LEAST_DEVIATION)) + wanted_mean
    rgb: Tensor = lab_to_rgb(moved)
    return rgb.clamp(0, 1).movedim(1, -1).to(frames.dtype)


def _lab_statistics(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of L, a and b over all frames, (1, 3, 1, 1) each."""
    lab = rgb_to_lab(frames.float().movedim(-1, 1))
    return lab.mean((0, 2, 3), keepdim=True), lab.std((0, 2, 3), keepdim=True)


def match_histogram(values: Tensor, template: Tensor) -> Tensor:
    """Map values monotonically so that they are distributed as the template's (skimage's match_histograms).

    Args:
        values: any shape.
        template: any shape.

    Returns:
        float64 of the shape of ``values``.
    """
    _, index, counts = torch.unique(values, return_inverse=True, return_counts=True)
    template_values, template_counts = torch.unique(template, return_counts=True)
    quantiles = counts.cumsum(0).double() / values.numel()
    template_quantiles = template_counts.cumsum(0).double() / template.numel()
    return _interpolate(quantiles, template_quantiles, template_values.double())[index]


def _interpolate(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """numpy.interp: ys at x, linear between the sorted xs, constant outside."""
    right = torch.searchsorted(xs, x).clamp(max=len(xs) - 1)
    left = (right - 1).clamp(min=0)
    share = (x - xs[left]) / (xs[right] - xs[left])
    return torch.lerp(ys[left], ys[right], torch.where(left == right, 0, share).clamp(0, 1))


def _match(frame: Tensor, reference: Tensor) -> Tensor:
    lab, wanted = rgb_to_lab(frame.movedim(-1, 0)), rgb_to_lab(reference.movedim(-1, 0))
    a, b = (match_histogram(lab[channel], wanted[channel]).float() for channel in (1, 2))
    matched: Tensor = lab_to_rgb(torch.stack([lab[0], a, b]))
    return matched.movedim(0, -1)


def _match_official(frame: Tensor, reference: Tensor) -> Tensor:
    # The release hands RGB to a function that expects BGR: red and blue change places.
    lab, wanted = (rgb_to_lab8((image * 255).to(torch.uint8).flip(-1)) for image in (frame, reference))
    a, b = (match_histogram(lab[..., channel], wanted[..., channel]).to(torch.uint8) for channel in (1, 2))
    return lab8_to_rgb(torch.stack([lab[..., 0], a, b], -1)).flip(-1) / 255
