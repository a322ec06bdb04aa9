"""What all figures have in common: how they are made, their grid and logarithmic axes, and how they are written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gnnscale.compare.results import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter


def new_figure(width: float, height: float) -> Figure:
    """A figure of this size in inches that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_grid(axes: Axes) -> None:
    """A pale grid below everything else."""
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def label_logarithmic(axis: Axis, formatter: Formatter | str = "{x:g}") -> None:
    """Numbers at 1, 2 and 5 of each decade of a logarithmic axis."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(formatter)
    axis.set_minor_formatter(NullFormatter())


def write_png(figure: Figure, path: Path) -> None:
    """Write a figure; the file appears whole or not at all."""
    write_whole(path, lambda temporary: figure.savefig(temporary, dpi=200, format="png"))
