"""Numbers of one clip frame by frame."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from firstframe.clips.metrics import flow_score, warping_error
from firstframe.clips.metrics.per_frame import as_json, as_text, frame_numbers, frame_panels, means
from firstframe.clips.metrics.plot import bars, grid, lines, pixels, side_by_side
from firstframe.errors import FramesError
from firstframe.tiny.scenes.target import held_out_targets


@pytest.fixture(scope="module")
def clip() -> Tensor:
    (target,) = held_out_targets(1, 0, 6)
    return target.frames


def test_every_frame_has_its_own_numbers(clip: Tensor) -> None:
    numbers = frame_numbers(clip, clip[0])
    assert {name: len(values) for name, values in numbers.items()} == {
        "picture_ssim": 6,
        "brightness_drift": 6,
        "contrast_drift": 6,
        "flow_score": 5,
        "warping_error": 5,
    }
    assert numbers["picture_ssim"][0] == pytest.approx(1) and numbers["picture_ssim"][-1] < 0.99
    assert numbers["brightness_drift"][0] == 0 and numbers["contrast_drift"][0] == 0
    assert means(numbers)["flow_score"] == pytest.approx(flow_score(clip), rel=1e-5)
    assert means(numbers)["warping_error"] == pytest.approx(warping_error(clip), rel=1e-5)


def test_what_happens_to_one_frame_is_seen_there(clip: Tensor) -> None:
    still = clip[:1].repeat(6, 1, 1, 1) * 0.8
    still[3] += 0.1
    numbers = frame_numbers(still, still[0])
    assert np.argmax(numbers["brightness_drift"]) == 3
    assert numbers["brightness_drift"][3] == pytest.approx(25.5, abs=0.1) and numbers["brightness_drift"][4] == 0
    assert [value > 100 for value in numbers["warping_error"]] == [False, False, True, True, False]
    still[3] = still[0] * 0.5
    assert frame_numbers(still, still[0])["contrast_drift"][3] == pytest.approx(-0.5, abs=1e-4)


def test_a_single_frame_is_refused(clip: Tensor) -> None:
    with pytest.raises(FramesError, match="two frames, got 1"):
        frame_numbers(clip[:1], clip[0])


def test_an_image_of_one_colour(clip: Tensor) -> None:
    numbers = json.loads(as_json({"clip": frame_numbers(clip, torch.full_like(clip[0], 0.5))}))["clip"]
    assert set(numbers["frames"]["contrast_drift"]) == {None} and numbers["mean"]["contrast_drift"] is None
    assert all(number is not None for number in numbers["frames"]["picture_ssim"])


def test_json_and_text_say_the_same(clip: Tensor) -> None:
    measured = {"adapter": frame_numbers(clip, clip[0]), "still": frame_numbers(clip[:1].repeat(3, 1, 1, 1), clip[0])}
    numbers = json.loads(as_json(measured))
    assert numbers["adapter"]["frames"] == measured["adapter"] and numbers["still"]["mean"]["flow_score"] == 0
    flow = numbers["adapter"]["mean"]["flow_score"]
    assert f"flow (px/frame): adapter {flow:.2f}, still 0.00" in as_text(measured).splitlines()


def test_the_plot_has_a_panel_for_each_number_and_a_line_for_each_clip(clip: Tensor) -> None:
    measured = {"one": frame_numbers(clip, clip[0]), "two": frame_numbers(clip.flip(0), clip[0])}
    figure = side_by_side("", frame_panels(measured))
    assert len(figure.axes) == 5
    for axes, values in zip(figure.axes, measured["one"].values(), strict=True):
        one, two = axes.lines
        assert np.allclose(one.get_ydata(), values) and (one.get_label(), two.get_label()) == ("one", "two")
    drawn = pixels(figure)
    assert drawn.ndim == 3 and drawn.shape[2] == 3 and drawn.dtype == np.uint8
    assert (drawn.std((0, 1)) > 5).all() and (drawn[0] == 255).all()


def test_alternative_texts_have_the_numbers() -> None:
    assert bars("ssim", {"base": 0.5}, 2, {"truth": 1.0}).alt == "Bars: ssim: base 0.50, truth 1.00."
    drawn = lines("flow", "t0", "flow (px)", {"adapter": ([0.6, 1.0], [0.8, 0.9])}, digits=1)
    assert drawn.alt == "Lines: flow (px) over t0: adapter: 0.8 at 0.6, 0.9 at 1."
    table = grid("flow", ("t0", [1.0, 0.6]), ("p", [0.9]), [[1.0], [2.0]], 0)
    assert table.alt == "Grid: flow, over p of 0.9. t0 1: 1; t0 0.6: 2."


def test_names_are_no_formulas(clip: Tensor) -> None:
    numbers = frame_numbers(clip, clip[0])
    figure = side_by_side("$", frame_panels({r"$\frac{$": numbers, "$x$": numbers}))
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [r"$\frac{$", "$x$"]
    assert pixels(figure).ndim == 3
