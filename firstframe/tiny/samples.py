"""What a model makes of a few held-out scenes while it is trained, as one image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, DDIMScheduler
from torch import Tensor

from ..bindings.diffusers import Parts, Prompts, SamplingSettings, sample
from ..clips.reference import Reference
from ..clips.video import contact_sheet
from ..training.start import new_adapter
from .config import GUIDANCE, NOISE_SCHEDULE, NUM_FRAMES
from .denoiser import Denoiser, new_base, new_motion
from .scenes.target import Target, held_out_targets
from .text import tokenize

SCENES, SHOWN = 4, (0, 1, 5, 10, 15)
SETTINGS = SamplingSettings(NUM_FRAMES, steps=8, cfg=GUIDANCE, scale_blur=True)


@torch.inference_mode()
def draw_samples(weights: Mapping[str, Tensor], autoencoder: AutoencoderTiny, file: Path) -> None:
    """Animate SCENES held-out scenes from their first frame, and draw frames SHOWN of each below the true ones.

    Args:
        weights: of a :class:`.Denoiser` with a motion module; an adapter is used where there is one.
        autoencoder: on the device that samples.
        file: of the image.
    """
    model = _copy(weights).to(autoencoder.device)
    rows = []
    for target in held_out_targets(SCENES, 0, SETTINGS.num_frames):
        rows += [target.frames[list(SHOWN)], _animated(model, autoencoder, target)[list(SHOWN)]]
    file.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(torch.cat(rows), len(SHOWN)).save(file)


def _copy(weights: Mapping[str, Tensor]) -> Denoiser:
    """A model of its own: the one that is trained has hooks on its UNet."""
    model = new_base(motion=new_motion())
    if any(name.startswith("parts.adapter.") for name in weights):
        model.parts["adapter"] = new_adapter(model.unet)
    model.load_state_dict({name: weights[name] for name in model.state_dict()})
    return model.eval()


def _animated(model: Denoiser, autoencoder: AutoencoderTiny, target: Target) -> Tensor:
    """Frames (F, H, W, 3) on the CPU."""
    device = autoencoder.device
    pixels = target.image.to(device)
    text, no_text = model.encode_text(tokenize([target.scene.caption, ""]).to(device)).chunk(2)
    latents = sample(
        model.unet,
        Parts(model.motion, model.adapter if "adapter" in model.parts else None),
        Prompts(text, no_text),
        SETTINGS,
        Reference(pixels, autoencoder.encode(pixels * 2 - 1).latents),
        scheduler=DDIMScheduler(**NOISE_SCHEDULE, steps_offset=1, timestep_spacing="leading", clip_sample=False),
        latent_scale=1.0,
    )
    decoded = autoencoder.decode(latents[0].movedim(1, 0)).sample
    return (decoded / 2 + 0.5).clamp(0, 1).movedim(1, -1).cpu()
