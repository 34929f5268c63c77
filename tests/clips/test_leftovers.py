"""Half-written files of a crash go, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

from firstframe.clips.leftovers import part_name, remove_leftovers

OWN = (f".firstframe-{'0a' * 16}.mp4", f".firstframe-{'0b' * 16}", part_name("a.ckpt"), part_name("a.ckpt") + ".json")
OTHERS = ("a.part", ".a.part", ".firstframe-notes.txt", ".firstframe-a.lock", ".firstframe-", "firstframe-a.part")


def make(folder: Path, name: str) -> Path:
    path = folder / name
    if path.suffix:
        path.write_bytes(b"half")
    else:
        path.mkdir()
        (path / "frame.png").write_bytes(b"half")
    os.utime(path, (0, 0))
    return path


def test_old_ones_of_own_names_go(tmp_path: Path) -> None:
    own, others = ([make(tmp_path, name) for name in names] for names in (OWN, OTHERS))
    (tmp_path / "below").mkdir()
    below = make(tmp_path / "below", OWN[0])
    assert sorted(remove_leftovers(tmp_path)) == sorted(own)
    assert not any(path.exists() for path in own) and all(path.exists() for path in (*others, below))


def test_new_ones_and_those_that_are_kept_stay(tmp_path: Path) -> None:
    kept, new = make(tmp_path, part_name("kept")), make(tmp_path, part_name("new"))
    os.utime(new)
    assert not remove_leftovers(tmp_path, keep=[kept])
    assert kept.exists() and new.exists()


def test_a_link_is_removed_and_not_followed(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "film.mp4").write_bytes(b"mine")
    link = tmp_path / f".firstframe-{'0c' * 16}"
    link.symlink_to(mine)
    os.utime(link, (0, 0), follow_symlinks=False)
    assert remove_leftovers(tmp_path) == [link]
    assert (mine / "film.mp4").exists()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert not remove_leftovers(tmp_path / "none")
