"""While a clip is sampled, all of its frames are to be seen."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from conftest import HOST
from harness import STEPS, Server, quickstart, running_server, saved_frames
from PIL import Image

pytestmark = pytest.mark.feature("Previews of all frames while sampling")

NUM_FRAMES = 16
(SAMPLER,) = [id for id, node in quickstart().items() if node["class_type"] == "KSampler"]


class Shown:
    """The previews of a run, and the steps that its sampler tells."""

    def __init__(self) -> None:
        self.previews: list[dict[str, Any]] = []
        self.steps: list[int] = []

    def __call__(self, event: str, data: dict[str, Any]) -> None:
        if event == "preview":
            self.previews.append(data)
        if event == "progress" and data["node"] == SAMPLER:
            self.steps.append(data["value"])

    @property
    def images(self) -> list[np.ndarray]:
        return [np.asarray(Image.open(BytesIO(preview["image"]))) for preview in self.previews]


@pytest.fixture(scope="module")
def previewing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that shows previews."""
    options = ["--preview-method", "latent2rgb"]
    with running_server(HOST, tmp_path_factory.mktemp("previewing") / "base", more_options=options) as server:
        yield server


def test_frame_after_frame_is_shown(previewing: Server) -> None:
    shown = Shown()
    outcome = previewing.run(quickstart(seed=3, steps=20), shown)
    assert outcome.event == "execution_success", outcome.data
    assert shown.steps == list(range(1, 21)), "one message for each step, as without us"
    assert len(shown.previews) > 20 + NUM_FRAMES // 2, "more than the first frame of each step"
    assert len({preview["node_id"] for preview in shown.previews}) == 1
    images = shown.images
    first = images[0].astype(int)
    assert sum(abs(image - first).mean() > 2 for image in images) > NUM_FRAMES // 2, "the others are other frames"


def test_the_clip_is_the_same(previewing: Server, server: Server) -> None:
    assert torch.equal(saved_frames(previewing, quickstart(seed=4)), saved_frames(server, quickstart(seed=4)))


def test_without_previews_none_is_sent(server: Server) -> None:
    shown = Shown()
    assert server.run(quickstart(seed=6), shown).event == "execution_success"
    assert shown.steps == list(range(1, STEPS + 1))
    assert not shown.previews


def test_a_cancelled_run_shows_no_more(previewing: Server) -> None:
    def cancel(event: str, data: dict[str, Any]) -> None:
        if event == "progress" and data["value"] == 3:
            previewing.interrupt()

    assert previewing.run(quickstart(seed=7, steps=20), cancel).event == "execution_interrupted"
    shown = Shown()
    assert previewing.run(quickstart(seed=8), shown).event == "execution_success"
    assert shown.steps == list(range(1, STEPS + 1))
