"""The model that ships with the pack: Stable Diffusion 1.5's architecture scaled down, trained on rendered scenes."""
