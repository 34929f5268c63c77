"""What happens in a scene: one coloured thing moves over a textured ground, the camera may move too.

Coordinates are in pixels of a square image whose side is 1 (scaled by ``size`` when rendered), origin in
the centre, x to the right and y down. Speeds are in image sides per frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "heart", "fish")
COLOURS = {
    "red": (220, 45, 40),
    "green": (50, 185, 70),
    "blue": (45, 80, 225),
    "yellow": (240, 210, 45),
    "purple": (150, 60, 190),
    "white": (245, 245, 245),
}
DIRECTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
SPEEDS = {"slowly": 1.5 / 128, "quickly": 3.0 / 128}
#: Camera motion per frame: pan x, pan y (image sides), zoom factor, clockwise rotation (degrees).
CAMERAS = {
    "still camera": (0.0, 0.0, 1.0, 0.0),
    "pan left": (-1.2 / 128, 0.0, 1.0, 0.0),
    "pan right": (1.2 / 128, 0.0, 1.0, 0.0),
    "zoom in": (0.0, 0.0, 1.012, 0.0),
    "zoom out": (0.0, 0.0, 1 / 1.012, 0.0),
    "turn": (0.0, 0.0, 1.0, 1.0),
}
#: What each word becomes when a clip is played backwards. No word says what a backward turn is.
BACKWARDS = {
    **{"left": "right", "right": "left", "up": "down", "down": "up"},
    **{"still camera": "still camera", "pan left": "pan right", "pan right": "pan left"},
    **{"zoom in": "zoom out", "zoom out": "zoom in"},
}
_STILL_SHARE = 0.7
_DIAMETERS = (0.42, 0.62)
_EDGE = 0.02  # the thing stays this far inside the image


@dataclass(frozen=True)
class Scene:
    """One scene; everything that is drawn follows from these fields.

    Attributes:
        start: where the thing's centre is in frame 0, image sides from the image's centre.
        diameter: of the thing, image sides; 0 where there is none.
        tilt: rotation of the thing, degrees (constant over the clip).
        ground: seed of the background.
        unnamed: seed of an object that no word describes, in place of shape and colour; None where they describe it.
        phrase: what the caption calls such an object or a view without one, in words that the model does not know.
        photograph: the background is a photograph as it is.
    """

    shape: str
    colour: str
    direction: str
    speed: str
    camera: str
    start: tuple[float, float]
    diameter: float
    tilt: float
    ground: int
    unnamed: int | None = None
    phrase: str = ""
    photograph: bool = False

    @property
    def caption(self) -> str:
        """The sentence that fixes shape, colour, direction, speed and camera motion, as far as there are words."""
        if not self.diameter:
            return f"{self.phrase}, {self.camera}" if self.phrase else self.camera
        subject = f"{self.colour} {self.shape}" if self.unnamed is None else self.phrase
        return f"a {subject} moves {self.direction} {self.speed}, {self.camera}"

    @property
    def backward_caption(self) -> str | None:
        """The sentence for the clip played backwards, None where no words say that."""
        if self.camera not in BACKWARDS:
            return None
        return replace(self, direction=BACKWARDS[self.direction], camera=BACKWARDS[self.camera]).caption

    @property
    def velocity(self) -> tuple[float, float]:
        """Of the thing over the ground, image sides per frame."""
        return _velocity(self.direction, self.speed)


def training_seed(index: int) -> int:
    """Seed of the training scene with this index, even."""
    return 2 * index


def held_out_seed(index: int) -> int:
    """Seed of a scene that no training saw, odd."""
    return 2 * index + 1


def caption_words() -> list[str]:
    """Every word that a caption can contain, sorted."""
    spoken = ["a moves ,", *SHAPES, *COLOURS, *DIRECTIONS, *SPEEDS, *CAMERAS]
    return sorted({word for phrase in spoken for word in phrase.split()})


def sample_scene(seed: int, num_frames: int = 16) -> Scene:
    """Draw a scene. The thing stays inside the image for ``num_frames`` frames.

    Args:
        seed: any non-negative integer; the same seed gives the same scene everywhere.
        num_frames: how long the thing must stay inside.
    """
    rng = np.random.default_rng(seed)
    direction, speed = str(rng.choice(list(DIRECTIONS))), str(rng.choice(list(SPEEDS)))
    moving = list(CAMERAS)[1:]
    camera = "still camera" if rng.random() < _STILL_SHARE else str(rng.choice(moving))
    travel = [(v - p) * (num_frames - 1) for v, p in zip(_velocity(direction, speed), CAMERAS[camera], strict=False)]
    room = 1 - 2 * _EDGE - max(abs(way) for way in travel)
    diameter = min(float(rng.uniform(*_DIAMETERS)), room)
    start = tuple(_inside(rng, diameter / 2, way) for way in travel)
    return Scene(
        shape=str(rng.choice(SHAPES)),
        colour=str(rng.choice(list(COLOURS))),
        direction=direction,
        speed=speed,
        camera=camera,
        start=(start[0], start[1]),
        diameter=diameter,
        tilt=float(rng.uniform(-15, 15)),
        ground=int(rng.integers(2**31)),
    )


def _velocity(direction: str, speed: str) -> tuple[float, float]:
    dx, dy = DIRECTIONS[direction]
    return dx * SPEEDS[speed], dy * SPEEDS[speed]


def _inside(rng: np.random.Generator, radius: float, travel: float) -> float:
    """A start on one axis so that both ends of the path lie inside the image."""
    low = -0.5 + _EDGE + radius - min(travel, 0.0)
    high = 0.5 - _EDGE - radius - max(travel, 0.0)
    return float(rng.uniform(low, high))
