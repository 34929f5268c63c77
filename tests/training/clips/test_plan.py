"""Which clips and frames are used, in which size, and what is left out and why."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest
from PIL import Image

from firstframe.clips.video import write_clip
from firstframe.errors import FirstFrameError
from firstframe.training.clips.buckets import Size, cropped, size_of
from firstframe.training.clips.find import find_sources
from firstframe.training.clips.frames import paced, pieces
from firstframe.training.clips.plan import Plan, make_plan
from firstframe.training.clips.probe import probe
from firstframe.training.clips.report import in_words, sheet
from firstframe.training.config import DatasetTable, TrainingConfig

sys.path.insert(0, str(Path(__file__).parents[1]))
from material import moving_square


def dataset(**settings: Any) -> DatasetTable:
    return DatasetTable.model_validate({"video_directory": "clips", "resolution": [64, 64], **settings})


def planned(folder: Path, held_out: float = 0.0, **settings: Any) -> Plan:
    content = {
        "model": {"checkpoint": "tiny"},
        "data": {"held_out": held_out, "cache_directory": folder / "cache"},
        "datasets": [{"video_directory": folder, "resolution": [64, 64], "target_frames": [4], **settings}],
        "train": {"output_dir": folder / "run"},
    }
    return make_plan(TrainingConfig.model_validate(content))


def write(folder: Path, name: str, caption: str | None = "a square", frames: int = 8, **settings: Any) -> Path:
    file = folder / name
    write_clip(file, moving_square(frames, **settings), fps=8)
    if caption is not None:
        file.with_suffix(".txt").write_text(caption)
    return file


def ffmpeg(*arguments: object) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *map(str, arguments)]
    subprocess.run(command, check=True)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"target_fps": 8}, [0, 3, 6, 9]),
        ({"target_fps": 10}, [0, 2, 5, 7, 10]),
        ({"target_fps": 60}, list(range(12))),
        ({"sample_stride": 5}, [0, 5, 10]),
    ],
)
def test_pace(settings: dict[str, Any], expected: list[int]) -> None:
    assert paced(12, 24.0, dataset(**settings)) == expected


@pytest.mark.parametrize(
    ("settings", "starts"),
    [
        ({"frame_extraction": "head"}, [0]),
        ({"frame_extraction": "chunk"}, [0, 4]),
        ({"frame_extraction": "slide", "frame_stride": 2}, [0, 2, 4, 6]),
        ({"frame_extraction": "uniform", "frame_sample": 3}, [0, 3, 6]),
    ],
)
def test_pieces(settings: dict[str, Any], starts: list[int]) -> None:
    found = list(pieces(list(range(10)), dataset(target_frames=[4], **settings)))
    assert [piece[0] for piece in found] == starts
    assert all(piece == tuple(range(piece[0], piece[0] + 4)) for piece in found)


def test_each_length_has_its_samples() -> None:
    found = list(pieces(list(range(10)), dataset(target_frames=[4, 8, 16])))
    assert list(map(len, found)) == [4, 8]


def test_buckets_keep_the_area_and_come_near_the_ratio() -> None:
    square, wide = (dataset(resolution=[256, 256], enable_bucket=flag) for flag in (False, True))
    assert size_of(1920, 1080, square) == Size(256, 256)
    assert size_of(1920, 1080, wide) == Size(320, 192) and cropped(1920, 1080, Size(320, 192)) < 0.07
    assert size_of(1080, 1920, wide) == Size(192, 320) and size_of(500, 500, wide) == Size(256, 256)
    small = dataset(resolution=[512, 512], enable_bucket=True, bucket_no_upscale=True)
    assert size_of(300, 200, small) == Size(256, 192)


def test_a_folder_a_list_and_sequences_are_found(tmp_path: Path) -> None:
    write(tmp_path, "b.mp4", "b")
    write(tmp_path, "a.webm", None)
    (tmp_path / "list.jsonl").write_text(json.dumps({"video_path": "b.mp4", "caption": "from the list"}) + "\n\n")
    for index in range(4):
        folder = tmp_path / "sequences" / "one"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (60 * index, 0, 0)).save(folder / f"{index:03}.png")
    (tmp_path / "sequences" / "one.txt").write_text("it turns red")
    by_folder = find_sources(DatasetTable(video_directory=tmp_path))
    assert [(source.name, source.caption) for source in by_folder] == [("a.webm", ""), ("b.mp4", "b")]
    (by_list,) = find_sources(DatasetTable(video_jsonl_file=tmp_path / "list.jsonl"))
    assert by_list.path == tmp_path / "b.mp4" and by_list.caption == "from the list"
    (sequence,) = find_sources(DatasetTable(image_sequence_directory=tmp_path / "sequences"))
    assert sequence.caption == "it turns red" and probe(sequence.path, tmp_path / "memory").frames == 4


def test_a_line_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text('{"video_path": "a.mp4"}\n{"path": "b.mp4"}\n')
    with pytest.raises(FirstFrameError, match="line 2"):
        find_sources(DatasetTable(video_jsonl_file=tmp_path / "list.jsonl"))


def test_what_cannot_be_used_is_left_out_and_why(tmp_path: Path) -> None:
    good = write(tmp_path, "good.mp4")
    write(tmp_path, "silent.mp4", None)
    write(tmp_path, "short.mp4", frames=3)
    (tmp_path / "broken.mp4").write_bytes(good.read_bytes()[:500])
    (tmp_path / "broken.txt").write_text("x")
    ffmpeg("-display_rotation", 90, "-i", good, "-c", "copy", tmp_path / "turned.mp4")
    (tmp_path / "turned.txt").write_text("x")
    ffmpeg("-i", good, "-vf", "setpts=N*N/16/TB", "-fps_mode", "vfr", tmp_path / "uneven.mkv")
    (tmp_path / "uneven.txt").write_text("x")
    plan = planned(tmp_path)
    assert [sample.source.name for sample in plan.train] == ["good.mp4"]
    reasons = {clip.source.name: clip.reason for clip in plan.left_out}
    assert reasons.keys() == {"silent.mp4", "short.mp4", "broken.mp4", "turned.mp4", "uneven.mkv"}
    expected = {"silent.mp4": "no caption", "short.mp4": "3 frames", "turned.mp4": "degrees", "uneven.mkv": "unequally"}
    assert all(text in reasons[name] for name, text in expected.items())
    told = "\n".join(in_words(plan))
    assert "1 clips, 1 samples" in told and "left out: 5" in told and all(name in told for name in reasons)


def test_formats_are_steady_at_any_pace(tmp_path: Path) -> None:
    for name, fps in (("a.mp4", 23.976), ("b.webm", 30), ("c.gif", 30), ("d.webp", 24)):
        write_clip(tmp_path / name, moving_square(12), fps=fps)
        seen = probe(tmp_path / name, tmp_path / "memory")
        assert seen.steady and seen.frames == 12, name


def test_nothing_is_left(tmp_path: Path) -> None:
    write(tmp_path, "silent.mp4", None)
    with pytest.raises(FirstFrameError, match=r"(?s)no clip is left.*silent\.mp4: it has no caption"):
        planned(tmp_path)


def test_held_out_clips_are_held_out_whole(tmp_path: Path) -> None:
    for index in range(5):
        write(tmp_path, f"{index}.mp4", seed=index)
    plan = planned(tmp_path, held_out=0.4, frame_extraction="chunk")
    train, held_out = ({sample.digest for sample in some} for some in (plan.train, plan.held_out))
    assert len(train) == 3 and len(held_out) == 2 and not train & held_out
    assert len(plan.samples) == 10 and planned(tmp_path, 0.4, frame_extraction="chunk") == plan


def test_a_changed_file_is_looked_at_again(tmp_path: Path) -> None:
    file = write(tmp_path, "a.mp4")
    first = probe(file, tmp_path / "memory")
    write(tmp_path, "a.mp4", frames=6)
    assert probe(file, tmp_path / "memory").frames == 6 and first.frames == 8


def test_much_cropped_clips_are_named_and_drawn(tmp_path: Path) -> None:
    write(tmp_path, "wide.mp4", width=192)
    plan = planned(tmp_path)
    assert "wide.mp4: 67% of its 192 x 64 is cropped away" in plan.notes
    assert sheet(plan).size == (8 * 98 - 2, 96)
