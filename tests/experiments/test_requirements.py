"""`firstframe measure` runs with the extra `standalone`, which `make demo` installs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def reached(module: Path, seen: set[Path]) -> Iterator[str]:
    """Packages from outside that a module imports, and the modules of this package that it imports."""
    if module in seen:
        return
    seen.add(module)
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            base = module.parents[node.level - 1].joinpath(*filter(None, (node.module or "").split(".")))
            for place in (base, *(base / alias.name for alias in node.names)):
                for file in (place.with_suffix(".py"), place / "__init__.py"):
                    if file.exists():
                        yield from reached(file, seen)


def required(project: dict[str, object], extra: str) -> set[str]:
    """The names of what a plain install and the extra bring."""
    extras = project["optional-dependencies"]
    names = {re.split(r"[<>=\[]", line)[0] for line in (*project["dependencies"], *extras[extra])}
    return names - {"firstframe"}


def test_measuring_needs_no_more_than_standalone() -> None:
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    seen: set[Path] = set()
    imported = set(reached(ROOT / "firstframe" / "cli" / "measure.py", seen))
    assert ROOT / "firstframe" / "tiny" / "scenes" / "texture.py" in seen
    distributions = packages_distributions()
    needed = {distributions[name][0].lower() for name in imported & distributions.keys()}
    assert "opencv-python-headless" in needed and needed <= required(project, "standalone")
