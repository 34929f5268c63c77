"""Jobs from a JSONL file: an image, prompts, and any option of ``firstframe animate``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ...bindings.diffusers.animate import Animation
from ...bindings.diffusers.models import ModelFiles
from ...errors import FirstFrameError
from ..plan import Job, source_image

OPTIONS = frozenset(field.name for field in fields(Animation)) - {"prompts"}
_ANIMATION = TypeAdapter(Animation)


@dataclass(frozen=True)
class BatchJob:
    """One clip to make. ``job`` is what the manifest says of it; its id is a digest of all that the clip depends on."""

    job: Job
    animation: Animation

    @property
    def image(self) -> Path:
        """The file of the image."""
        assert self.job.image is not None
        return self.job.image.path


def read_jobs(path: Path, files: ModelFiles | None, common: Mapping[str, Any]) -> list[BatchJob]:
    """The jobs in a file; lines that would make the same clip are one job.

    A line is an object with "image" (a path, from the file's folder on), "prompt" (a text, or a list of one for each
    clip) and any option of :class:`~firstframe.bindings.diffusers.animate.Animation`. Empty lines do not count.

    Args:
        path: of the file.
        files: the model, whose files' names and sizes are part of a job's identity.
        common: options of all jobs; a line's own take their place.

    Raises:
        FirstFrameError: a line cannot be read, has an unknown option, or an option is out of its range; the message
            has its number.
    """
    jobs: dict[str, BatchJob] = {}
    model = _identity(files)
    for number, line in _lines(path):
        try:
            job = _job(path.parent, number, json.loads(line), model, common)
        except (ValueError, TypeError) as error:
            raise FirstFrameError(f"{path}, line {number}: {_reason(error)}") from error
        jobs.setdefault(job.job.id, job)
    if not jobs:
        raise FirstFrameError(
            f'{path}: no jobs; a line is an object such as {{"image": "a.png", "prompt": "it jumps"}}'
        )
    return list(jobs.values())


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FirstFrameError(f"{path}: cannot be read as text: {error}") from error
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _job(folder: Path, number: int, line: Any, model: Any, common: Mapping[str, Any]) -> BatchJob:
    if not isinstance(line, dict) or not isinstance(line.get("image"), str) or "prompt" not in line:
        raise FirstFrameError('an object with "image" and "prompt" is expected')
    options = {**common, **{name: value for name, value in line.items() if name not in ("image", "prompt")}}
    if unknown := sorted(options.keys() - OPTIONS):
        raise FirstFrameError(f"there is no option {unknown[0]!r}; there are {', '.join(sorted(OPTIONS))}")
    prompts = [line["prompt"]] if isinstance(line["prompt"], str) else line["prompt"]
    animation = _ANIMATION.validate_python({**options, "prompts": prompts})
    image = source_image(folder / line["image"])
    says = {"image": image.sha256, "animation": asdict(animation), "model": model}
    id = hashlib.sha256(json.dumps(says, sort_keys=True).encode()).hexdigest()
    return BatchJob(Job(id, {}, image, number, " | ".join(animation.prompts), animation.seed), animation)


def _identity(files: ModelFiles | None) -> Any:
    if files is None:
        return "tiny"
    named = {kind: path for kind, path in vars(files).items() if isinstance(path, Path)}
    try:
        sized = {kind: (path.name, path.stat().st_size) for kind, path in named.items()}
        loras = [(path.name, path.stat().st_size, strength) for path, strength in files.loras.items()]
    except OSError as error:
        raise FirstFrameError(f"{error.filename}: cannot be read: {error.strerror}") from error
    return {**sized, "loras": loras}


def _reason(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(
        ".".join(map(str, one["loc"])) + (": " if one["loc"] else "") + one["msg"].removeprefix("Value error, ")
        for one in error.errors()
    )
