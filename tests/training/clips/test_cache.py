"""Encoded samples on disk, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from firstframe.clips.video import write_clip
from firstframe.modules.text import Text
from firstframe.training.clips.batches import Batches
from firstframe.training.clips.buckets import Size
from firstframe.training.clips.cache import Cache
from firstframe.training.clips.find import Source
from firstframe.training.clips.plan import Sample


@dataclass
class Counting:
    """Encoders that shrink, and remember what they were asked."""

    key: str = "a"
    images: list[int] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)

    def encode(self, images: Tensor) -> Tensor:
        self.images.append(len(images))
        return torch.nn.functional.avg_pool2d(images, 8)

    def encode_text(self, prompts: Sequence[str]) -> Text:
        self.prompts += prompts
        return Text(torch.tensor([[[float(len(prompt))]] for prompt in prompts]))


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Two samples of each of three clips, whose frames are of one grey each; the last clip is of another size."""
    found = []
    for index in range(3):
        path = tmp_path / f"{index}.png_folder"
        frames = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(-1, 64, 128, 3) * 20 + 40 * index
        write_clip(path.with_suffix(""), frames, fps=8)
        source = Source(path.with_suffix(""), "x" * (index + 1), str(index))
        size = Size(128, 64) if index == 2 else Size(64, 64)
        found += [Sample(source, f"digest {index}", numbers, size) for numbers in ((0, 1, 2), (3, 4, 5))]
    return found


def test_what_was_encoded_is_found_again(tmp_path: Path, samples: list[Sample]) -> None:
    cache = Cache(tmp_path / "cache", Counting())
    assert cache.fill(samples) == []
    for sample in samples:
        encoded = cache.load(sample)
        expected = (torch.tensor(sample.frames) * 20 + 40 * int(sample.source.name)) / 255
        torch.testing.assert_close(encoded.latents[0, :, 0, 0], expected, atol=2e-3, rtol=0)
        assert encoded.image.shape == (3, sample.size.height, sample.size.width)
        assert encoded.text.states.item() == len(sample.source.caption)
    assert cache.text("").states.item() == 0


def test_nothing_is_encoded_twice(tmp_path: Path, samples: list[Sample]) -> None:
    first, second, other = Counting(), Counting(), Counting("b")
    Cache(tmp_path / "cache", first).fill(samples[:4])
    Cache(tmp_path / "cache", second).fill(samples)
    Cache(tmp_path / "cache", other).fill(samples)
    assert first.images == [3] * 4 and second.images == [3] * 2 and second.prompts == ["xxx"]
    assert other.images == [3] * 6 and len(other.prompts) == 4


def test_an_interrupted_file_is_not_taken_for_a_whole_one(tmp_path: Path, samples: list[Sample]) -> None:
    encoders = Counting()
    cache = Cache(tmp_path / "cache", encoders)
    cache.fill(samples[:1])
    (whole,) = (tmp_path / "cache" / "latents").iterdir()
    whole.rename(whole.with_name(whole.name + ".0123.part"))
    cache.fill(samples[:1])
    assert encoders.images == [3, 3] and cache.load(samples[0]).latents.shape == (3, 3, 8, 8)


def test_a_clip_that_cannot_be_read_after_all_is_named(tmp_path: Path, samples: list[Sample]) -> None:
    gone = replace(samples[0], frames=(0, 1, 99))
    (failed,) = Cache(tmp_path / "cache", Counting()).fill([gone, *samples[2:]])
    assert failed.source == gone.source


def test_an_epoch_has_every_sample_as_often_as_it_repeats(tmp_path: Path, samples: list[Sample]) -> None:
    cache = Cache(tmp_path / "cache", Counting())
    cache.fill(samples)
    repeated = [replace(samples[0], repeats=3), *samples[1:]]
    batches = Batches(cache, repeated, batch_size=2, seed=0)
    for epoch in range(2):
        seen = [batches(epoch * len(batches) + place) for place in range(len(batches))]
        firsts = sorted(value for batch in seen for value in batch.images[:, 0, 0, 0].tolist())
        every = [sample for sample in repeated for _ in range(sample.repeats)]
        wanted = sorted(cache.load(sample).image[0, 0, 0].item() / 255 for sample in every)
        assert firsts == pytest.approx(wanted)
        assert all(len({image.shape for image in batch.images}) == 1 for batch in seen)


def test_a_batch_of_a_number_is_always_the_same(tmp_path: Path, samples: list[Sample]) -> None:
    cache = Cache(tmp_path / "cache", Counting())
    cache.fill(samples)
    first, second, other = (Batches(cache, samples, 1, seed) for seed in (0, 0, 1))
    numbers = [5, 0, 7, 3]
    assert all(torch.equal(first(n).latents, second(n).latents) for n in numbers)
    order = [[batches(n).latents.mean().item() for n in range(12)] for batches in (first, other)]
    assert order[0] != order[1] and order[0][:6] != order[0][6:]
