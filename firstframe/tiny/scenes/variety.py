"""The scenes that the model is trained on: more various than those that measure it.

In half of them an object moves that no word describes, and some have no object, only a moving camera. So the image
has to be looked at: words tell what moves where, seldom what it looks like.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .scene import CAMERAS, Scene, sample_scene, training_seed

_NAMED, _NO_OBJECT = 0.35, 0.15
_PHOTOGRAPH_BEHIND_OBJECT = 0.35
_OBJECTS = ("thing", "strange thing", "lovely old thing", "thing")
_VIEWS = ("", "", "view", "lovely view")


def training_scene(index: int) -> Scene:
    """The training scene with this number: named, unnamed, or a view without an object."""
    scene = sample_scene(training_seed(index))
    rng = np.random.default_rng((training_seed(index), 1))
    kind = rng.random()
    if kind < _NAMED:
        return replace(scene, photograph=bool(rng.random() < _PHOTOGRAPH_BEHIND_OBJECT / 2))
    if kind < _NAMED + _NO_OBJECT:
        camera, phrase = str(rng.choice(list(CAMERAS))), str(rng.choice(_VIEWS))
        return replace(scene, diameter=0.0, camera=camera, phrase=phrase, photograph=True)
    unnamed, phrase = int(rng.integers(2**31)), str(rng.choice(_OBJECTS))
    photograph = bool(rng.random() < _PHOTOGRAPH_BEHIND_OBJECT)
    return replace(scene, unnamed=unnamed, phrase=phrase, photograph=photograph)
