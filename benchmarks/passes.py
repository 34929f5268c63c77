"""What is lost where dual guidance makes fewer passes: the presets of the nodes' input *passes*.

    python benchmarks/passes.py --images 16 --out benchmarks/results

The tiny model animates the same images under six prompts each as `firstframe measure claims` does for "many actions",
with the I2V adapter, image scale 1.5 and text scale 2. Writes passes.json and passes.md. About ten seconds a clip.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from common import arguments, save
from tqdm.auto import tqdm

from firstframe import DualGuidance, SamplingSettings, load_tiny, reference_of, sample_clip
from firstframe.clips.metrics import flow_score, measured_direction, ssim, warping_error
from firstframe.sampling.guidance import PASSES
from firstframe.tiny.scenes.target import Target, action_targets

FRAMES, STEPS = 16, 6
IMAGE_SCALE, TEXT_SCALE = 1.5, 2.0
READING = "ssim to the true clip; direction: clips that move where the prompt says; flow in pixels per frame."


def numbers(model: Any, target: Target, guidance: DualGuidance) -> dict[str, float]:
    """Of one clip."""
    settings = SamplingSettings(FRAMES, STEPS, seed=target.seed, guidance=guidance)
    frames = sample_clip(model, target.scene.caption, settings, reference_of(model, target.image))
    return {
        "ssim": ssim(frames, target.frames),
        "direction": float(measured_direction(frames).name == target.scene.direction),
        "flow": flow_score(frames),
        "warping_error": warping_error(frames),
    }


def measure(images: int) -> dict[str, Any]:
    """The means of each preset over all clips."""
    model = load_tiny()
    targets = [target for of_image in action_targets(images, 0, FRAMES) for target in of_image]
    found = {
        name: [
            numbers(model, target, DualGuidance(IMAGE_SCALE, TEXT_SCALE, **asdict(passes))) for target in tqdm(targets)
        ]
        for name, passes in PASSES.items()
    }
    means = {name: {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} for name, rows in found.items()}
    return {"clips": len(targets), "presets": means}


def as_markdown(report: dict[str, Any]) -> str:
    lines = ["| passes | ssim | direction | flow | warping error |", "|---" * 5 + "|"]
    for name, row in report["presets"].items():
        right = f"{round(row['direction'] * report['clips'])}/{report['clips']}"
        lines += [f"| {name} | {row['ssim']:.4f} | {right} | {row['flow']:.3f} | {row['warping_error']:.1f} |"]
    return "\n".join(lines)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=16, help="each under six prompts (default: %(default)s)")
    options = parser.parse_args()
    report = measure(options.images)
    save(options.out, "passes", report, as_markdown(report), READING)


if __name__ == "__main__":
    main()
