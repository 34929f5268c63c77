"""Long clips in windows: drift from the image and peak memory, with the image in every window and without it.

    python benchmarks/windows.py --images 4 --out benchmarks/results

The tiny model in ComfyUI (found as tests/host/run.py finds it), windows of 16 frames that overlap by 6. *anchored* is
our node Context Windows, *plain* ComfyUI's own windows, where only the first one has the image. Drift is the ssim of
each frame of a clip of 64 to its image: rendered scenes under a still camera, of which the ground stays. Peak memory
is the highest resident set of a process of its own while it samples, less what imports and models take (Linux only).
Writes windows.json, windows.md and windows.png.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, import_host, resident_bytes, run_in_host, save

READING = "a steady scene keeps its ssim over the frames; memory is the ratio to a clip of 16 frames."
LENGTH, OVERLAP, STEPS, CFG = 16, 6, 10, 1.5
LENGTHS = (16, 32, 64)
CONFIGS = ("anchored", "plain")
SHOWN = (1, 8, 15, 24, 32, 48, 63)


def sample(way: str, num_frames: int, image: np.ndarray, caption: str) -> tuple[int, torch.Tensor]:
    """Bytes at the peak above those of the loaded models, and frames (F, H, W, 3). Imports the host."""
    import_host()
    import comfy.model_management
    from host_sampling import sample_clip

    from firstframe.bindings.comfy.adapter import apply_adapter
    from firstframe.bindings.comfy.first_frame import hold_first_frame
    from firstframe.bindings.comfy.windows import apply_windows
    from firstframe.sampling.prior import mask_generator, prior_mean
    from firstframe.shapes import fold_frames
    from firstframe.tiny import comfy as tiny

    vae, clip = tiny.load_tiny_vae(), tiny.load_tiny_clip()
    latent = vae.encode(torch.from_numpy(image)[None])
    model = hold_first_frame(apply_adapter(tiny.load_tiny_model(), tiny.load_tiny_adapter(), 1.0), latent)
    model = apply_windows(model, LENGTH, OVERLAP) if way == "anchored" else plain_windows(model)
    start = fold_frames(prior_mean(latent, num_frames, 0.5, mask_generator(0)))
    prompts = [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (caption, "")]
    comfy.model_management.load_models_gpu([model, *model.get_nested_additional_models()])
    before = resident_bytes()
    clip_latents = sample_clip(model, prompts, start, STEPS, CFG, None)
    peak = resident_bytes() - before
    return peak, vae.decode(clip_latents)


def plain_windows(model: Any) -> Any:
    """The host's own windows."""
    from comfy import context_windows as windows

    handler = windows.IndexListContextHandler(
        windows.get_matching_context_schedule("standard_static"),
        windows.get_matching_fuse_method("pyramid"),
        context_length=LENGTH,
        context_overlap=OVERLAP,
    )
    handler.causal_window_fix = False  # newer hosts add a frame, for which the motion module has no position
    windowed = model.clone()
    windowed.model_options["context_handler"] = handler
    return windowed


def sample_in_new_process(way: str, num_frames: int, image: np.ndarray, caption: str) -> tuple[int, torch.Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "image.npy", Path(folder) / "clip.npy"
        np.save(given, image)
        peak = run_in_host(__file__, "--sample", way, num_frames, given, caption, made)
        return int(peak), torch.from_numpy(np.load(made))


def still_scenes(count: int) -> list[tuple[np.ndarray, str]]:
    """Images (H, W, 3) of scenes that no training saw, with what happens in them: something slow, a still camera."""
    from firstframe.tiny.scenes.target import action_targets

    targets = [of_image[0] for of_image in action_targets(count, 0, LENGTH)]
    return [(target.frames[0].numpy(), target.scene.caption) for target in targets]


def measure(count: int) -> dict[str, Any]:
    """Drift of 64 frames, and peak memory by length."""
    from firstframe.clips.metrics import first_frame_ssim

    scenes = still_scenes(count)
    drift = {}
    for way in CONFIGS:
        clips = [sample_in_new_process(way, LENGTHS[-1], *scene)[1] for scene in scenes]
        of_frames = [
            [first_frame_ssim(frame[None], torch.from_numpy(image)) for frame in clip]
            for clip, (image, _) in zip(clips, scenes, strict=True)
        ]
        drift[way] = np.mean(of_frames, axis=0).round(4).tolist()
    peaks = {length: sample_in_new_process("anchored", length, *scenes[0])[0] for length in LENGTHS}
    return {"images": count, "ssim_to_the_image": drift, "peak_bytes": peaks}


def as_markdown(report: dict[str, Any]) -> str:
    drift, peaks = report["ssim_to_the_image"], report["peak_bytes"]
    lines = ["| ssim to the image at frame | " + " | ".join(map(str, SHOWN)) + " |", "|---" * (1 + len(SHOWN)) + "|"]
    lines += [f"| {way} | " + " | ".join(f"{drift[way][frame]:.3f}" for frame in SHOWN) + " |" for way in CONFIGS]
    ratios = [f"x{peaks[length] / peaks[LENGTHS[0]]:.2f}" for length in LENGTHS]
    lines += ["", "| frames | " + " | ".join(map(str, LENGTHS)) + " |", "|---" * (1 + len(LENGTHS)) + "|"]
    lines += ["| peak memory while sampling | " + " | ".join(ratios) + " |"]
    return "\n".join(lines) + "\n"


def plot(drift: dict[str, Sequence[float]], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    for way, values in drift.items():
        axes.plot(values, label=way)
    axes.set(xlabel="frame", ylabel="ssim to the image")
    axes.legend()
    figure.savefig(file, dpi=110)


def parse() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--sample", nargs=5, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.sample:
        way, num_frames, image, caption, made = options.sample
        with torch.inference_mode():
            peak, frames = sample(way, int(num_frames), np.load(image), caption)
        np.save(made, frames.float().cpu().numpy())
        print(f"\n{peak}")
        return
    report = measure(options.images)
    save(options.out, "windows", report, as_markdown(report), READING)
    plot(report["ssim_to_the_image"], options.out / "windows.png")


if __name__ == "__main__":
    main()
