"""Curves of the test metric against training time or epoch: first the numbers, then the drawing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from gnnscale.compare.figure import (
    CROWDED,
    add_legend,
    draw_grid,
    label_outer,
    marked,
    new_panels,
    say_in,
    scale,
    set_title,
)
from gnnscale.compare.plots import METRIC_NAMES, styles
from gnnscale.compare.statistics import places
from gnnscale.compare.summary import RUN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Against = Literal["train_seconds", "epoch"]


@dataclass(frozen=True)
class Curve:
    """The curve of one sampler: ``table`` has the columns x, median, low and high, one row an epoch."""

    table: pd.DataFrame
    finished: int
    runs: int


def curves(results: pd.DataFrame, x: Against = "train_seconds", count_preparation: bool = False) -> dict[str, Curve]:
    """Join the runs of each sampler by epoch: median time, median, lowest and highest test metric.

    Parameters
    ----------
    results : pandas.DataFrame
        Rows of one dataset and one model, as in results.parquet.
    x : {"train_seconds", "epoch"}
        What the curve is drawn against.
    count_preparation : bool
        Whether time begins with preparation.

    Returns
    -------
    dict of str to Curve
        By sampler, in order of appearance. Only runs whose status is ok count, and a curve ends with the last epoch
        that all of them reached: beyond it, the median would be over others.

    Examples
    --------
    >>> results = pd.DataFrame({"sampler": "full", "seed": [0, 1, 2], "epoch": 1, "status": "ok",
    ...                         "train_seconds": [1.0, 2.0, 4.0], "test": [0.5, 0.9, 0.6]})
    >>> curves(results)["full"].table.values.tolist()
    [[2.0, 0.6, 0.5, 0.9]]
    """
    made = {}
    for sampler, group in results.groupby("sampler", sort=False):
        finished = group[group["status"] == "ok"]
        values = finished[x]
        if count_preparation and x == "train_seconds":
            values = values + finished["prepare_seconds"].fillna(0)
        seeds = finished["seed"].nunique()
        epochs = finished.assign(x=values).groupby("epoch")
        table = epochs.agg(x=("x", "median"), median=("test", "median"), low=("test", "min"), high=("test", "max"))
        table = table[(epochs.size() == seeds).to_numpy(dtype=bool)]
        made[str(sampler)] = Curve(table.reset_index(drop=True), seeds, group["seed"].nunique())
    return made


def accuracy_vs_time(results: pd.DataFrame, *, count_preparation: bool = False, **_: Any) -> Figure:
    """One panel a dataset and model: the test metric against training time."""
    parts = "without evaluation, with preparation" if count_preparation else "without evaluation and preparation"
    note = f"time {parts}{note_on_machines(results)}. "
    return _draw(results, "train_seconds", "training time (s)", note, count_preparation)


def accuracy_vs_epoch(results: pd.DataFrame, **_: Any) -> Figure:
    """One panel a dataset and model: the test metric against epochs."""
    return _draw(results, "epoch", "epoch", "", False)


def _draw(results: pd.DataFrame, x: Against, label: str, note: str, count_preparation: bool) -> Figure:
    from matplotlib.lines import Line2D

    groups = list(results.groupby(["dataset", "model"], sort=False))
    style = styles(list(dict.fromkeys(results["sampler"])))
    figure, panels = new_panels(max(len(groups), 1), len(style))
    if not groups:
        say_in(panels[0], "there are no results")
    drawn: dict[str, None] = {}
    for panel, (_, group) in zip(panels, groups, strict=False):
        drawn.update(dict.fromkeys(_draw_panel(panel, curves(group, x, count_preparation), style, x)))
        title_panel(panel, group)
    if groups:
        label_outer(panels, label, [metric_label(group) for _, group in groups])
    handles = [Line2D([], [], **marked(look)) for name, look in style.items() if name in drawn]
    if results["seed"].nunique() > 1:
        band = "line: median over seeds, up to the epoch that all reached; band: lowest to highest seed"
        note = f"{band}; {note}" if note else f"{band}. "
    add_legend(figure, handles, [name for name in style if name in drawn], note + note_on_seeds(results))
    return figure


def _draw_panel(axes: Axes, drawn: dict[str, Curve], style: dict[str, Any], x: Against) -> Iterable[str]:
    """Draw what has finished, and tell its samplers."""
    from matplotlib.ticker import MaxNLocator

    shown = {sampler: curve.table.dropna() for sampler, curve in drawn.items()}
    shown = {sampler: table for sampler, table in shown.items() if len(table)}
    if not shown:
        say_in(axes, "no run has finished")
        return ()
    for i, (sampler, table) in enumerate(shown.items()):
        # Markers of different curves stand at different epochs, so that none hides another.
        every = max(len(table) // 6, 1)
        axes.plot(table["x"], 100 * table["median"], label=sampler, **marked(style[sampler]),
                  markevery=(min(i * every // len(shown), len(table) - 1), every))  # fmt: skip
        # Many bands lie on each other: the more there are, the paler.
        axes.fill_between(table["x"], 100 * table["low"], 100 * table["high"], color=style[sampler]["color"],
                          alpha=0.18 if len(shown) <= CROWDED else 0.04, linewidth=0)  # fmt: skip
    if x == "train_seconds":
        scale(axes.xaxis, [float(table["x"].max()) for table in shown.values()])
    else:
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    draw_grid(axes)
    return shown


def title_panel(axes: Axes, group: pd.DataFrame) -> None:
    """Name the dataset with its size, and the model."""
    first = group.iloc[0]
    size = f"{first['num_nodes']:,.0f} nodes, {first['num_edges']:,.0f} edges"
    set_title(axes, f"{first['dataset']}, {first['model']}", size)


def metric_label(group: pd.DataFrame, of: str = "test") -> str:
    """The metric of a dataset, for an axis."""
    metric = group["metric"].iloc[0]
    return f"{of} {METRIC_NAMES.get(metric, metric)} (%)"


def note_on_seeds(results: pd.DataFrame, most: int = 6) -> str:
    """How many seeds there are, and which samplers did not finish all of theirs."""
    runs = results.drop_duplicates(RUN)
    finished = (runs["status"] == "ok").groupby([runs[name] for name in RUN[:3]], sort=False).agg(["sum", "size"])
    sizes = sorted(set(finished["size"]))
    if not sizes:
        return ""
    text = f"{sizes[0]} seed{'s' * (sizes[0] != 1)}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]} seeds"
    short = finished[finished["sum"] < finished["size"]]
    if short.empty:
        return f"{text}."
    several = len(finished.groupby(["dataset", "model"])) > 1
    named = [f"{sampler} {done} of {size}" + f" on {dataset}, {model}" * several
             for (dataset, model, sampler), done, size in short.itertuples(name=None)]  # fmt: skip
    more = f"; and {len(named) - most} more" if len(named) > most else ""
    return f"{text}; not all finished: {'; '.join(named[:most])}{more}."


def note_on_machines(results: pd.DataFrame) -> str:
    """A warning where times of several machines stand in one figure."""
    count = places(results.drop_duplicates(RUN)).nunique()
    return f"; times of {count} machines, which cannot be compared" if count > 1 else ""
