"""How long each sampler takes to a validation metric that was set as the target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gnnscale.compare.draw_curves import metric_label, note_on_machines, note_on_seeds
from gnnscale.compare.figure import add_legend, draw_grid, label_outer, marked, new_rows, scale, set_title, shorten
from gnnscale.compare.plots import styles
from gnnscale.compare.summary import times_to_target

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def time_to_target(
    results: pd.DataFrame, *, target: float | None = None, count_preparation: bool = False, **_: Any
) -> Figure | None:
    """One panel a dataset and model, one line a sampler: a point a seed, and the median, fastest first."""
    times = times_to_target(results, target, count_preparation)
    if times.empty:
        return None
    groups = list(times.groupby(["dataset", "model"], sort=False))
    figure, panels = new_rows([group["sampler"].nunique() for _, group in groups])
    style = styles(list(dict.fromkeys(results["sampler"])))
    for panel, ((dataset, model), group) in zip(panels, groups, strict=True):
        same = results[(results["dataset"] == dataset) & (results["model"] == model)]
        _draw_times(panel, group, style)
        goals = sorted(group["target"].unique())
        goal = " or ".join(f"{100 * value:g}" for value in goals) if len(goals) < 4 else "its target"
        metric = metric_label(same, "validation").removesuffix(" (%)")
        set_title(panel, f"{dataset}, {model}", f"{metric} {goal} %")
    label_outer(panels, "training seconds" + ", preparation included" * count_preparation, [""] * len(panels))
    note = "points: seeds; line: median, seeds that never reached the target counted as longer than all others"
    add_legend(figure, [], [], f"{note}{note_on_machines(results)}. {note_on_seeds(results)}")
    return figure


def _draw_times(axes: Axes, group: pd.DataFrame, style: dict[str, Any]) -> None:
    seconds = {str(name): runs["seconds"].to_numpy(float) for name, runs in group.groupby("sampler", sort=False)}
    medians = {name: float(np.median(np.nan_to_num(times, nan=np.inf))) for name, times in seconds.items()}
    order = sorted(seconds, key=lambda name: (medians[name], np.isnan(seconds[name]).mean()))
    known = group["seconds"].dropna().tolist()
    if known:
        scale(axes.xaxis, known)
    else:
        axes.set_xticks([])
    for place, name in enumerate(order):
        times = seconds[name]
        reached = int(np.isfinite(times).sum())
        axes.plot(times, [place] * len(times), alpha=0.8, **marked(style[name], 4.2, line=False))
        if np.isfinite(medians[name]):
            axes.plot([medians[name]] * 2, [place - 0.36, place + 0.36], color="black", linewidth=1.3)
        if reached < len(times):
            text = "never" if not reached else f"{reached} of {len(times)}"
            axes.annotate(text, (1, place), xycoords=("axes fraction", "data"), xytext=(-3, 0), ha="right",
                          textcoords="offset points", va="center", fontsize=6.5, color="#444444",
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
    axes.set_yticks(range(len(order)), [shorten(name, 26) for name in order])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(order) - 0.4, -0.6)
    linear = axes.get_xscale() == "linear"
    if linear:
        axes.set_xlim(left=0)
    if known and len(known) < len(group):  # room for the words, which would hide the last point
        low, high = axes.get_xlim()
        axes.set_xlim(right=high * (1.25 if linear else (high / low) ** 0.25))
    draw_grid(axes)
