"""Imports run one way, without cycles, and the core knows no host: read off the syntax trees, imports for types too."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "firstframe"

# A module may import from its own room and from those before it in this list.
ROOMS = [
    "errors",
    "shapes",
    "sites",
    "modules",
    "sampling",
    "clips",
    "weights",
    "bindings",
    "training",
    "tiny",
    "experiments",
    "queue",
    "cli",
]
CORE = {"torch", "einops", "kornia", "safetensors"}
# What these rooms may use besides: images, files of clips and measurements; downloads.
FURTHER = {
    "clips": {"PIL", "numpy", "imageio_ffmpeg", "cv2", "skimage", "matplotlib"},
    "weights/hub": {"filelock", "requests", "tenacity", "tqdm", "urllib3", "yaml"},
    "weights/door.py": {"numpy"},
}
HOST = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "latent_preview", "nodes"}
KNOW_THE_HOST = {"bindings/comfy", "tiny/comfy.py", "training/comfy.py"}
FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(file: Path) -> str:
    """The module's dotted name inside the package; that of the package itself is ""."""
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


MODULES = {name_of(file): file for file in FILES}


def imports(file: Path) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """(level, dotted name, names taken from it) of every import; level 0 is absolute."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", tuple(alias.name for alias in node.names)


def modules_imported(file: Path) -> set[str]:
    """Dotted names of the package's modules that ``file`` imports; a package only where a name is taken from it."""
    found = set()
    folder = file.relative_to(PACKAGE).parts[:-1]
    for level, module, names in imports(file):
        if not level:
            continue
        base = ".".join((*folder[: len(folder) - level + 1], *filter(None, module.split("."))))
        for name in names:
            submodule = f"{base}.{name}".removeprefix(".")
            found.add(submodule if submodule in MODULES else base)
    return found - {name_of(file)}


def room(module: str) -> str:
    return module.split(".")[0]


def cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """Nodes that import each other, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_run_one_way(file: Path) -> None:
    own = room(name_of(file))
    if not own:
        return  # the package exports lazily what the rooms hold
    for other in modules_imported(file) - {""}:
        assert ROOMS.index(room(other)) <= ROOMS.index(own), f"{own} must not import {other}"


def test_no_cycle_between_files() -> None:
    assert not cycle({name: modules_imported(file) - {""} for name, file in MODULES.items() if name})


def test_no_cycle_between_folders() -> None:
    graph: dict[str, set[str]] = {}
    for name, file in MODULES.items():
        folder = file.parent.relative_to(PACKAGE).as_posix()
        for other in modules_imported(file) if name else ():
            target = MODULES[other].parent.relative_to(PACKAGE).as_posix()
            if folder not in (target, ".") and target != ".":
                graph.setdefault(folder, set()).add(target)
    assert not cycle(graph)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_what_is_imported_from_outside(file: Path) -> None:
    outside = {name.split(".")[0] for level, name, _ in imports(file) if level == 0}
    outside -= sys.stdlib_module_names | {"__future__"}
    place = file.relative_to(PACKAGE).as_posix()
    assert "firstframe" not in outside, "the package is loaded under another name by ComfyUI"
    assert place.startswith(tuple(KNOW_THE_HOST)) or not HOST & outside
    own = room(name_of(file))
    if not own or ROOMS.index(own) <= ROOMS.index("weights"):
        further = set().union(*(names for folder, names in FURTHER.items() if place.startswith(folder)))
        assert outside <= CORE | further


@pytest.mark.parametrize("file", sorted((ROOT / "nodes").glob("*.py")), ids=lambda file: file.name)
def test_nodes_import_relatively(file: Path) -> None:
    assert not {"firstframe", "nodes"} & {name.split(".")[0] for level, name, _ in imports(file) if level == 0}


@pytest.mark.parametrize("folder", ["nodes", "benchmarks"])
def test_nobody_reaches_through_experiments(folder: str) -> None:
    for file in (ROOT / folder).glob("*.py"):
        assert not [name for _, name, _ in imports(file) if "experiments" in name.split(".")], file


def test_a_cycle_would_be_seen() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}})


def test_what_is_imported_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from . import weights\n    from ..a import b\n    import c.d\n")
    assert list(imports(file)) == [(1, "", ("weights",)), (2, "a", ("b",)), (0, "c.d", ())]
