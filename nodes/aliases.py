"""What newer versions of ComfyUI know of nodes and inputs; older ones do without it."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature

from comfy_api.latest import io


def search_aliases(*words: str) -> dict[str, list[str]]:
    """Words that find a node in ComfyUI's search, as an argument for ``io.Schema``; none for one without aliases.

    ComfyUI does not translate them, so that Chinese ones stand beside the English.
    """
    known = {field.name for field in fields(io.Schema)}
    return {"search_aliases": list(words)} if "search_aliases" in known else {}


def advanced() -> dict[str, bool]:
    """Folds an input away until the user asks for more, as an argument for the input; nothing before 0.33."""
    return {"advanced": True} if "advanced" in signature(io.Float.Input.__init__).parameters else {}
