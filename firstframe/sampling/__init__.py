"""The papers' equations: where sampling starts, what guides it, how strongly, in which windows. No networks."""
