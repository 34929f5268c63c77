"""Names for files: half-written ones, taken ones, and what an earlier run left behind."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
import torch

from firstframe.clips.video import check_format, read_clip, write_clip
from firstframe.clips.video.files import UNFINISHED, move_to_free_name
from firstframe.errors import FirstFrameError

CLIP = torch.rand(2, 16, 16, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without hard links, as FAT is."""

    def refuse(*_: object) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("no_links")
def test_a_file_system_without_links(tmp_path: Path) -> None:
    names = [tmp_path / f"clip_{number}.webp" for number in (1, 2)]
    for name in names:
        assert write_clip(names, CLIP) == name
    assert sorted(tmp_path.iterdir()) == names and all(len(read_clip(name).frames) == 2 for name in names)
    with pytest.raises(FirstFrameError, match="name another"):
        write_clip(names, CLIP)
    assert sorted(tmp_path.iterdir()) == names


@pytest.mark.usefixtures("no_links")
def test_writers_at_the_same_time_without_links(tmp_path: Path) -> None:
    def write(writer: int) -> Path:
        names = (tmp_path / f"clip_{number}.webp" for number in count(1))
        return write_clip(names, (CLIP + writer).clamp(0, 1))

    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(write, [0] * 16))
    assert len(set(written)) == 16 and sorted(written) == sorted(tmp_path.iterdir())
    assert all(len(read_clip(path).frames) == 2 for path in written)


@pytest.mark.usefixtures("no_links")
def test_a_kill_leaves_nothing_under_the_final_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, finished = tmp_path / "clip.webp", tmp_path / f"{UNFINISHED}{'0a' * 16}.webp"
    finished.write_bytes(b"a clip")
    monkeypatch.setattr(Path, "replace", lambda *_: os._exit(9))
    if (child := os.fork()) == 0:
        move_to_free_name(finished, [target])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    monkeypatch.undo()
    left = list(tmp_path.iterdir())
    assert finished in left and len(left) == 2 and all(path.name.startswith(UNFINISHED) for path in left)
    for path in left:
        os.utime(path, (0, 0))
    assert write_clip([target], CLIP) == target and list(tmp_path.iterdir()) == [target]


def test_what_stands_in_the_way_is_named_before_a_clip_is_made(tmp_path: Path) -> None:
    file, folder = tmp_path / "file.mp4", tmp_path / "folder.mp4"
    file.write_bytes(b"a clip")
    folder.mkdir()
    for path, says in [(file / "deep" / "clip.mp4", r"file\.mp4' is a file"), (folder, "it is a folder")]:
        with pytest.raises(FirstFrameError, match=says):
            check_format(path)
        with pytest.raises(FirstFrameError, match="cannot write"):
            write_clip(path, CLIP)
    check_format(tmp_path / "new" / "clip.mp4")
    assert sorted(tmp_path.iterdir()) == [file, folder] and file.read_bytes() == b"a clip"


@pytest.mark.parametrize("fps", [0.0, -8.0, float("nan"), float("inf"), 1e9])
def test_a_pace_that_is_none_is_refused_before_a_clip_is_made(tmp_path: Path, fps: float) -> None:
    for refuse in (check_format, lambda path, fps: write_clip(path, CLIP, fps)):
        with pytest.raises(FirstFrameError, match=rf"fps must be .*, got {fps}"):
            refuse(tmp_path / "new" / "clip.mp4", fps)
    assert not list(tmp_path.iterdir())
