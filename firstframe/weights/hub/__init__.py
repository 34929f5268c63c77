"""Published weights: what there is, getting it, checking it. Nothing is fetched unless the user asks."""
