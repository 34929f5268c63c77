"""Which frames of a clip make a sample."""

from __future__ import annotations

from collections.abc import Iterator

from ..config import DatasetTable


def paced(num_frames: int, fps: float, dataset: DatasetTable) -> list[int]:
    """The frames that the model sees of a clip, at the dataset's pace; none is seen twice.

    Args:
        num_frames: of the clip.
        fps: of the clip, above 0.
        dataset: its ``sample_stride``, or else its ``target_fps``. A clip that is slower keeps its pace.
    """
    step = dataset.sample_stride or max(1.0, fps / dataset.target_fps)
    count = 1 + int((num_frames - 1) / step)
    return [round(index * step) for index in range(count) if round(index * step) < num_frames]


def pieces(frames: list[int], dataset: DatasetTable) -> Iterator[tuple[int, ...]]:
    """The samples of a clip, as numbers of its frames: for each of ``target_frames`` that it is long enough for."""
    for length in dataset.target_frames:
        last = len(frames) - length
        if last >= 0:
            for start in _starts(last, length, dataset):
                yield tuple(frames[start : start + length])


def _starts(last: int, length: int, dataset: DatasetTable) -> list[int]:
    match dataset.frame_extraction:
        case "head":
            return [0]
        case "chunk":
            return list(range(0, last + 1, length))
        case "slide":
            return list(range(0, last + 1, dataset.frame_stride))
        case "uniform":
            count = dataset.frame_sample
            even = [round(last * index / max(1, count - 1)) for index in range(count)]
            return list(dict.fromkeys(even))
