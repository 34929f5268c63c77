from __future__ import annotations

from itertools import pairwise

import pytest

from firstframe.errors import FramesError
from firstframe.sampling.windows import anchored_windows, blend_weights


@pytest.mark.parametrize("num_frames", [17, 18, 31, 40, 64, 257])
@pytest.mark.parametrize(("length", "overlap"), [(16, 0), (16, 6), (16, 14), (3, 1)])
def test_windows_cover_the_clip(num_frames: int, length: int, overlap: int) -> None:
    windows = anchored_windows(num_frames, length, overlap)
    assert {frame for window in windows for frame in window} == set(range(num_frames))
    for window in windows:
        assert len(window) == length
        assert window[0] == 0, "every window sees the image"
        assert window[1:] == list(range(window[1], window[1] + length - 1)), "and a run of neighbours behind it"
    for one, other in pairwise(windows):
        assert len(set(one[1:]) & set(other[1:])) >= overlap
        assert other[1] > one[1]


@pytest.mark.parametrize("num_frames", [2, 15, 16])
def test_a_clip_that_fits_is_one_window(num_frames: int) -> None:
    assert anchored_windows(num_frames, 16, 6) == [list(range(num_frames))]


@pytest.mark.parametrize("overlap", [15, 16, -1])
def test_an_overlap_that_leaves_nothing(overlap: int) -> None:
    with pytest.raises(FramesError, match="overlap"):
        anchored_windows(40, 16, overlap)


def test_the_middle_counts_most() -> None:
    weights = blend_weights(5).tolist()
    assert weights == sorted(weights[:3]) + sorted(weights[3:], reverse=True)
    assert weights == weights[::-1] and min(weights) > 0 and max(weights) == 1.0
