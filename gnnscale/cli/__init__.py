"""The command line. Commands import what they need, so that ``gnnscale --help`` answers at once."""

from __future__ import annotations

from typing import Annotated

import typer

from gnnscale.cli.about import doctor, list_names
from gnnscale.cli.check import check
from gnnscale.cli.compare import compare
from gnnscale.cli.draw import merge, plot
from gnnscale.cli.estimator import estimator
from gnnscale.cli.tune import tune

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
    help="Scale graph neural network training, and measure which way of scaling suits your graph.\n\n"
    "Begin with: [bold]gnnscale compare --dataset synthetic --samplers full,gas --epochs 20[/bold]",
)
for _command in (compare, tune, plot, merge, estimator, check):
    app.command()(_command)
app.command("list")(list_names)
app.command()(doctor)


def main() -> None:
    """Run the command ``gnnscale``."""
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        from gnnscale._version import __version__

        typer.echo(f"gnnscale {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass
