"""Many images, prompts and seeds through one or several ComfyUI servers: see docs/queue.md."""
