"""What to tell a user whose file is not there."""

from __future__ import annotations

from .manifest import published


def how_to_get(folder: str, file: str) -> str:
    """Why ``file`` cannot be loaded from ComfyUI's models/``folder``, and what to do: published files are named."""
    entries = [entry for entry in published() if entry.folder == folder]
    for entry in entries:
        if entry.file == file:
            return f"models/{folder} has no {file}. It is published: firstframe weights fetch {entry.id}"
    known = ", ".join(f"{entry.file} ({entry.id})" for entry in entries)
    advice = f"Published ones are {known}: firstframe weights fetch NAME" if known else "Put it there"
    return f"models/{folder} has no {file or 'file'}. {advice}"
