"""Long clips in windows: drift from the picture and peak memory, with the picture in every window and without it.

    python benchmarks/windows.py --pictures 4 --out benchmarks/results

The tiny model in ComfyUI (found as tests/host/run.py finds it), windows of 16 frames that overlap by 6. *anchored* is
our node Context Windows, *plain* ComfyUI's own windows, where only the first one has the picture. Drift is the ssim of
each frame of a clip of 64 to its picture: rendered scenes under a still camera, of which the ground stays. Peak memory
is the highest resident set of a process of its own while it samples, less what imports and models take (Linux only).
Writes windows.json, windows.md and windows.png.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
LENGTH, OVERLAP, STEPS, CFG = 16, 6, 10, 2.0
LENGTHS = (16, 32, 64)
WAYS = ("anchored", "plain")
SHOWN = (1, 8, 15, 24, 32, 48, 63)

sys.path.insert(0, str(ROOT / "tests" / "host"))
from run import find_hosts, find_python, overlay  # noqa: E402


def sample(way: str, num_frames: int, picture: np.ndarray, caption: str) -> tuple[int, torch.Tensor]:
    """Bytes at the peak above those of the loaded models, and frames (F, H, W, 3). Imports the host."""
    arguments, sys.argv = sys.argv, ["main.py", *([] if torch.cuda.is_available() else ["--cpu"])]
    sys.path[:] = [str(Path.cwd()), *sys.path, str(ROOT)]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.model_management

    sys.argv = arguments
    from host_sampling import sample_clip

    from firstframe.bindings.comfy.adapter import apply_adapter
    from firstframe.bindings.comfy.first_frame import hold_first_frame
    from firstframe.bindings.comfy.windows import apply_windows
    from firstframe.sampling.prior import mask_generator, prior_mean
    from firstframe.shapes import fold_frames
    from firstframe.tiny import comfy as tiny

    vae, clip = tiny.load_tiny_vae(), tiny.load_tiny_clip()
    latent = vae.encode(torch.from_numpy(picture)[None])
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


def resident_bytes() -> int:
    """The highest resident set so far, as Linux tells it."""
    status = Path("/proc/self/status").read_text("utf-8")
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])


def sample_in_new_process(way: str, num_frames: int, picture: np.ndarray, caption: str) -> tuple[int, torch.Tensor]:
    host = find_hosts()[0]
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "picture.npy", Path(folder) / "clip.npy"
        np.save(given, picture)
        command = [overlay(find_python(host)), __file__, "--sample", way, str(num_frames), given, caption, made]
        output = subprocess.run(command, cwd=host, stdout=subprocess.PIPE, text=True, check=True).stdout
        return int(output.splitlines()[-1]), torch.from_numpy(np.load(made))


def still_scenes(count: int) -> list[tuple[np.ndarray, str]]:
    """Pictures (H, W, 3) of scenes that no training saw, with what happens in them: something slow, a still camera."""
    from firstframe.tiny.scenes.target import action_targets

    targets = [of_picture[0] for of_picture in action_targets(count, 0, LENGTH)]
    return [(target.frames[0].numpy(), target.scene.caption) for target in targets]


def measure(count: int) -> dict[str, Any]:
    """Drift of 64 frames, and peak memory by length."""
    from firstframe.clips.metrics import first_frame_ssim

    scenes = still_scenes(count)
    drift = {}
    for way in WAYS:
        clips = [sample_in_new_process(way, LENGTHS[-1], *scene)[1] for scene in scenes]
        of_frames = [
            [first_frame_ssim(frame[None], torch.from_numpy(picture)) for frame in clip]
            for clip, (picture, _) in zip(clips, scenes, strict=True)
        ]
        drift[way] = np.mean(of_frames, axis=0).round(4).tolist()
    peaks = {length: sample_in_new_process("anchored", length, *scenes[0])[0] for length in LENGTHS}
    return {"pictures": count, "ssim_to_the_picture": drift, "peak_bytes": peaks}


def as_markdown(report: dict[str, Any]) -> str:
    drift, peaks = report["ssim_to_the_picture"], report["peak_bytes"]
    lines = ["| ssim to the picture at frame | " + " | ".join(map(str, SHOWN)) + " |", "|---" * (1 + len(SHOWN)) + "|"]
    lines += [f"| {way} | " + " | ".join(f"{drift[way][frame]:.3f}" for frame in SHOWN) + " |" for way in WAYS]
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
    axes.set(xlabel="frame", ylabel="ssim to the picture")
    axes.legend()
    figure.savefig(file, dpi=110)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--sample", nargs=5, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.sample:
        way, num_frames, picture, caption, made = options.sample
        with torch.inference_mode():
            peak, frames = sample(way, int(num_frames), np.load(picture), caption)
        np.save(made, frames.float().cpu().numpy())
        print(f"\n{peak}")
        return
    if not find_hosts():
        raise SystemExit("no ComfyUI in COMFYUI_PATH or ~/comfy/ComfyUI")
    report = measure(options.pictures)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "windows.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    (options.out / "windows.md").write_text(as_markdown(report), "utf-8")
    plot(report["ssim_to_the_picture"], options.out / "windows.png")
    print(as_markdown(report))


if __name__ == "__main__":
    main()
