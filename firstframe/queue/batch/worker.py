"""A worker: it loads the model once and makes one clip after another."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ... import __version__
from ...bindings.diffusers.animate import animate_image
from ...bindings.diffusers.pipeline import VideoModel
from ...clips.video import write_clip
from ...errors import FirstFrameError
from .jobs import BatchJob

Event = dict[str, Any]


@dataclass(frozen=True)
class Output:
    """Where clips go, and of which kind they are: ``suffix`` is .mp4, .webm, .gif or .webp, ``fps`` frames a second."""

    folder: Path
    suffix: str = ".mp4"
    fps: float = 8.0

    def file(self, job: BatchJob) -> Path:
        """The job's, named by image, line, seed and the first digits of its id."""
        return self.folder / f"{job.job.name}{self.suffix}"


class Worker:
    """Makes clips with one model.

    Args:
        load: makes the model, when the first job comes that is not done.
        output: where the clips go.
    """

    def __init__(self, load: Callable[[], VideoModel], output: Output) -> None:
        self.load, self.output = load, output
        self.model: VideoModel | None = None

    def do(self, job: BatchJob) -> Event:
        """Make a job's clip; the ``done`` or ``failed`` event for the manifest.

        A clip that is there already is not made again: files appear whole or not at all, so that one which a worker
        finished just before it was lost still counts.
        """
        began, file = time.monotonic(), self.output.file(job)
        by = f"{socket.gethostname()}:{os.getpid()}"
        try:
            if not file.is_file():
                self._make(job, file)
        except FirstFrameError as error:
            return {"event": "failed", "job": job.job.id, "server": by, "reason": str(error)}
        content = file.read_bytes()
        made = {"file": file.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        seconds = round(time.monotonic() - began, 3)
        return {"event": "done", "job": job.job.id, "server": by, "seconds": seconds, "files": [made]}

    def _make(self, job: BatchJob, file: Path) -> None:
        image = job.animation.prepare(job.image)
        if self.model is None:
            self.model = self.load()
        clip = animate_image(self.model, image, job.animation)
        made_by = {"version": __version__, "job": job.job.id, **asdict(job.animation)}
        write_clip(file, clip, self.output.fps, {"firstframe": json.dumps(made_by)})
