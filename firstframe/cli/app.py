"""The command ``firstframe``."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from ..errors import FirstFrameError, printable
from .animate import animate
from .batch import batch
from .evaluate import evaluate
from .measure import app as measure_app
from .queue import queue
from .train import app as train_app
from .weights import app as weights_app


class OneLineErrors(TyperGroup):
    """What FirstFrame refuses is told in one line, with exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except FirstFrameError as error:
            typer.echo(f"firstframe: {printable(str(error))}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=OneLineErrors,
    help="Animate an image as your prompt says, with the image as the first frame.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(measure_app, name="measure")
app.add_typer(train_app, name="train")
app.add_typer(weights_app, name="weights")
app.command()(animate)
app.command()(batch)
app.command()(evaluate)
app.command()(queue)
