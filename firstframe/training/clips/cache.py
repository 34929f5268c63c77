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

from ...errors import FirstFrameError
from ...text import Text
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


class Encoded(NamedTuple):
    """A sample as training reads it: latents (C, F, h, w), text of one prompt, frame 0 (3, H, W) uint8."""

    latents: Tensor
    text: Text
    image: Tensor


@dataclass(frozen=True)
class Cache:
    """Encoded samples and captions in a folder, which several processes and trainings may share.

    A file appears whole or not at all. Nothing in it is ever out of date: other content has another name.

    Attributes:
        encoders: its ``key`` is part of all names.
    """

    folder: Path
    encoders: Encoders

    def load(self, sample: Sample) -> Encoded:
        """What `fill` wrote."""
        clip = load_file(self._clip_file(sample))
        return Encoded(clip["latents"].float(), self.text(sample.source.caption), clip["image"])

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
                self._fill_clip(path, [sample for sample in some if not self._clip_file(sample).exists()])
            except FirstFrameError as error:
                failed.append(LeftOut(some[0].source, str(error)))
            progress(len(some))
        return failed

    def _fill_clip(self, path: Path, missing: Iterable[Sample]) -> None:
        clip: Clip | None = None
        for sample in missing:
            clip = clip or Clip(path)
            frames = clip.frames(sample.frames, sample.size)
            latents = self.encoders.encode(frames).movedim(0, 1).half()  # C F h w
            image = (frames[0] * 255).round().to(torch.uint8)
            self._save(self._clip_file(sample), {"latents": latents, "image": image})

    def _save(self, file: Path, tensors: dict[str, Tensor]) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_state_dict(file, tensors, {})

    def _clip_file(self, sample: Sample) -> Path:
        return self._file("latents", sample.digest, sample.frames, sample.size)

    def _text_file(self, caption: str) -> Path:
        return self._file("text", caption)

    def _file(self, kind: str, *content: object) -> Path:
        named = json.dumps([VERSION, self.encoders.key, *content]).encode()
        return self.folder / kind / f"{hashlib.sha256(named).hexdigest()[:32]}.safetensors"
