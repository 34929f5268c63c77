"""Training on any clips: the loop, the losses and the batches. Nothing in here knows a model's words or scenes."""
