"""The public Python API: every name is there, and importing the package costs nothing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import firstframe


@pytest.mark.parametrize("name", firstframe.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(firstframe, name) is not None and name in dir(firstframe)


def test_another_name_is_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'animate'"):
        firstframe.animate  # noqa: B018


def test_type_checkers_see_the_same_names() -> None:
    source = ast.parse(Path(firstframe.__file__).read_text("utf-8"))
    imports = [node for node in ast.walk(source) if isinstance(node, ast.ImportFrom) and node.level]
    homes = {alias.asname: node.module for node in imports for alias in node.names}
    assert homes == firstframe._HOME_OF


def test_importing_it_imports_nothing_else() -> None:
    code = "import sys, firstframe; sys.exit(bool({'torch', 'numpy', 'diffusers'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_page_has_all_names() -> None:
    page = (Path(__file__).parents[1] / "docs" / "api.md").read_text("utf-8")
    documented = re.findall(r"^::: firstframe\.(.+)\.(\w+)$", page, re.MULTILINE)
    assert {name: home for home, name in documented} == firstframe._HOME_OF
