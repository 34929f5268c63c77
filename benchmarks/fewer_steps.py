"""What is lost where fewer of the model's evaluations are made: fewer steps, ComfyUI's EasyCache and LazyCache, fast.

    python benchmarks/fewer_steps.py --scenes 6 --out benchmarks/results

The tiny model in ComfyUI (found as tests/host/run.py finds it; EasyCache is in 0.3.64) animates the first frames of
rendered scenes that no training saw, with the I2V adapter and plain guidance 1.5. Writes fewer_steps.json,
fewer_steps.md and a contact sheet of one scene for each way. Needs the extra ``standalone``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, import_host, run_in_host, save

STEPS, FRAMES, CFG = 20, 16, 1.5


@dataclass(frozen=True)
class Way:
    """So many steps; with a cache of the host at this threshold; with the adapter's *fast*."""

    steps: int = STEPS
    cache: str | None = None
    threshold: float = 0.0
    fast: bool = False


CONFIGS = {
    "20 steps": Way(),
    "20 steps, fast": Way(fast=True),
    "10 steps": Way(10),
    "6 steps": Way(6),
    "4 steps": Way(4),
    "EasyCache 0.1": Way(cache="EasyCacheNode", threshold=0.1),
    "EasyCache 0.2 (its default)": Way(cache="EasyCacheNode", threshold=0.2),
    "LazyCache 0.2 (its default)": Way(cache="LazyCacheNode", threshold=0.2),
}
READING = (
    "evaluations: of the UNet, one for each prompt and step, to those of 20 steps. ssim to the true clip and to that "
    "of 20 steps, means over the scenes; direction: clips that move where the prompt says; flow in pixels per frame."
)


def sample_all(folder: Path) -> str:
    """In this process, which becomes a host: the clips (F, H, W, 3) of ``scenes.json``; what was evaluated, as JSON."""
    import_host()
    from firstframe.bindings.comfy.adapter import apply_adapter
    from firstframe.bindings.comfy.first_frame import hold_first_frame
    from firstframe.tiny import comfy as tiny

    torch.set_num_threads(1)
    model, adapter = tiny.load_tiny_model(), tiny.load_tiny_adapter()
    clip, vae = tiny.load_tiny_clip(), tiny.load_tiny_vae()
    made: dict[str, int] = {}
    for seed, caption in json.loads((folder / "scenes.json").read_text("utf-8")):
        latent = vae.encode(torch.from_numpy(np.load(folder / f"{seed}.npy")))
        prompts = [[[clip.encode_from_tokens(clip.tokenize(text)), {}]] for text in (caption, "")]
        for index, (name, way) in enumerate(CONFIGS.items()):
            held = hold_first_frame(apply_adapter(model, adapter, 1.0, fast=way.fast), latent)
            samples, evaluations = _sample(_cached(held, way), prompts, latent, way.steps, seed)
            made[name] = made.get(name, 0) + evaluations
            np.save(folder / f"{index}_{seed}.npy", vae.decode(samples).cpu().numpy())
    return json.dumps(made)


def _cached(model: Any, way: Way) -> Any:
    """The model with a cache of the host, at its default settings but for the threshold."""
    if way.cache is None:
        return model.clone()
    from comfy_extras import nodes_easycache

    return getattr(nodes_easycache, way.cache).execute(model, way.threshold, 0.15, 0.95, False).args[0]


def _sample(model: Any, prompts: list[Any], latent: torch.Tensor, steps: int, seed: int) -> tuple[torch.Tensor, int]:
    """The sampled latents, and how often the UNet was evaluated for a prompt."""
    import comfy.sample
    import comfy.samplers
    from comfy.patcher_extension import WrappersMP

    from firstframe.sampling.prior import mask_generator, prior_mean
    from firstframe.shapes import fold_frames

    evaluations = 0

    def count(executor: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        nonlocal evaluations
        evaluations += len(x) // FRAMES
        result: torch.Tensor = executor(x, *args, **kwargs)
        return result

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "count", count)
    start = fold_frames(
        prior_mean(latent.unsqueeze(2).expand(-1, -1, FRAMES, -1, -1), FRAMES, 0.5, mask_generator(seed))
    )
    samples = comfy.sample.sample(
        model,
        comfy.sample.prepare_noise(start, seed),
        steps,
        CFG,
        "ddim",
        "ddim_uniform",
        *prompts,
        start,
        disable_pbar=True,
        seed=seed,
    )
    return samples, evaluations


def measure(count: int, out: Path) -> dict[str, Any]:
    """Evaluations and fidelity of each way, means over the scenes."""
    from firstframe.clips.metrics import flow_score, measured_direction, ssim
    from firstframe.clips.video import contact_sheet
    from firstframe.tiny.scenes.target import held_out_targets

    targets = list(held_out_targets(count, 0, FRAMES))
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for target in targets:
            np.save(f"{folder}/{target.seed}.npy", target.frames[:1].numpy())
        scenes = json.dumps([[target.seed, target.scene.caption] for target in targets])
        Path(folder, "scenes.json").write_text(scenes, "utf-8")
        evaluations = json.loads(run_in_host(__file__, "--sample", folder))
        clips = {
            name: [torch.from_numpy(np.load(f"{folder}/{index}_{target.seed}.npy")) for target in targets]
            for index, name in enumerate(CONFIGS)
        }
    for name, made in clips.items():
        both = list(zip(made, targets, strict=True))
        rows[name] = {
            "evaluations": evaluations[name] / evaluations["20 steps"],
            "ssim": float(np.mean([ssim(clip, target.frames) for clip, target in both])),
            "ssim_to_20_steps": float(np.mean([ssim(*pair) for pair in zip(made, clips["20 steps"], strict=True)])),
            "direction": sum(measured_direction(clip).name == target.scene.direction for clip, target in both),
            "flow": float(np.mean([flow_score(clip) for clip in made])),
        }
        contact_sheet(made[0]).save(out / f"fewer_steps_{len(rows)}.png")
    return {"scenes": count, "ways": rows}


def as_markdown(report: dict[str, Any]) -> str:
    lines = [f"{report['scenes']} scenes.", "", "| | evaluations | ssim | ssim to 20 steps | direction | flow |"]
    lines += ["|---" * 6 + "|"]
    for name, row in report["ways"].items():
        numbers = f"{row['evaluations']:.2f} | {row['ssim']:.3f} | {row['ssim_to_20_steps']:.3f}"
        lines += [f"| {name} | {numbers} | {row['direction']}/{report['scenes']} | {row['flow']:.2f} |"]
    return "\n".join(lines)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--sample", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sample:
        with torch.inference_mode():
            print(f"\n{sample_all(Path(options.sample))}")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    report = measure(options.scenes, options.out)
    save(options.out, "fewer_steps", report, as_markdown(report), READING)


if __name__ == "__main__":
    main()
