"""The tiny model's shape: Stable Diffusion 1.5's architecture scaled down."""

from __future__ import annotations

from typing import Any

LATENT_SCALE = 0.18215
SIZE = 128
NUM_FRAMES = 16
GUIDANCE = 1.5
NOISE_SCHEDULE: dict[str, Any] = {
    "prediction_type": "v_prediction",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "linear",
}

AUTOENCODER: dict[str, Any] = {
    "encoder_block_out_channels": (64, 64, 64, 64),
    "decoder_block_out_channels": (64, 64, 64, 64),
    "latent_channels": 4,
    "scaling_factor": 1.0,
}

UNET: dict[str, Any] = {
    "sample_size": SIZE // 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (64, 64, 64),
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3,
    "up_block_types": ("CrossAttnUpBlock2D",) * 3,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    # diffusers reads this as the number of heads
    "attention_head_dim": 4,
    "cross_attention_dim": 128,
}

TEXT_ENCODER: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "projection_dim": 128,
}

MOTION: dict[str, Any] = {
    "block_out_channels": UNET["block_out_channels"],
    "layers_per_block": UNET["layers_per_block"],
    "mid": True,
    "max_frames": NUM_FRAMES,
    "num_heads": UNET["attention_head_dim"],
}

STEM_CHANNELS = (16, 32, 64, 64)
