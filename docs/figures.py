"""The figures of how_it_works.md, from the model that ships with the pack.

    python docs/figures.py

Writes attention.jpg, start.jpg and residuals.jpg into docs/images, the same ones every time, and prints the numbers
that the page quotes. About a minute on two CPU cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from einops import rearrange, repeat
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from firstframe.bindings.diffusers import PartScales, SamplingSettings, inject
from firstframe.bindings.diffusers.pipeline import reference_of, sample_clip
from firstframe.bindings.diffusers.sampling import draw_noise
from firstframe.modules.backend import scaled_dot_product_attention
from firstframe.modules.i2v_adapter import I2VAdapter
from firstframe.sampling.prior import mask_generator, prior_mean
from firstframe.sampling.schedule import Schedule
from firstframe.shapes import fold_frames
from firstframe.sites import Site
from firstframe.tiny.model import TinyModel, load_tiny
from firstframe.tiny.scenes import render, sample_scene
from firstframe.tiny.scenes.target import Target, held_out_targets

IMAGES = Path(__file__).parent / "images"
NUM_FRAMES, CELL = 16, 8  # frames of a clip, pixels of an image to one of the latent
SETTINGS = SamplingSettings(NUM_FRAMES, steps=10, cfg=1.5)
FISH = 9  # a white fish moves right quickly under a still camera
LOOKER = Site("up", 2, 1)  # the finest level, where a place is 8 x 8 pixels
MIDDLE = 5  # of the steps, from 0
SHOWN = (4, 8, 11, 15)


def attention_weights(query: Tensor, key: Tensor, num_heads: int) -> Tensor:
    """Softmax of the scaled products, mean over heads: query (B, N, C) and key (B, M, C) to (B, N, M)."""
    query, key = (rearrange(t, "b n (h d) -> b h n d", h=num_heads) for t in (query, key))
    products = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    return products.softmax(-1).mean(1)


@contextmanager
def recorded(adapter: I2VAdapter, site: Site) -> Iterator[list[Tensor]]:
    """Collects the weights of the prompt's clip at a site, (F, N, N) for each step."""
    leaf, steps = adapter[site], list[Tensor]()

    def attend(query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
        weights = attention_weights(query[:1], key[:1], num_heads)[0]
        steps.append(rearrange(weights, "(f n) m -> f n m", n=key.shape[1]))
        return scaled_dot_product_attention(query, key, value, num_heads)

    leaf.attention = attend
    try:
        yield steps
    finally:
        leaf.attention = scaled_dot_product_attention


def covered(truth: Target) -> Tensor:
    """Which cells of each frame belong to the moving thing, (F, H/8, W/8) bool."""
    masks = torch.from_numpy(render(truth.scene, NUM_FRAMES, with_flow=False).masks)
    return torch.nn.functional.avg_pool2d(masks[:, None], CELL)[:, 0] > 0.5


def middle_of(cells: Tensor) -> tuple[int, int]:
    """Row and column of the cell in the middle of the marked ones (h, w)."""
    row, column = cells.nonzero().float().mean(0).round().int().tolist()
    return row, column


def draw_attention(model: TinyModel, file: Path) -> None:
    """Where a place on the thing, and one on the ground, look in the first frame."""
    truth = Target(FISH, sample_scene(FISH), NUM_FRAMES)
    with recorded(model.adapter, LOOKER) as steps:
        frames = sample_clip(model, truth.scene.caption, SETTINGS, reference_of(model, truth.image))
    weights, thing = steps[MIDDLE], covered(truth)
    figure, axes = _grid(3, len(SHOWN) + 1)
    _image(axes[0, 0], truth.frames[0], "frame 0, the image")
    _words(axes[1, 0], "where the red place\nlooks in frame 0")
    _words(axes[2, 0], "where the blue place\nlooks in frame 0")
    for column, frame in enumerate(SHOWN, start=1):
        row, middle = middle_of(thing[frame])
        _image(axes[0, column], frames[frame], f"frame {frame}")
        for axis, colour, place in zip(axes[1:, column], ("red", "blue"), ((row, middle), (2, middle)), strict=True):
            looks = weights[frame].unflatten(0, thing.shape[1:])[place].unflatten(0, thing.shape[1:])
            _heat(axis, truth.frames[0], looks)
            _mark(axes[0, column], place, colour)
            _mark(axis, place, colour, dashed=True)
    _save(figure, file)


def attention_shares(model: TinyModel, count: int = 8) -> dict[str, float]:
    """How much of the attention goes to the thing in frame 0, from the thing and from the ground of later frames.

    Means over held-out scenes under a still camera, and over the frames from 8 on, where the thing has moved away.
    """
    still = (truth for truth in held_out_targets(100, 0, NUM_FRAMES) if truth.scene.camera == "still camera")
    rows = []
    for truth in islice(still, count):
        with recorded(model.adapter, LOOKER) as steps:
            sample_clip(model, truth.scene.caption, SETTINGS, reference_of(model, truth.image))
        thing = covered(truth).flatten(1)
        to_thing = steps[MIDDLE][8:, :, thing[0]].sum(-1)
        rows.append([to_thing[thing[8:]].mean(), to_thing[~thing[8:]].mean(), thing[0].float().mean()])
    means = torch.tensor(rows).mean(0).tolist()
    return dict(zip(("from the thing", "from the ground", "share of the image"), means, strict=True))


def draw_start(model: TinyModel, file: Path) -> None:
    """D(x) for three p, what a start from it looks like, and the last frame of the clips that come of three t0."""
    truth = Target(FISH, sample_scene(FISH), NUM_FRAMES)
    latent = model.encode(truth.image)
    noise = draw_noise(latent.shape[1:], 2, seed=0)[:, :, 1]
    starts = (0.6, 0.8, 1.0)
    figure, axes = _grid(3, 2 + len(starts))
    for row, p in zip(axes, (1.0, 0.5, 0.1), strict=True):
        frame = prior_mean(latent, 2, p, mask_generator(0))[:, :, 1]
        alpha, sigma = alpha_and_sigma(model, starts[0])
        _image(row[0], _decoded(model, frame), f"D(x), p = {p:g}")
        _image(row[1], _decoded(model, alpha * frame + sigma * noise), f"{alpha:.2f} D(x) + {sigma:.2f} noise")
        for axis, t0 in zip(row[2:], starts, strict=True):
            knobs = replace(SETTINGS, keep_probability=p, start_time=t0)
            frames = sample_clip(model, truth.scene.caption, knobs, reference_of(model, truth.image))
            _image(axis, frames[-1], f"last frame, t0 = {t0:g}")
    _save(figure, file)


def alpha_and_sigma(model: TinyModel, start_time: float) -> tuple[float, float]:
    """Shares of image and noise where sampling starts at ``start_time`` (t0)."""
    schedule = Schedule.ddim(model.scheduler.alphas_cumprod, SETTINGS.steps, start_time)
    return schedule.alphas[0], schedule.sigmas[0]


def draw_residuals(model: TinyModel, file: Path) -> None:
    """How large the retention branch's residuals are beside what they are added to, and what that does to a clip."""
    truth = Target(FISH, sample_scene(FISH), NUM_FRAMES)
    image = reference_of(model, truth.image, encode=False)
    clips = {
        name: sample_clip(model, truth.scene.caption, SETTINGS, reference, PartScales(adapter=0.0))
        for name, reference in {"text alone": None, "with the branch": image}.items()
    }
    figure = Figure(figsize=(11, 6.4), layout="constrained", dpi=90)
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.15))
    axis = above.subplots()
    for timestep, shares in residual_shares(model, truth).items():
        axis.plot(range(len(shares)), shares, marker="o", label=f"timestep {timestep}")
    axis.set(xlabel="skip connection, from the outside in", ylabel="residual / skip connection (norms)", ylim=(0, None))
    axis.set_xticks(range(9), ["16 x 16", "16 x 16", "16 x 16", "8 x 8", "8 x 8", "8 x 8", "4 x 4", "4 x 4", "4 x 4"])
    axis.legend()
    shown = (0, 4, 8, 11, 15)
    axes = below.subplots(2, len(shown) + 1)
    _image(axes[0, 0], truth.frames[0], "the image")
    axes[1, 0].axis("off")
    for row, (name, frames) in zip(axes, clips.items(), strict=True):
        for axis, frame in zip(row[1:], shown, strict=True):
            _image(axis, frames[frame], f"{name}, frame {frame}")
    _save(figure, file)


def residual_shares(model: TinyModel, truth: Target) -> dict[int, list[float]]:
    """Norm of each residual over that of the skip connection it is added to, by timestep, on the noised true clip."""
    latents = repeat(model.encode(truth.frames.movedim(-1, 1)), "f c h w -> 1 c f h w")
    noise = draw_noise((latents.shape[1], *latents.shape[3:]), NUM_FRAMES, seed=0)
    text, features = model.encode_text([truth.scene.caption]), model.retention.encode(truth.image)
    return {
        timestep: _shares_at(
            model, model.scheduler.add_noise(latents, noise, torch.tensor(timestep)), timestep, text, features
        )
        for timestep in (900, 500, 100)
    }


@torch.inference_mode()
def _shares_at(model: TinyModel, noisy: Tensor, timestep: int, text: Tensor, features: Tensor) -> list[float]:
    skips: list[Tensor] = []
    hooks = [model.unet.conv_in.register_forward_hook(lambda _, __, output: skips.append(output))]
    hooks += [
        block.register_forward_hook(lambda _, __, output: skips.extend(output[1])) for block in model.unet.down_blocks
    ]
    with inject(model.unet, model.motion, num_frames=NUM_FRAMES):
        model.unet(fold_frames(noisy), timestep, text)
    for hook in hooks:
        hook.remove()
    residuals = model.retention(noisy, torch.tensor([timestep]), text, features)
    return [(residual.norm() / skip.norm()).item() for residual, skip in zip(residuals, skips, strict=True)]


def _decoded(model: TinyModel, latent: Tensor) -> Tensor:
    return model.decode(latent)[0].movedim(0, -1)


def _grid(rows: int, columns: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=(2.15 * columns, 2.4 * rows), layout="constrained", dpi=90)
    return figure, figure.subplots(rows, columns)


def _image(axis: Any, frame: Tensor, title: str) -> None:
    axis.imshow(frame, extent=(0, 128, 128, 0))
    axis.set_title(title, fontsize=9)
    axis.axis("off")


def _words(axis: Any, words: str) -> None:
    axis.axis("off")
    axis.text(0.5, 0.5, words, ha="center", va="center", fontsize=11)


def _heat(axis: Any, frame: Tensor, weights: Tensor) -> None:
    _image(axis, 0.35 * frame, f"most on one place: {weights.max():.0%}")
    axis.imshow(weights, extent=(0, 128, 128, 0), cmap="inferno", alpha=(weights / weights.max()).sqrt())


def _mark(axis: Any, place: tuple[int, int], colour: str, dashed: bool = False) -> None:
    row, column = place
    style = ":" if dashed else "-"
    axis.add_patch(
        Rectangle((column * CELL, row * CELL), CELL, CELL, fill=False, edgecolor=colour, linewidth=2, linestyle=style)
    )


def _save(figure: Figure, file: Path) -> None:
    figure.savefig(file, pil_kwargs={"quality": 85})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=IMAGES, help="Folder of the images.")
    out = parser.parse_args(arguments).out
    out.mkdir(parents=True, exist_ok=True)
    model = load_tiny()
    draw_attention(model, out / "attention.jpg")
    draw_start(model, out / "start.jpg")
    draw_residuals(model, out / "residuals.jpg")
    print({name: round(share, 3) for name, share in attention_shares(model).items()})
    print({t0: [round(share, 2) for share in alpha_and_sigma(model, t0)] for t0 in (1.0, 0.9, 0.8, 0.7, 0.6, 0.4)})


if __name__ == "__main__":
    main()
