"""``firstframe train …``."""

from __future__ import annotations

import typer

from .train_tiny import app as tiny_app

app = typer.Typer(help="Train the tiny model.", no_args_is_help=True)
app.add_typer(tiny_app, name="tiny")
