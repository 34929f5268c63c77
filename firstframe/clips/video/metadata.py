"""Text in mp4, webm and gif. ComfyUI's frontend reads `workflow` and `prompt` from the first two."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path

from ..images import open_image
from .ffmpeg import run_ffmpeg

_NAME = re.compile(r"[ -~]{1,79}")  # printable ASCII, as png has it


def storable(metadata: Mapping[str, str]) -> dict[str, str]:
    """What every format can hold of it: "?" stands for NUL and halves of surrogate pairs.

    Names that are not 1 to 79 characters of printable ASCII are left out, with a warning in the log.
    """
    if odd := [name for name in metadata if not _NAME.fullmatch(name)]:
        logging.warning(f"FirstFrame: the file cannot hold metadata of these names, it is left out: {odd}")
    named = {name: text for name, text in metadata.items() if name not in odd}
    return {name: text.replace("\0", "?").encode("utf-8", "replace").decode() for name, text in named.items()}


def to_ffmetadata(metadata: Mapping[str, str]) -> str:
    """In ffmpeg's own text format, which cannot hold "\\r", and takes a backslash at the end of a text for its own."""

    def escape(text: str) -> str:
        text = re.sub(r"\r\n?", "\n", text)
        return re.sub(r"([=;#\\\n])", r"\\\1", text + " " * text.endswith("\\"))

    return ";FFMETADATA1\n" + "".join(f"{escape(key)}={escape(value)}\n" for key, value in metadata.items())


def read_metadata(path: Path) -> dict[str, str]:
    """What a file was given, and what ffmpeg adds of its own."""
    if path.suffix.lower() == ".gif":
        with open_image(path) as image:
            return _from_comment(image.info.get("comment", b"").decode("utf-8", "replace"))
    printed = run_ffmpeg(["-i", str(path.absolute()), "-f", "ffmetadata", "pipe:1"]).decode("utf-8", "replace")
    entries = re.findall(r"^((?:[^=;#\\\n]|\\[\s\S])+)=((?:[^\\\n]|\\[\s\S])*)$", printed, re.MULTILINE)
    unescaped = {re.sub(r"\\([\s\S])", r"\1", key): re.sub(r"\\([\s\S])", r"\1", value) for key, value in entries}
    # Matroska writes the names of tags in capitals
    return {key.lower(): value for key, value in unescaped.items()} if path.suffix.lower() == ".webm" else unescaped


def _from_comment(text: str) -> dict[str, str]:
    """What `comment_gif` wrote; a comment by another program is returned as `comment`."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()):
        return found
    return {"comment": text} if text else {}


def comment_gif(path: Path, metadata: Mapping[str, str]) -> None:
    """Put a comment block, JSON, before the first frame; ffmpeg writes none."""
    data, text = path.read_bytes(), json.dumps(metadata).encode()
    colours = data[10]  # the flag of a global colour table, and its size
    start = 13 + (3 << (colours & 7) + 1 if colours & 128 else 0)
    blocks = [text[i : i + 255] for i in range(0, len(text), 255)]
    comment = b"\x21\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\x00"
    path.write_bytes(data[:start] + comment + data[start:])
