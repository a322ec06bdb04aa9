"""What all figures have in common: sizes and fonts of a paper, panels, the legend, axes, and how they are written."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnnscale.compare.results import write_whole

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter

#: Widths in inches of a column and of the text of a paper in two columns.
COLUMN, FULL = 3.35, 7.0

#: Values that differ by more than this factor are drawn on a logarithmic axis.
LOG_FROM = 8.0

_FONT = 7.0
_PAPER: dict[Any, Any] = {
    "font.size": _FONT, "axes.titlesize": 7.5, "axes.labelsize": 7.5, "xtick.labelsize": _FONT,
    "ytick.labelsize": _FONT, "legend.fontsize": _FONT, "axes.linewidth": 0.6, "xtick.major.width": 0.6,
    "ytick.major.width": 0.6, "xtick.major.size": 2.5, "ytick.major.size": 2.5, "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5, "lines.linewidth": 1.2, "lines.markersize": 3.6, "hatch.linewidth": 0.5,
    # Publishers refuse fonts of type 3, and the same figure is the same file.
    "pdf.fonttype": 42, "svg.hashsalt": "gnnscale",
}  # fmt: skip


@contextmanager
def paper() -> Iterator[None]:
    """Fonts and lines for the widths of a paper, while a figure is made and written."""
    import matplotlib

    with matplotlib.rc_context(_PAPER):
        yield


def new_figure(width: float, height: float) -> Figure:
    """A figure of this size in inches that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


#: With more curves than this, panels are as large as they can be.
CROWDED = 10


def new_panels(count: int, curves: int, height: float = 2.1, columns: int = 3) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels with so many curves each: one as wide as a column, several as wide as the text."""
    crowded = curves > CROWDED
    if crowded:
        height, columns = 1.3 * height, 2
    # Four stand better in two rows of two than in rows of three and one.
    across = 2 if count == 4 else min(count, columns)
    rows = -(-count // across)
    figure = new_figure(FULL if crowded or count > 1 else COLUMN, height * rows)
    axes = figure.subplots(rows, across, squeeze=False).ravel()
    for panel in axes[count:]:
        panel.set_axis_off()
    return figure, list(axes[:count])


def new_rows(names: Sequence[int], line: float = 0.16) -> tuple[Figure, list[Axes]]:
    """A figure of panels with so many lines each, a name and a bar in every line; two panels stand side by side."""
    across = min(len(names), 2)
    heights = [0.8 + line * max(names[i : i + across]) for i in range(0, len(names), across)]
    figure = new_figure(COLUMN if across == 1 else FULL, sum(heights))
    axes = figure.subplots(len(heights), across, squeeze=False, height_ratios=heights).ravel()
    for panel in axes[len(names) :]:
        panel.set_axis_off()
    return figure, list(axes[: len(names)])


def label_outer(panels: Sequence[Axes], x: str, y: Sequence[str]) -> None:
    """Label the lowest panel of each column, and the first of each row and those whose quantity is another."""
    places = [panel.get_subplotspec() for panel in panels]
    lowest = {place.colspan.start: place.rowspan.start for place in places if place is not None}
    for i, (panel, place) in enumerate(zip(panels, places, strict=True)):
        if place is None or place.rowspan.start == lowest[place.colspan.start]:
            panel.set_xlabel(x)
        if place is None or place.is_first_col() or y[i] != y[i - 1]:
            panel.set_ylabel(y[i])


def add_legend(
    figure: Figure, handles: Sequence[Artist], labels: Sequence[str], note: str, handle_length: float = 3.4
) -> None:
    """Put a legend below all panels, and a note below its entries; the figure grows by their height."""
    width, height = figure.get_size_inches()
    line = 1.42 * _FONT / 72
    labels = [shorten(label, int(72 * width / _FONT / 0.55 - handle_length - 3)) for label in labels]
    entry = (handle_length + 2.4 + 0.56 * max(map(len, labels), default=0)) * _FONT
    across = max(1, min(len(labels), int(72 * width / entry)))
    notes = textwrap.wrap(note, int(72 * width / (0.51 * _FONT)))
    below = (len(notes) * 1.33 * (_FONT - 0.5) + 5) / 72 * bool(notes)
    added = below + (-(-len(labels) // across) + 0.35) * line * bool(labels)
    total = height + added
    figure.set_size_inches(width, total)
    # The panels are laid out above; nothing else would keep legend and note from each other at any size.
    figure.get_layout_engine().set(rect=(0, added / total, 1, height / total))  # type: ignore[union-attr, call-arg]
    if labels:
        figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, added / total), ncols=across,
                      frameon=False, handlelength=handle_length, columnspacing=1.2, labelspacing=0.35, borderpad=0.2,
                      borderaxespad=0.2)  # fmt: skip
    figure.text(0.04 / width, 0.04 / total, "\n".join(notes), fontsize=_FONT - 0.5, color="#444444", va="bottom",
                linespacing=1.3)  # fmt: skip


def marked(style: dict[str, Any], size: float = 3.6, line: bool = True) -> dict[str, Any]:
    """How matplotlib draws a style: all markers as large as a circle of this size, with a white edge."""
    size *= {"*": 1.5, "P": 1.15, "X": 1.15, "D": 0.9, "s": 0.9}.get(style["marker"], 1.0)
    made = {**style, "markersize": size, "markeredgecolor": "white", "markeredgewidth": 0.3}
    return made if line else {**made, "linestyle": "none"}


def shorten(text: str, length: int) -> str:
    """Leave out the middle of a text that is too long.

    Examples
    --------
    >>> shorten("neighbor(fanouts=[10, 10])", 16)
    'neighbor…, 10])'
    """
    length = max(length, 8)
    return text if len(text) <= length else f"{text[: length // 2]}…{text[-(length - 3) // 2 + 1 :]}"


def set_title(axes: Axes, first: str, second: str = "") -> None:
    """A title of one or two lines, such that it stays within a narrow panel."""
    axes.set_title("\n".join(shorten(line, 40) for line in (first, second) if line))


def say_in(axes: Axes, text: str) -> None:
    """A sentence in the middle of a panel that has nothing else."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="#444444")
    axes.set_xticks([])
    axes.set_yticks([])


def draw_grid(axes: Axes, axis: Any = "both") -> None:
    """A pale grid below everything else."""
    axes.grid(color="#DDDDDD", linewidth=0.6, axis=axis)
    axes.set_axisbelow(True)


def scale(axis: Axis, values: Sequence[float]) -> None:
    """Make an axis logarithmic where positive values are far apart."""
    known = [value for value in values if value > 0 and math.isfinite(value)]
    if known and max(known) > LOG_FROM * min(known):
        getattr(axis.axes, f"set_{axis.axis_name}scale")("log")  # type: ignore[attr-defined]
        label_logarithmic(axis, wide=max(known) > 300 * min(known))


def label_logarithmic(axis: Axis, formatter: Formatter | str = "{x:g}", wide: bool = False) -> None:
    """Numbers at 1, 2 and 5 of each decade of a logarithmic axis; where it is wide, at each decade."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
    axis.set_major_formatter(formatter)
    axis.set_minor_formatter(NullFormatter())


def write_figure(figure: Figure, path: Path, dpi: int = 300) -> None:
    """Write a figure in the format that the file's ending names; the file appears whole or not at all."""
    form = path.suffix[1:]
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
    write_whole(path, lambda temporary: figure.savefig(temporary, dpi=dpi, format=form, metadata=metadata))


def write_png(figure: Figure, path: Path) -> None:
    """Write a large figure as PNG; the file appears whole or not at all."""
    write_figure(figure, path, dpi=200)
