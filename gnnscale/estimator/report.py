"""The table and the figures of measured estimates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table

from gnnscale.compare.figure import draw_grid, label_logarithmic, new_figure, write_png
from gnnscale.compare.plots import styles
from gnnscale.estimator.measure import Measurement

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Okabe and Ito's colours: whole graph, node-wise, layer-wise, walks, clusters, histories. Others are grey.
_FAMILIES = {
    "#000000": ("full",),
    "#0072B2": ("neighbor", "labor", "mvs"),
    "#E69F00": ("fastgcn", "ladies", "asgcn"),
    "#009E73": ("pinsage", "ppr", "saint-node", "saint-edge", "saint-walk", "shadow", "shadow-ppr", "ripple"),
    "#D55E00": ("cluster",),
    "#CC79A7": ("vrgcn", "gas", "lmc", "graphfm"),
}
_MARKERS = "os^DvPX*<>"

#: Below this share, what is left is float32 rounding, and the sampler counts as exact.
EXACT = 1e-4


def to_frame(measured: dict[str, list[Measurement]]) -> pd.DataFrame:
    """One row a sampler, age and quantity: the fields of :class:`Measurement` and the column ``sampler``."""
    rows = [{"sampler": sampler, **asdict(row)} for sampler, rows in measured.items() for row in rows]
    return pd.DataFrame(rows).astype({"staleness": "Int64"})


def table(frame: pd.DataFrame, title: str) -> Table:
    """Lay the last layer and the gradients out for reading: shares of the exact value in percent."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    made.add_column("sampler")
    for name in ("stale\nsteps", "nodes\n/ batch", "edges\n/ batch", "ms\n/ step", "output\nbias", "\nstd", "\nerror",
                 "gradient\nbias", "\nstd", "\nerror", "of epoch\nbias", "\nerror"):  # fmt: skip
        made.add_column(name, justify="right", no_wrap=True)
    for sampler, age, output, gradient, epoch in _settings(frame):
        shares = [100 * part[name] for part in (output, gradient) for name in ("bias", "std", "error")]
        shares += [100 * epoch["bias"], 100 * epoch["error"]]
        made.add_row(
            escape(sampler),
            "–" if age is None else str(age),
            f"{output['nodes']:,.0f}",
            f"{output['edges']:,.0f}",
            f"{output['step_ms']:.1f}",
            *("–" if pd.isna(share) else f"{share:.1f}" for share in shares),
        )
    return made


def _settings(frame: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    """For each sampler and age: these two, and the rows of the last layer, of a step's gradient and an epoch's."""
    groups: Any = frame.groupby(["sampler", "staleness"], sort=False, dropna=False)
    for (sampler, age), group in groups:
        *_, output, gradient, epoch = group.to_dict("records")
        yield sampler, None if pd.isna(age) else int(age), output, gradient, epoch


def draw_cost(frame: pd.DataFrame, path: Path, title: str) -> None:
    """Draw error against cost, one point a sampler and age, and write it as PNG.

    Columns: outputs of the last layer, gradient of a step, mean gradient of an epoch. Upper row against the edges that
    a batch adds up, lower row against milliseconds a step. Points of one sampler at several ages of its histories are
    joined; exact ones stand on the lower edge.
    """
    figure = new_figure(13.0, 7.0)
    axes = figure.subplots(2, 3, sharey="col", sharex="row")
    style = _styles(frame)
    costs = {"edges": "edges added up a batch", "step_ms": "milliseconds a step"}
    quantities = {
        _last_layer(frame): "last layer's outputs", "gradient": "gradient of a step",
        "epoch gradient": "mean gradient of an epoch",
    }  # fmt: skip
    for column, (quantity, name) in enumerate(quantities.items()):
        part = frame[frame["quantity"] == quantity]
        floor = _floor(part["error"])
        for row, (cost, label) in enumerate(costs.items()):
            panel = axes[row][column]
            for sampler, group in part.groupby("sampler", sort=False):
                error = group["error"].where(group["error"] > EXACT, floor)
                # What a batch costs does not depend on the age of histories.
                panel.plot([group[cost].median()] * len(group), error, label=sampler, **_point(style[str(sampler)]))
            _log(panel)
            if (part["error"] <= EXACT).any():
                panel.axhline(floor, color="#AAAAAA", linewidth=0.8, zorder=0)
                panel.annotate("exact", (0, floor), xycoords=("axes fraction", "data"), xytext=(4, 3),
                               textcoords="offset points", fontsize=8, color="#666666")  # fmt: skip
            panel.set_xlabel(label)
        axes[0][column].set_title(name, fontsize=10)
    for row in (0, 1):
        axes[row][0].set_ylabel("relative error")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=11)
    write_png(figure, path)


def draw_staleness(frame: pd.DataFrame, path: Path, title: str) -> bool:
    """Draw error against the age of histories and write it as PNG; False where no sampler keeps any."""
    kept = frame[frame["staleness"].notna()]
    if kept.empty:
        return False
    figure = new_figure(9.4, 3.9)
    axes = figure.subplots(1, 2)
    style = styles(list(dict.fromkeys(kept["sampler"])))
    for panel, quantity in zip(axes, (_last_layer(frame), "epoch gradient"), strict=True):
        for sampler, group in kept[kept["quantity"] == quantity].groupby("sampler", sort=False):
            name = str(sampler)
            panel.plot(group["staleness"], group["error"], label=name, markersize=5, **style[name])
        panel.set_xlabel("age of the histories in optimiser steps")
        panel.set_ylim(bottom=0)
        draw_grid(panel)
    axes[0].set_ylabel("relative error of the last layer's outputs")
    axes[1].set_ylabel("relative error of an epoch's mean gradient")
    axes[0].legend(fontsize=8)
    figure.suptitle(title, fontsize=11)
    write_png(figure, path)
    return True


def _styles(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """A colour for each family of samplers, and in a family a marker for each sampler and setting."""
    colours = {name: colour for colour, names in _FAMILIES.items() for name in names}
    used: Counter[str] = Counter()
    made = {}
    for sampler in dict.fromkeys(frame["sampler"]):
        colour = colours.get(sampler.partition("(")[0], "#666666")
        made[sampler] = {"color": colour, "marker": _MARKERS[used[colour] % len(_MARKERS)]}
        used[colour] += 1
    return made


def _last_layer(frame: pd.DataFrame) -> str:
    layers = (name for name in frame["quantity"] if name.startswith("layer"))
    return max(layers, key=lambda name: int(name.split()[1]))


def _floor(errors: pd.Series) -> float:
    """Where exact samplers are drawn: well below the smallest error there is."""
    inexact = errors[errors > EXACT]
    return float(inexact.min()) / 3 if len(inexact) else EXACT


def _point(style: dict[str, Any]) -> dict[str, Any]:
    return {**style, "linestyle": ":", "linewidth": 1.0, "markersize": 7, "markeredgecolor": "white",
            "markeredgewidth": 0.6}  # fmt: skip


def _log(axes: Axes) -> None:
    from matplotlib.ticker import EngFormatter

    axes.set_yscale("log")
    axes.set_xscale("log")
    label_logarithmic(axes.xaxis, EngFormatter(sep=""))
    label_logarithmic(axes.yaxis)
    draw_grid(axes)
