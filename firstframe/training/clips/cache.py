"""What the encoders make of samples and captions, on disk: each in a file named after all that it follows from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from safetensors.torch import load_file
from torch import Tensor

from ...clips.reference import ImageFeatures
from ...errors import FirstFrameError
from ...modules.text import Text
from ...weights import save_state_dict
from .plan import LeftOut, Sample
from .read import Clip

VERSION = 1


class Encoders(Protocol):
    """What a base model makes of images and prompts.

    Attributes:
        key: another one for other weights.
    """

    @property
    def key(self) -> str: ...

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to latents (B, C, h, w) in the UNet's scale."""
        ...

    def encode_text(self, prompts: Sequence[str]) -> Text:
        """Prompts to text states, and pooled text for SDXL."""
        ...


class Vision(Protocol):
    """What an image encoder sees, for the content adapter. ``key`` is another one for other weights."""

    @property
    def key(self) -> str: ...

    def see(self, image: Tensor) -> ImageFeatures:
        """An image (1, 3, H, W) in [0, 1] to features (1, N, D), and those of no image."""
        ...


class Encoded(NamedTuple):
    """A sample as training reads it.

    Attributes:
        latents: (C, F, h, w).
        text: of one prompt.
        image: frame 0, (3, H, W) uint8.
        features: of that image, (N, D), where there is an image encoder.
    """

    latents: Tensor
    text: Text
    image: Tensor
    features: Tensor | None


@dataclass(frozen=True)
class Cache:
    """Encoded samples and captions in a folder, which several processes and trainings may share.

    A file appears whole or not at all. Nothing in it is ever out of date: other content has another name.

    Attributes:
        encoders: its ``key`` is part of all names.
        vision: whose features are cached, too.
    """

    folder: Path
    encoders: Encoders
    vision: Vision | None = None

    def load(self, sample: Sample) -> Encoded:
        """What `fill` wrote."""
        clip = load_file(self._clip_file(sample))
        features = load_file(self._vision_file(sample))["features"].float() if self.vision else None
        return Encoded(clip["latents"].float(), self.text(sample.source.caption), clip["image"], features)

    def text(self, caption: str) -> Text:
        """The text (B = 1) of a caption that was filled in."""
        saved = load_file(self._text_file(caption))
        return Text(saved["states"][None], saved["pooled"][None] if "pooled" in saved else None).to(torch.float32)

    def fill(self, samples: Sequence[Sample], progress: Callable[[int], None] = lambda count: None) -> list[LeftOut]:
        """Encode what is missing, the empty caption too.

        Args:
            samples: all of them, or one process's share.
            progress: told of each sample that is done.

        Returns:
            Clips that could not be read after all; their samples are not to be used.
        """
        for caption in dict.fromkeys(["", *(sample.source.caption for sample in samples)]):
            if not (file := self._text_file(caption)).exists():
                text = self.encoders.encode_text([caption])._asdict()
                self._save(file, {name: tensor[0].half() for name, tensor in text.items() if tensor is not None})
        failed = []
        for path, of_clip in groupby(sorted(samples, key=lambda s: s.source.path), key=lambda s: s.source.path):
            some = list(of_clip)
            try:
                self._fill_clip(path, [sample for sample in some if not self._is_there(sample)])
            except FirstFrameError as error:
                failed.append(LeftOut(some[0].source, str(error)))
            progress(len(some))
        return failed

    def _fill_clip(self, path: Path, missing: Iterable[Sample]) -> None:
        clip: Clip | None = None
        for sample in missing:
            clip = clip or Clip(path)
            if self.vision is not None:
                features = self.vision.see(clip.frames(sample.frames[:1], sample.size)).image
                self._save(self._vision_file(sample), {"features": features[0].half().cpu()})
            if self._clip_file(sample).exists():
                continue
            frames = clip.frames(sample.frames, sample.size)
            latents = self.encoders.encode(frames).movedim(0, 1).half()  # C F h w
            image = (frames[0] * 255).round().to(torch.uint8)
            self._save(self._clip_file(sample), {"latents": latents, "image": image})

    def _is_there(self, sample: Sample) -> bool:
        seen = self.vision is None or self._vision_file(sample).exists()
        return seen and self._clip_file(sample).exists()

    def _save(self, file: Path, tensors: dict[str, Tensor]) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_state_dict(file, tensors, {})

    def _clip_file(self, sample: Sample) -> Path:
        return self._file("latents", sample.digest, sample.frames, sample.size)

    def _vision_file(self, sample: Sample) -> Path:
        key = self.vision.key if self.vision else ""
        return self._file("vision", key, sample.digest, sample.frames[0], sample.size)

    def _text_file(self, caption: str) -> Path:
        return self._file("text", caption)

    def _file(self, kind: str, *content: object) -> Path:
        named = json.dumps([VERSION, self.encoders.key, *content]).encode()
        return self.folder / kind / f"{hashlib.sha256(named).hexdigest()[:32]}.safetensors"
