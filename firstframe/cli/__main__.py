"""``python -m firstframe.cli``."""

from .app import app

app()
