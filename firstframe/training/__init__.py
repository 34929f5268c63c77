"""Training: rendered scenes, cached latents, and the loops that make the tiny model."""
