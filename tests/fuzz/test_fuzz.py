"""Ten seconds of what ``make fuzz`` does for longer: the same cases each time."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from campaign import TARGETS, attack, campaign
from mutate import damage_json

CASES = {"weights": 60, "images": 60, "clips": 8, "servers": 3, "chaos": 2}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_crashes(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from firstframe.queue import fleet

    for name in ("PROBE_WAIT", "LONGEST_PROBE_WAIT"):  # which the target shortens
        monkeypatch.setattr(fleet, name, getattr(fleet, name))
    found = campaign(target, range(CASES[target]), math.inf)
    assert found["crashed"] == 0
    assert found["refused"] or target == "chaos", "nothing was damaged"


def test_a_crash_says_how_to_repeat_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    results = iter([True, False, ZeroDivisionError("by nothing"), True])

    def target(_dice: random.Random, _folder: Path) -> bool:
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setitem(TARGETS, "weights", target)
    assert campaign("weights", range(4, 8), math.inf) == {"accepted": 2, "refused": 1, "crashed": 1}
    printed = capsys.readouterr().out
    assert "by nothing" in printed and "--target weights --seed 6 --cases 1" in printed


def test_a_case_follows_from_its_seed() -> None:
    value = {"a": [1, {"b": None}], "c": "d"}
    drawn = [damage_json(value, random.Random(seed)) for seed in range(50)]
    assert drawn == [damage_json(value, random.Random(seed)) for seed in range(50)]
    assert value == {"a": [1, {"b": None}], "c": "d"}, "the original is changed"
    assert sum(damaged != value for damaged in drawn) > 40
    assert attack("images", 3) == attack("images", 3)
