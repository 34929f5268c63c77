"""What a clip looks like in numbers. Pixel clips are (F, H, W, 3), uint8 or floats in [0, 1]."""

from .brightness import brightness_drift, contrast_drift
from .image import first_frame_ssim, psnr, ssim
from .temporal import Direction, flow_score, measured_direction, optical_flow, warping_error
from .truth import background_flow, background_jump, camera_jump, object_speed, object_ssim, silhouette_iou

__all__ = [
    "Direction",
    "background_flow",
    "background_jump",
    "brightness_drift",
    "camera_jump",
    "contrast_drift",
    "first_frame_ssim",
    "flow_score",
    "measured_direction",
    "object_speed",
    "object_ssim",
    "optical_flow",
    "psnr",
    "silhouette_iou",
    "ssim",
    "warping_error",
]
