"""What a training will use: samples, which of them are held out, and what was left out and why."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...errors import FirstFrameError
from ..config import DatasetTable, TrainingConfig
from .buckets import Size, cropped, enlarged, size_of
from .find import Source, find_sources
from .frames import paced, pieces
from .probe import Probe, probe


@dataclass(frozen=True)
class Sample:
    """Some frames of a clip in one size.

    Attributes:
        digest: of the clip's file.
        frames: numbers of its frames.
        repeats: how often it counts in an epoch.
    """

    source: Source
    digest: str
    frames: tuple[int, ...]
    size: Size
    repeats: int = 1

    @property
    def bucket(self) -> tuple[Size, int]:
        """What samples of one batch have in common: size, and number of frames."""
        return self.size, len(self.frames)


@dataclass(frozen=True)
class LeftOut:
    """A clip that is not used."""

    source: Source
    reason: str


@dataclass(frozen=True)
class Plan:
    """What a training uses.

    Attributes:
        train, held_out: samples; those of one clip are all in one of them.
        left_out: clips that are not used.
        notes: clips that are used, but changed more than others.
    """

    train: tuple[Sample, ...]
    held_out: tuple[Sample, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]

    @property
    def samples(self) -> tuple[Sample, ...]:
        return self.train + self.held_out


MUCH_CROPPED, MUCH_ENLARGED = 0.3, 1.5


def make_plan(config: TrainingConfig) -> Plan:
    """Find, look at and cut all clips of a configuration.

    Raises:
        FirstFrameError: there is nothing to train on.
    """
    samples, left_out, notes = list[Sample](), list[LeftOut](), list[str]()
    for dataset in config.datasets:
        for source in find_sources(dataset):
            try:
                seen = _usable(source, dataset, config.data.cache_directory / "probes")
                samples += _samples(source, seen, dataset)
                notes += _notes(source, seen, size_of(seen.width, seen.height, dataset))
            except FirstFrameError as error:
                left_out.append(LeftOut(source, str(error)))
    held_out = _held_out({sample.digest for sample in samples}, config.data.held_out)
    train = tuple(sample for sample in samples if sample.digest not in held_out)
    if not train:
        reasons = "".join(f"\n  {clip.source.name}: {clip.reason}" for clip in left_out[:10])
        raise FirstFrameError(f"no clip is left to train on{reasons}")
    return Plan(train, tuple(s for s in samples if s.digest in held_out), tuple(left_out), tuple(notes))


def _usable(source: Source, dataset: DatasetTable, memory: Path) -> Probe:
    """What a clip's file says. Raises FirstFrameError, with the reason, for a clip that is not to be used."""
    if not source.path.exists():
        raise FirstFrameError("there is no such file")
    if not source.caption and not dataset.allow_empty_captions:
        raise FirstFrameError("it has no caption")
    seen = probe(source.path, memory)
    if seen.rotation:
        raise FirstFrameError(f"players turn it by {seen.rotation} degrees; encode it upright with: ffmpeg -i IN OUT")
    if not seen.steady:
        raise FirstFrameError("its frames last unequally long; make them even with: ffmpeg -i IN -vf fps=24 OUT")
    if not seen.fps and not dataset.source_fps and not dataset.sample_stride:
        raise FirstFrameError("it does not say how fast it is; give source_fps or sample_stride")
    return seen


def _samples(source: Source, seen: Probe, dataset: DatasetTable) -> list[Sample]:
    frames = paced(seen.frames, dataset.source_fps or seen.fps or 1.0, dataset)
    size = size_of(seen.width, seen.height, dataset)
    found = [Sample(source, seen.digest, some, size, dataset.num_repeats) for some in pieces(frames, dataset)]
    if not found:
        raise FirstFrameError(
            f"it is too short: {len(frames)} frames at this pace, {min(dataset.target_frames)} are needed"
        )
    return found


def _notes(source: Source, seen: Probe, size: Size) -> Iterable[str]:
    share, factor = cropped(seen.width, seen.height, size), enlarged(seen.width, seen.height, size)
    if share > MUCH_CROPPED:
        yield f"{source.name}: {share:.0%} of its {seen.width} x {seen.height} is cropped away"
    if factor > MUCH_ENLARGED:
        yield f"{source.name}: its {seen.width} x {seen.height} is enlarged {factor:.1f} times"


def _held_out(digests: set[str], share: float) -> set[str]:
    """So many of the clips, always the same ones of the same clips, and mostly the same ones of more clips."""
    ranked = sorted(digests, key=lambda digest: hashlib.sha256(digest.encode()).digest())
    return set(ranked[: round(share * len(ranked))])
