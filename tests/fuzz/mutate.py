"""Damage, drawn at random from a seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

NUMBERS = [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\1"]
SHAPES: list[tuple[int, ...]] = [(), (0,), (1,), (7,), (0, 32), (32, 0), (33, 32), (1, 1, 1), (2, 2, 2, 2)]
TYPES = [torch.int8, torch.int64, torch.bool, torch.float64, torch.bfloat16]
CONFIGS = ["", "[1]", "{", '{"num_heads": 0}', '{"num_heads": 1e99}', '{"layers_per_block": 1000000}', '{"unet": []}']
ENDS = ["", ".", "_9_9", "\x1b[2J", "٣"]
JUNK: list[Any] = [
    None,
    True,
    -1,
    2**70,
    1e400,
    "",
    "\x1b[2J\u202e",
    "../../x",
    "x" * 10_000,
    [],
    {},
    [[[]]],
    {"a": None},
]


def mutate(data: bytes, dice: random.Random) -> bytes:
    """A few bytes changed, cut off, put in or taken out; headers more often than the rest."""
    damaged = bytearray(data)
    for _ in range(dice.choice([1, 1, 2, 4, 16])):
        place = dice.randrange(dice.choice([min(len(damaged), 600), len(damaged)]) or 1)
        damage = dice.randrange(5)
        if damage == 0:
            damaged[place : place + 1] = dice.randbytes(1)
        elif damage == 1:
            del damaged[place:]
        elif damage == 2:
            damaged[place : place + 4] = dice.choice(NUMBERS)
        elif damage == 3:
            damaged[place:place] = dice.randbytes(dice.randrange(8))
        else:
            del damaged[place : place + dice.randrange(1, 20)]
    return bytes(damaged)


def damage_tensors(tensors: dict[str, Tensor], metadata: dict[str, str], dice: random.Random) -> None:
    """One random change: a tensor lost, renamed, of another shape, type or value, or another configuration."""
    if not tensors:
        return
    name = dice.choice(sorted(tensors))
    tensor = tensors.pop(name)
    changed: list[Callable[[], Tensor]] = [
        lambda: torch.zeros(dice.choice(SHAPES)),
        lambda: tensor.to(dice.choice(TYPES)),
        lambda: tensor * dice.choice([float("nan"), float("inf")]),
        lambda: tensor.flatten(),
    ]
    match dice.randrange(7):
        case 0:
            tensors[name[: dice.randrange(1, len(name) + 1)] + dice.choice(ENDS)] = tensor
        case 1:
            tensors[name] = tensor
            metadata["firstframe.config"] = dice.choice(CONFIGS)
        case 2:
            pass  # it is lost
        case _:
            tensors[name] = dice.choice(changed)()


def damage_json(value: Any, dice: random.Random) -> Any:
    """JSON with one value lost, doubled or of another type, at any depth; now and then all of it."""
    if not isinstance(value, dict | list) or not value or dice.random() < 0.15:
        return dice.choice(JUNK)
    places = list(value) if isinstance(value, dict) else list(range(len(value)))
    place, damaged = dice.choice(places), json.loads(json.dumps(value))
    if dice.random() < 0.2:
        del damaged[place]
    else:
        damaged[place] = damage_json(damaged[place], dice)
    return damaged
