"""Imports run one way, and the core knows no host: read off the syntax trees."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "firstframe"

# A module may import from its own rank and from those above it in this list.
RANKS = [
    {"shapes", "sites", "errors", "windows"},
    {"attention", "blocks", "guidance", "image_tokens", "motion", "prior", "resampler", "retention", "strength"},
    {"color", "extend", "lab8", "reference", "video", "metrics"},
    {"adapter"},
    {"weights"},
    {"published", "training", "tiny", "bindings"},
    {"cli", "__main__", "measure", "options", "pipeline", "queue"},
]
CORE = {"torch", "einops", "kornia", "safetensors"}
# What these parts are made of: pictures, films and measurements.
FURTHER = {
    "reference": {"PIL", "numpy"},
    "video": {"PIL", "numpy", "imageio_ffmpeg"},
    "metrics": {"PIL", "numpy", "cv2", "skimage", "matplotlib"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rank(part: str) -> int:
    return next(index for index, parts in enumerate(RANKS) if part in parts)


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """(level, dotted name) of every import; level 0 is absolute. Names follow a bare ``from .``."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.level, node.module
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, alias.name) for alias in node.names)


def parts_imported(file: Path) -> set[str]:
    """Top-level parts of the package that ``file`` imports from."""
    depth = len(file.relative_to(PACKAGE).parts)
    return {name.split(".")[0] for level, name in imports(file) if level == depth and name != "__version__"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_run_one_way(file: Path) -> None:
    part = part_of(file)
    if part == "__init__":
        assert not parts_imported(file)
        return
    for other in parts_imported(file):
        assert rank(other) <= rank(part), f"{part} must not import {other}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_what_is_imported_from_outside(file: Path) -> None:
    outside = {name.split(".")[0] for level, name in imports(file) if level == 0}
    outside -= sys.stdlib_module_names | {"__future__"}
    assert "firstframe" not in outside, "the package is loaded under another name by ComfyUI"
    in_comfy_binding = file.is_relative_to(PACKAGE / "bindings" / "comfy")
    assert in_comfy_binding or not {"comfy", "comfy_api", "folder_paths", "nodes"} & outside
    part = part_of(file)
    if part == "__init__" or rank(part) <= rank("weights"):
        assert outside <= CORE | FURTHER.get(part, set())


@pytest.mark.parametrize("file", sorted((ROOT / "nodes").glob("*.py")), ids=lambda file: file.name)
def test_nodes_import_relatively(file: Path) -> None:
    assert not {"firstframe", "nodes"} & {name.split(".")[0] for level, name in imports(file) if level == 0}


def test_a_wrong_direction_would_be_seen(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from . import weights\n    from ..a import b\n    import c.d\n")
    assert list(imports(file)) == [(1, "weights"), (2, "a"), (0, "c.d")]
