"""The sockets that are our own. The host's memory manager handles what is behind all but the last (ModelPatcher)."""

from __future__ import annotations

from comfy_api.latest import io

MotionModule = io.Custom("MOTION_MODULE")
I2VAdapter = io.Custom("I2V_ADAPTER")
Retention = io.Custom("RETENTION")
ContentAdapter = io.Custom("CONTENT_ADAPTER")
Reference = io.Custom("REFERENCE")
