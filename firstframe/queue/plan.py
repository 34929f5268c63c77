"""The matrix: images x prompts x seeds, as graphs that are ready to be sent."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from typing import Any

from ..errors import FirstFrameError
from .workflow import Graph, Place, with_values

IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
SHOWN_DIGITS = 8
HIGHEST_SEED = 2**64 - 1
MOST_SEEDS = 1_000_000


@dataclass(frozen=True)
class SourceImage:
    """An image to be uploaded. ``upload_name`` says what is in it, so that images of one name do not collide."""

    path: Path
    label: str
    sha256: str

    @property
    def upload_name(self) -> str:
        return f"firstframe_{self.sha256}{self.path.suffix.lower()}"


@dataclass(frozen=True)
class Inputs:
    """Where image, prompt and seed go; None or empty where the workflow keeps its own."""

    image: Place | None = None
    prompt: Place | None = None
    seeds: tuple[Place, ...] = ()


@dataclass(frozen=True)
class Job:
    """One graph to be run. ``id`` is a digest of the graph, which names the image by its content."""

    id: str
    graph: Graph
    image: SourceImage | None
    prompt_index: int | None
    prompt: str | None
    seed: int | None

    @property
    def name(self) -> str:
        """What its files are called: image, number of the prompt, seed, and the first digits of the id."""
        parts = [
            self.image.label if self.image else "",
            "" if self.prompt_index is None else f"p{self.prompt_index:03}",
            "" if self.seed is None else f"s{self.seed}",
            self.id[:SHOWN_DIGITS],
        ]
        return "_".join(part for part in parts if part)


def read_images(path: Path) -> list[SourceImage]:
    """The images in a folder, by name; or the one that ``path`` is."""
    files = [path] if path.is_file() else sorted(file for file in path.glob("*") if _is_image(file))
    if not files:
        raise FirstFrameError(f"{path}: no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    stems = Counter(file.stem for file in files)
    return [
        SourceImage(file, _label(file.stem if stems[file.stem] == 1 else file.name), _digest(file)) for file in files
    ]


def source_image(file: Path) -> SourceImage:
    """One image file. Raises FirstFrameError where it cannot be read."""
    return SourceImage(file, _label(file.stem), _digest(file))


def _label(name: str) -> str:
    """A name that any file system and terminal takes."""
    return "".join(char if char.isprintable() else "_" for char in name)


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise FirstFrameError(f"{file}: cannot be read: {error}") from error


def _is_image(file: Path) -> bool:
    return file.is_file() and file.suffix.lower() in IMAGE_SUFFIXES


def read_prompts(path: Path) -> list[str]:
    """One prompt for each line; empty lines and those that start with # do not count."""
    if not path.is_file():
        raise FirstFrameError(f"{path}: there is no such text file; it has one prompt for each line")
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise FirstFrameError(f"{path}: cannot be read as text: {error}") from error
    prompts = [line for line in lines if line and not line.startswith("#")]
    if not prompts:
        raise FirstFrameError(f"{path}: no prompts; one for each line")
    return prompts


def parse_seeds(text: str) -> list[int]:
    """``"1,2,8-10"`` is 1, 2, 8, 9, 10.

    Raises:
        FirstFrameError: Something else, a seed above 2^64 - 1, or more than a million seeds.
    """
    try:
        ends = [[int(end) for end in part.split("-")] for part in text.split(",")]
        ranges = [range(part[0], part[-1] + 1) for part in ends]
        if max(map(len, ends)) > 2 or not any(ranges):
            raise ValueError
    except ValueError as error:
        raise FirstFrameError(f"--seeds {text!r}: numbers and ranges such as 1,2,8-10") from error
    if max(end for part in ends for end in part) > HIGHEST_SEED:
        raise FirstFrameError(f"--seeds {text!r}: a seed is at most {HIGHEST_SEED}")
    if sum(max(0, part[-1] - part[0] + 1) for part in ends) > MOST_SEEDS:
        raise FirstFrameError(f"--seeds {text!r}: more than {MOST_SEEDS:,} seeds")
    return list(chain.from_iterable(ranges))


def parse_shard(text: str) -> tuple[int, int]:
    """``"2/5"`` is the second of five parts."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise FirstFrameError(f"--shard {text!r}: which part of how many, for example 1/4")
    return int(number), int(count)


def make_jobs(
    graph: Graph, inputs: Inputs, images: list[SourceImage], prompts: list[str], seeds: list[int]
) -> list[Job]:
    """All combinations; what is empty keeps the workflow's own value. Two that are the same graph are one job."""
    nothing = [None]
    jobs: dict[str, Job] = {}
    for image, prompt, seed in product(images or nothing, [*enumerate(prompts, 1)] or nothing, seeds or nothing):
        job = _job(graph, inputs, image, prompt, seed)
        jobs.setdefault(job.id, job)
    return list(jobs.values())


def _job(
    graph: Graph, inputs: Inputs, image: SourceImage | None, prompt: tuple[int, str] | None, seed: int | None
) -> Job:
    values: dict[Place, Any] = {}
    if inputs.image and image:
        values[inputs.image] = image.upload_name
    if inputs.prompt and prompt:
        values[inputs.prompt] = prompt[1]
    if seed is not None:
        values |= dict.fromkeys(inputs.seeds, seed)
    edited = with_values(graph, values)
    index, text = prompt or (None, None)
    return Job(graph_id(edited), edited, image, index, text, seed)


def graph_id(graph: Graph) -> str:
    """Digest (hex) of what a graph computes: classes and inputs, not titles."""
    computed = {id: [node["class_type"], node["inputs"]] for id, node in graph.items()}
    return hashlib.sha256(json.dumps(computed, sort_keys=True).encode()).hexdigest()
