"""Training scenes, rendered on all cores. The processes that render do without PyTorch, so that they start at once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import cv2
import numpy as np
from numpy.typing import NDArray

from .config import NUM_FRAMES, SIZE
from .scenes import Scene, Sources, dusk, path, render, training_scene

Rendered = tuple[NDArray[np.uint8], NDArray[np.bool_]]
"""Frames (F, H, W, 3), and where the object is in any of them, (H/8, W/8)."""


@contextmanager
def rendering(sources: Sources, at_dusk: bool) -> Iterator[Callable[[Iterable[range]], Iterator[Iterator[Rendered]]]]:
    """What renders groups of training scenes, each given by their numbers, until the end.

    Args:
        sources: of photographs and cut-outs.
        at_dusk: in another look.
    """
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), _begin, (sources, at_dusk)) as pool:

        def rendered(groups: Iterable[range]) -> Iterator[Iterator[Rendered]]:
            """One group after another; the cores render the next while one is taken."""
            ahead = deque[Iterator[Rendered]]()
            for numbers in groups:
                ahead.append(pool.map(_rendered, numbers, chunksize=2))
                if len(ahead) > 2:
                    yield ahead.popleft()
            yield from ahead

        yield rendered
        pool.shutdown(cancel_futures=True)


class _Process:
    """What a process that renders was told at its start."""

    sources: Sources
    at_dusk: bool


def _begin(sources: Sources, at_dusk: bool) -> None:
    cv2.setNumThreads(1)
    _Process.sources, _Process.at_dusk = sources, at_dusk


def _rendered(number: int) -> Rendered:
    scene = training_scene(number)
    frames = render(scene, NUM_FRAMES, SIZE, with_flow=False, sources=_Process.sources).frames
    return dusk(frames) if _Process.at_dusk else frames, _latent_path(scene)


def _latent_path(scene: Scene) -> NDArray[np.bool_]:
    """:func:`.scenes.path` at the resolution of latents, (H/8, W/8)."""
    if not scene.diameter:
        return np.zeros((SIZE // 8, SIZE // 8), np.bool_)
    cells = path(scene, NUM_FRAMES, SIZE).reshape(SIZE // 8, 8, SIZE // 8, 8)
    return np.asarray(cells.any((1, 3)))
