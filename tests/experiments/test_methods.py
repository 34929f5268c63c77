"""The methods that are compared, and the numbers of their clips."""

from __future__ import annotations

import pytest
import torch

from firstframe.bindings.diffusers import SamplingSettings
from firstframe.experiments import catalogue, methods
from firstframe.experiments.evaluator import evaluate
from firstframe.experiments.methods import COMPARED, METHODS, MISLED, make_clip
from firstframe.tiny.model import TinyModel
from firstframe.tiny.scenes import training_seed
from firstframe.tiny.scenes.target import ACTIONS, action_targets, held_out_targets
from firstframe.tiny.text import unknown_words

SETTINGS = SamplingSettings(num_frames=4, steps=1, cfg=1.0)


def test_scenes_occur_in_no_training() -> None:
    seeds = {target.seed for seed in (0, 1) for target in held_out_targets(3, seed, 2)}
    assert len(seeds) == 6 and not seeds & {training_seed(index) for index in range(100_000)}


def test_actions_start_with_one_image() -> None:
    (actions,) = action_targets(1, 0, 3)
    assert [(target.scene.direction, target.scene.speed) for target in actions] == list(ACTIONS)
    assert all(torch.equal(target.frames[0], actions[0].frames[0]) for target in actions)
    assert all(not torch.equal(target.frames[2], actions[0].frames[2]) for target in actions[1:])


def test_methods_differ_as_they_say(small_model: TinyModel) -> None:
    (target,) = held_out_targets(1, 0, 4)
    clips = {method: make_clip(small_model, method, target, SETTINGS) for method in COMPARED}
    held = make_clip(small_model, "autoencoder", target, SETTINGS)[0]
    assert torch.allclose(clips["clean_frame"][0], held, atol=1e-5)
    assert torch.allclose(clips["adapter"][0], held, atol=1e-5)
    assert not torch.allclose(clips["base"][0], held, atol=0.1)
    assert not torch.allclose(clips["adapter"][1:], clips["clean_frame"][1:], atol=1e-3)


def test_misleading_prompts_say_something_else(small_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    (target,) = held_out_targets(1, 0, 4)
    prompts = []
    monkeypatch.setattr(methods, "sample_clip", lambda model, prompt, *rest: prompts.append(prompt))
    for method in ("adapter", *MISLED):
        make_clip(small_model, method, target, SETTINGS)
    true, unspoken, contradicted = (prompt.split() for prompt in prompts)
    assert unknown_words(" ".join(unspoken)) == ["zorp", "blib"] and not unknown_words(" ".join(contradicted))
    assert [a == b for a, b in zip(true, contradicted, strict=True)] == [True, False, False, *[True] * (len(true) - 3)]
    assert true[3:] == unspoken[3:]


def test_every_method_is_explained() -> None:
    reports = (catalogue.comparison(True), catalogue.PRIOR_REPORT, catalogue.CLAIMS)
    cases = [case for report in reports for one in report.experiments for case in one.cases]
    assert {case.method for case in cases} == METHODS.keys()


def test_the_target_gets_full_marks() -> None:
    (target,) = held_out_targets(1, 0, 4)
    numbers = evaluate(target.frames, target)
    assert numbers["ssim"] == pytest.approx(1) and numbers["first_frame_ssim"] == pytest.approx(1)
    assert numbers["psnr"] == pytest.approx(100) and numbers["direction_accuracy"] == 1
    assert numbers["object_ssim"] == pytest.approx(1) and numbers["silhouette_iou"] > 0.95
    assert numbers["object_speed"] == pytest.approx(1, abs=0.15)
    assert numbers["brightness_drift"] == 0 and numbers["contrast_drift"] == 0
