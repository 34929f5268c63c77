"""RGB to CIE LAB and back in 8 bits per channel, equal to OpenCV to the integer.

The released I2V-Adapter matches its colours in these coarse steps. L is stored times 255/100, a and b plus
128. All arithmetic is fixed point, to reproduce results to the last bit; `>> n` after adding half rounds.
"""

from __future__ import annotations

import torch
from torch import Tensor

SRGB_TO_XYZ = torch.tensor(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]],
    dtype=torch.float64,
)
WHITE_D65 = torch.tensor([0.950456, 1.0, 1.088754], dtype=torch.float64)
THRESHOLD = (6 / 29) ** 3  # below it the cube root of LAB is a straight line
ONE = 1 << 14  # 1.0 on the way back


def rgb_to_lab8(rgb: Tensor) -> Tensor:
    """(..., 3) uint8 RGB -> (..., 3) uint8 LAB."""
    unit = rgb.double() / 255
    linear = torch.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    to_xyz = _round(4096 * SRGB_TO_XYZ / WHITE_D65[:, None])
    xyz = (_matmul(_round(2040 * linear), to_xyz) + 2048 >> 12) / 2040
    cubic = torch.where(xyz < THRESHOLD, xyz * (841 / 108) + 16 / 116, xyz ** (1 / 3))
    x, y, z = (32768 * cubic).float().round().long().unbind(-1)  # OpenCV holds it in 32 bits; half goes to even
    lightness = 296 * y - 1336934 + 16384 >> 15
    a = (500 * (x - y) + 16384 >> 15) + 128
    b = (200 * (y - z) + 16384 >> 15) + 128
    return torch.stack([lightness, a, b], -1).clamp(0, 255).to(torch.uint8)


def lab8_to_rgb(lab: Tensor) -> Tensor:
    """(..., 3) uint8 LAB -> (..., 3) uint8 RGB, clipped to the gamut."""
    lightness, a, b = lab.long().unbind(-1)
    cubic = (lightness * 100 / 255 + 16) / 116  # f(Y); lightness 20 of 255 is L = 8, where the line begins
    dark = lightness <= 20
    y = _round(ONE * torch.where(dark, lightness * 180 / (17 * 29**3), cubic.double() ** 3))
    f_y = _round(ONE * torch.where(dark, 16 / 116 + lightness * 5 / (3 * 17 * 29), cubic))
    f_x = f_y + (5 * a * 53687 + 128 >> 13) - 128 * ONE // 500
    f_z = f_y - (b * 41943 + 16 >> 9) + 128 * ONE // 200 - 1
    to_rgb = _round(4096 * torch.linalg.inv(SRGB_TO_XYZ) * WHITE_D65)
    xyz = torch.stack([_cube(f_x), y, _cube(f_z)], -1)
    linear = (_matmul(xyz, to_rgb) + 8192 >> 14).clamp(0, 4095) / 4096
    unit = torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return _round(255 * unit).to(torch.uint8)


def _cube(root: Tensor) -> Tensor:
    """f^-1 of LAB on numbers where ONE is 1."""
    line = torch.div(root * 108, 841, rounding_mode="trunc") - 290
    return torch.where(root <= ONE * 6 // 29, line, root * root // ONE * root // ONE)


def _matmul(colours: Tensor, matrix: Tensor) -> Tensor:
    return (colours[..., None, :] * matrix).sum(-1)


def _round(value: Tensor) -> Tensor:
    return (value + 0.5).floor().long()
