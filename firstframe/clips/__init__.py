"""Images and clips as pixels: preparing, colour, joining, files, metrics. No latents, no networks."""
