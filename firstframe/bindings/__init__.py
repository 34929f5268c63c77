"""Bindings: what connects the core to a library that runs the UNet."""
