"""The ffmpeg program that imageio-ffmpeg brings."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import imageio_ffmpeg
from numpy.typing import NDArray

from ...errors import FirstFrameError


def _command(arguments: list[str]) -> list[str]:
    return [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *arguments]


def description(path: str) -> str:
    """What it prints about a file's streams."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", path]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return result.stderr.decode("utf-8", "replace")


def run_ffmpeg(arguments: list[str]) -> bytes:
    """Run it; what it prints. Raises FirstFrameError with what it complains about."""
    result = subprocess.run(_command(arguments), stdin=subprocess.DEVNULL, capture_output=True, check=False)
    _check(result.returncode, result.stderr)
    return result.stdout


def feed_ffmpeg(arguments: list[str], pieces: Iterable[NDArray[Any]]) -> None:
    """Run it with ``pieces`` as its standard input. It is stopped where making them fails. Raises FirstFrameError."""
    with tempfile.TemporaryFile() as told:
        with subprocess.Popen(_command(arguments), stdin=subprocess.PIPE, stderr=told) as process:
            assert process.stdin is not None
            try:
                with suppress(BrokenPipeError):  # it has stopped, and says below why
                    for piece in pieces:
                        process.stdin.write(piece.tobytes())
                    process.stdin.close()
            except BaseException:
                process.kill()
                raise
        told.seek(0)
        _check(process.returncode, told.read())


def _check(returncode: int, told: bytes) -> None:
    if returncode:
        message = told.decode("utf-8", "replace").strip() or f"it ended with code {returncode}"
        raise FirstFrameError(f"ffmpeg failed: {message}")
