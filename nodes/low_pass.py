"""The inputs of adaptive low-pass guidance."""

from __future__ import annotations

from comfy_api.latest import io


def low_pass_inputs(purpose: str) -> list[io.Input]:
    """How soft the early steps see the image, and where they end. ``purpose`` begins the first tooltip."""
    return [
        io.Float.Input(
            "early_detail",
            default=1.0,
            min=0.05,
            max=1.0,
            step=0.05,
            optional=True,
            tooltip=f"{purpose} 1 is off; 0.4 as published.",
        ),
        io.Float.Input(
            "early_end",
            default=0.2,
            min=0.0,
            max=1.0,
            step=0.01,
            optional=True,
            tooltip="Where the early steps end in the noise schedule, 0 (all noise) to 1 (none). Later is more motion.",
        ),
    ]
