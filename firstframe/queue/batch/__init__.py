"""Many clips without ComfyUI: jobs from a file, on one process, a Ray cluster, or the shares of a scheduler."""
