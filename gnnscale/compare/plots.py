"""Curves of the test metric against training time or epoch: first the numbers, then the drawing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from gnnscale.compare.figure import draw_grid, label_logarithmic, new_figure, write_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRIC_NAMES = {"accuracy": "accuracy", "roc_auc": "ROC AUC", "micro_f1": "micro-F1"}

#: Total times that differ by more than this factor are drawn on a logarithmic axis.
LOG_FROM = 8.0

# Okabe and Ito's palette tells colours apart for colour-blind readers; in grey the line style and the
# marker do. A sampler keeps its style in every figure, so the order of this list is fixed.
_FIRST: list[dict[str, Any]] = [
    {"color": "#000000", "linestyle": "-", "marker": "o"},
    {"color": "#0072B2", "linestyle": "--", "marker": "s"},
    {"color": "#E69F00", "linestyle": "-.", "marker": "^"},
    {"color": "#009E73", "linestyle": (0, (1, 1)), "marker": "D"},
    {"color": "#D55E00", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
    {"color": "#56B4E9", "linestyle": (0, (7, 2)), "marker": "P"},
    {"color": "#CC79A7", "linestyle": (0, (3, 1, 1, 1)), "marker": "X"},
    {"color": "#666666", "linestyle": (0, (1, 3)), "marker": "*"},
]

#: Past the first eight, colours but black come again with other markers and line styles.
_STYLES = _FIRST + [
    {
        "color": style["color"],
        "linestyle": _FIRST[(i + shift) % len(_FIRST)]["linestyle"],
        "marker": _FIRST[(i + 3 * shift) % len(_FIRST)]["marker"],
    }
    for shift in range(1, 4)
    for i, style in enumerate(_FIRST)
    if i
]
_OWN_STYLE = {"full": 0, "neighbor": 1, "cluster": 2, "gas": 3}


@dataclass(frozen=True)
class Curve:
    """The curve of one sampler: ``table`` has the columns x, median, low and high, one row an epoch."""

    table: pd.DataFrame
    finished: int
    runs: int


def curves(results: pd.DataFrame, x: Literal["train_seconds", "epoch"] = "train_seconds") -> dict[str, Curve]:
    """Join the runs of each sampler by epoch: median time, median, lowest and highest test metric.

    Parameters
    ----------
    results : pandas.DataFrame
        Rows of one dataset and one model, as in results.parquet.
    x : {"train_seconds", "epoch"}
        What the curve is drawn against.

    Returns
    -------
    dict of str to Curve
        By sampler, in order of appearance. Only runs whose status is ok count.

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
        epochs = finished.assign(x=finished[x]).groupby("epoch")
        table = epochs.agg(x=("x", "median"), median=("test", "median"), low=("test", "min"), high=("test", "max"))
        made[str(sampler)] = Curve(table.reset_index(drop=True), finished["seed"].nunique(), group["seed"].nunique())
    return made


def styles(samplers: list[str]) -> dict[str, dict[str, Any]]:
    """Give each sampler its colour, line style and marker; those without a fixed one take what is left."""
    chosen = {name: _OWN_STYLE[name] for name in samplers if name in _OWN_STYLE}
    for name in samplers:
        base = _OWN_STYLE.get(name.partition("(")[0])
        if name not in chosen and base is not None and base not in chosen.values():
            chosen[name] = base
    reserved = set(chosen.values()) | set(_OWN_STYLE.values())
    free = [i for i in range(len(_STYLES)) if i not in reserved]
    free += [i for i in range(len(_STYLES)) if i in reserved and i not in chosen.values()]
    others = sorted(name for name in samplers if name not in chosen)
    for i, name in enumerate(others):
        chosen[name] = free[i] if i < len(free) else i % len(_STYLES)
    return {name: _STYLES[chosen[name]] for name in samplers}


def draw_curves(results: pd.DataFrame, path: Path, x: Literal["train_seconds", "epoch"] = "train_seconds") -> None:
    """Draw one panel for each dataset and model and write it as PNG.

    Parameters
    ----------
    results : pandas.DataFrame
        Rows as in results.parquet.
    path : Path
        The PNG file; it appears whole or not at all.
    x : {"train_seconds", "epoch"}
        What the curves are drawn against.
    """
    panels = list(results.groupby(["dataset", "model"], sort=False))
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure = new_figure(6.4 * columns, 4.4 * rows + 0.3)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    style = styles(list(dict.fromkeys(results["sampler"])))
    for panel, (_, group) in zip(axes, panels, strict=False):
        _draw_panel(panel, group, x, style)
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    figure.supxlabel("line: median over seeds; band: lowest to highest seed", fontsize=8, color="#444444")
    write_png(figure, path)


def _draw_panel(axes: Axes, results: pd.DataFrame, x: Literal["train_seconds", "epoch"], style: dict[str, Any]) -> None:
    first = results.iloc[0]
    drawn = curves(results, x)
    for i, (sampler, curve) in enumerate(drawn.items()):
        table = curve.table.dropna()
        count = f"{curve.finished} seed{'s' * (curve.finished != 1)}"
        if curve.finished < curve.runs:
            count = f"{curve.finished} of {curve.runs} seeds finished"
        label = f"{sampler} ({count})"
        # Markers of different curves stand at different epochs, so that none hides another.
        every = max(len(table) // 8, 1)
        axes.plot(table["x"], 100 * table["median"], label=label, linewidth=1.6, markersize=4.5,
                  markevery=(min(i * every // max(len(drawn), 1), max(len(table) - 1, 0)), every),
                  **style[sampler])  # fmt: skip
        axes.fill_between(table["x"], 100 * table["low"], 100 * table["high"],
                          color=style[sampler]["color"], alpha=0.15, linewidth=0)  # fmt: skip
    totals = [curve.table["x"].max() for curve in drawn.values() if len(curve.table)]
    if x == "train_seconds" and totals and max(totals) > LOG_FROM * min(totals) > 0:
        axes.set_xscale("log")
        label_logarithmic(axes.xaxis)
    time = "training time in seconds (without evaluation and preparation)"
    axes.set_xlabel(time if x == "train_seconds" else "epoch")
    axes.set_ylabel(f"test {METRIC_NAMES.get(first['metric'], first['metric'])} (%)")
    axes.set_title(
        f"{first['dataset']}, {first['model']}\n{int(first['num_nodes']):,} nodes, {int(first['num_edges']):,} edges",
        fontsize=11,
    )
    draw_grid(axes)
    if drawn:
        axes.legend(fontsize=8, handlelength=4, loc="lower right", framealpha=0.85)
