"""Text in mp4, webm and gif. ComfyUI's frontend reads `workflow` and `prompt` from the first two."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from .ffmpeg import run_ffmpeg


def to_ffmetadata(metadata: Mapping[str, str]) -> str:
    """In ffmpeg's own text format."""

    def escape(text: str) -> str:
        return re.sub(r"([=;#\\\n])", r"\\\1", text)

    return ";FFMETADATA1\n" + "".join(f"{escape(key)}={escape(value)}\n" for key, value in metadata.items())


def read_metadata(path: Path) -> dict[str, str]:
    """What a file was given, and what ffmpeg adds of its own."""
    if path.suffix.lower() == ".gif":
        return dict(json.loads(Image.open(path).info.get("comment", b"{}")))
    printed = run_ffmpeg(["-i", str(path), "-f", "ffmetadata", "pipe:1"]).decode("utf-8")
    entries = re.findall(r"^((?:[^=;#\\\n]|\\[\s\S])+)=((?:[^\\\n]|\\[\s\S])*)$", printed, re.MULTILINE)
    unescaped = {re.sub(r"\\([\s\S])", r"\1", key): re.sub(r"\\([\s\S])", r"\1", value) for key, value in entries}
    # Matroska writes the names of tags in capitals
    return {key.lower(): value for key, value in unescaped.items()} if path.suffix.lower() == ".webm" else unescaped


def comment_gif(path: Path, metadata: Mapping[str, str]) -> None:
    """Put a comment block, JSON, before the first frame; ffmpeg writes none."""
    data, text = path.read_bytes(), json.dumps(metadata).encode()
    colours = data[10]  # the flag of a global colour table, and its size
    start = 13 + (3 << (colours & 7) + 1 if colours & 128 else 0)
    blocks = [text[i : i + 255] for i in range(0, len(text), 255)]
    comment = b"\x21\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\x00"
    path.write_bytes(data[:start] + comment + data[start:])
