"""A hook for mkdocs: links to files outside of docs/ lead to the repository's page of them, where its address is known.

mkdocs calls it by itself (mkdocs.yml). SITE_REPOSITORY, for example https://github.com/OWNER/NAME, is the address;
without it such links become plain text.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((\.\./[^)\s]+)\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A page's text before it is rendered."""
    folder = (DOCS / page.file.src_uri).parent
    return LINK.sub(lambda link: _outside(folder, *link.groups()), markdown)


def _outside(folder: Path, text: str, target: str) -> str:
    repository = os.environ.get("SITE_REPOSITORY", "").rstrip("/")
    path = (folder / target.partition("#")[0]).resolve().relative_to(DOCS.parent).as_posix()
    return f"[{text}]({repository}/blob/main/{path})" if repository else text
