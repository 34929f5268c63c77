"""The sockets that are our own. All but the last two carry ModelPatchers, for the host's memory manager."""

from __future__ import annotations

from comfy_api.latest import io

MotionModule = io.Custom("MOTION_MODULE")
I2VAdapter = io.Custom("I2V_ADAPTER")
Retention = io.Custom("RETENTION")
ContentAdapter = io.Custom("CONTENT_ADAPTER")
Reference = io.Custom("REFERENCE")
Strengths = io.Custom("FIRSTFRAME_STRENGTHS")
