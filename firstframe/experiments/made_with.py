"""What a report was made with."""

from __future__ import annotations

import platform
from importlib.metadata import version

import cv2

from .. import __version__


def made_with() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    packages = {name: version(name) for name in ("torch", "diffusers", "kornia")}
    return {"firstframe": __version__, "Python": platform.python_version(), **packages, "OpenCV": cv2.__version__}
