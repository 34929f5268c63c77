"""Refuse a release whose tag, version, changelog and publisher do not agree: python .github/check_release.py v1.2.3"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def problems(tag: str, package: str, pyproject: str, changelog: str) -> list[str]:
    """What is wrong with releasing ``tag`` (v1.2.3); nothing if all agree."""
    version, publisher = _setting("__version__", package), _setting("PublisherId", pyproject)
    found = []
    if tag != f"v{version}":
        found.append(f"the tag is {tag}, the version in firstframe/__init__.py is {version}: set both to one number")
    if not re.search(rf"^## \[{re.escape(version)}\]", changelog, re.MULTILINE):
        found.append(f"CHANGELOG.md has no section [{version}]: rename [Unreleased] and add a date")
    if not publisher:
        found.append("PublisherId in pyproject.toml is empty: enter that of your account on registry.comfy.org")
    if not _setting("Repository", pyproject):
        found.append("[project.urls] in pyproject.toml has no Repository: enter the address of yours")
    return found


def _setting(name: str, pyproject: str) -> str:
    match = re.search(rf'^{name} = "(.*?)"', pyproject, re.MULTILINE)
    return match[1] if match else ""


if __name__ == "__main__":
    texts = ((ROOT / name).read_text("utf-8") for name in ("firstframe/__init__.py", "pyproject.toml", "CHANGELOG.md"))
    sys.exit("\n".join(problems(sys.argv[1], *texts)) or None)
