"""What a clip looks like in numbers. Pixel clips are (F, H, W, 3), uint8 or floats in [0, 1]."""

from .brightness import brightness_drift, contrast_drift
from .image import first_frame_ssim, psnr, ssim
from .temporal import Direction, flow_score, measured_direction, optical_flow, warping_error

__all__ = [
    "Direction",
    "brightness_drift",
    "contrast_drift",
    "first_frame_ssim",
    "flow_score",
    "measured_direction",
    "optical_flow",
    "psnr",
    "ssim",
    "warping_error",
]
