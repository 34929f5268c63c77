"""Many images, prompts and seeds: through ComfyUI servers, or in `batch` without any. See docs/queue.md."""
