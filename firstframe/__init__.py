"""FirstFrame: image-to-video for Stable Diffusion 1.5, with the picture as the first frame."""

__version__ = "0.1.0"
