"""Where the tiny model's files are."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "weights"
AUTOENCODER_FILE, PLAN_FILE, BEGUN_WITH = "autoencoder.safetensors", "plan.json", "begun_with"
"""In the folder of a training run."""
PARTS = ("autoencoder", "text_encoder", "unet", "motion_module", "i2v_adapter", "retention", "look_lora")


def weights_file(part: str, folder: Path = FOLDER) -> Path:
    """The safetensors file of one of ``PARTS``; those that ship, unless another folder is given."""
    return folder / f"{part}.safetensors"
