"""Other words that users look for."""

from __future__ import annotations

from dataclasses import fields

from comfy_api.latest import io


def search_aliases(*words: str) -> dict[str, list[str]]:
    """Words that find a node in the host's search, as an argument for ``io.Schema``; none for a host without aliases.

    The host does not translate them, so that Chinese ones stand beside the English.
    """
    known = {field.name for field in fields(io.Schema)}
    return {"search_aliases": list(words)} if "search_aliases" in known else {}
