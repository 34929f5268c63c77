"""Reports with few cases, and the runner on a base that has no other look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from firstframe.bindings.diffusers import SamplingSettings
from firstframe.experiments import catalogue, run
from firstframe.experiments.experiment import Report, Setup
from firstframe.tiny.model import TinyModel

SETTINGS = SamplingSettings(num_frames=4, steps=1, cfg=1.0)


@pytest.fixture(scope="session", autouse=True)
def no_other_look() -> Iterator[None]:
    """The small model's UNet is not the one that the LoRA is for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "with_look", lambda model: model)
        yield


@pytest.fixture(scope="session")
def few_claims() -> Report:
    """The papers' claims, the prior's grid with four of its 25 cases."""
    four = [case for case in catalogue.PRIOR.cases if case.row["t0"] in (1.0, 0.6) and case.row["keep"] in (0.9, 0.1)]
    prior = replace(catalogue.PRIOR, cases=four, least_steps=1)
    return replace(catalogue.CLAIMS, experiments=[*catalogue.CLAIMS.experiments[:-1], prior])


@pytest.fixture(scope="session")
def claims_folder(small_model: TinyModel, few_claims: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the papers' claims are on one scene and one image."""
    folder = tmp_path_factory.mktemp("claims")
    run.measure(few_claims, small_model, Setup(1, 0, SETTINGS, images=1), folder)
    return folder
