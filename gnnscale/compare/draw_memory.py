"""Memory against layers, and accuracy against memory: what a sampler needs, and what it gives for it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pandas as pd

from gnnscale.compare.draw_curves import metric_label, note_on_machines, note_on_seeds, title_panel
from gnnscale.compare.figure import add_legend, draw_grid, label_outer, marked, new_panels, scale, set_title
from gnnscale.compare.plots import styles
from gnnscale.compare.summary import of_settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OF_PROCESS = "memory: peak resident memory of the process, libraries and graph included, largest seed"
_OF_DEVICE = "memory: peak memory allocated on the GPU, largest seed"


def memory_of(summary: pd.DataFrame) -> tuple[pd.Series, str]:
    """Peak memory of each row in MB, on the GPU if all that finished had one, and what it is."""
    device = summary["peak_device_memory_mb"].astype(float)
    finished = summary["seeds"] > 0
    if finished.any() and device[finished].notna().all():
        return device, _OF_DEVICE
    return summary["peak_memory_mb"].astype(float), _OF_PROCESS


def without_layers(label: str) -> str:
    """A model's label without its number of layers.

    Examples
    --------
    >>> without_layers("gcn(layers=4)"), without_layers("gcn(layers=4, norm='batch')"), without_layers("gcn")
    ('gcn', "gcn(norm='batch')", 'gcn')
    """
    return re.sub(r"\(\)$", "", re.sub(r"(?<=\()layers=\d+(, )?|, layers=\d+", "", label))


def depths(results: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """The rows of a summary with ``layers``, of models that are there with several numbers of layers.

    ``model`` is without the number of layers, and ``memory`` is what :func:`memory_of` gives.
    """
    keys = ["dataset", "model", "sampler"]
    cells = results.drop_duplicates(keys)[keys]
    cells["layers"] = pd.to_numeric(of_settings(results, "model_arguments", "layers").loc[cells.index])
    rows = summary.assign(memory=memory_of(summary)[0]).merge(cells, on=keys).dropna(subset=["layers"])
    rows["model"] = rows["model"].map(without_layers)
    several = rows.groupby(["dataset", "model"])["layers"].transform("nunique") > 1
    return rows[several].sort_values("layers", kind="stable")


def memory_vs_layers(results: pd.DataFrame, summary: pd.DataFrame, **_: Any) -> Figure | None:
    """Two panels a dataset and model: peak memory and seconds an epoch against the number of layers."""
    rows = depths(results, summary)
    if rows.empty:
        return None
    groups = list(rows.groupby(["dataset", "model"], sort=False))
    figure, panels = new_panels(2 * len(groups), rows["sampler"].nunique(), height=2.0, columns=2)
    style = styles(list(dict.fromkeys(summary["sampler"])))
    failed = False
    for i, ((dataset, model), group) in enumerate(groups):
        for panel, column, label in zip(panels[2 * i : 2 * i + 2], ("memory", "seconds_per_epoch"),
                                        ("peak memory (MB)", "seconds an epoch"), strict=True):  # fmt: skip
            failed |= _draw_depths(panel, group, column, style)
            panel.set_ylabel(label)
            set_title(panel, f"{dataset}, {model}")
    for panel in panels[-2:]:
        panel.set_xlabel("layers")
    note = memory_of(summary)[1] + "; seconds: median over seeds"
    if failed:
        note += "; ✕ at the upper edge: no seed finished"
    _legend(figure, style, rows["sampler"], f"{note}{note_on_machines(results)}.")
    return figure


def _draw_depths(axes: Axes, group: pd.DataFrame, column: str, style: dict[str, Any]) -> bool:
    """Draw a line a sampler, and a cross where it did not finish; tell whether there is any."""
    from matplotlib.ticker import FixedLocator

    scale(axes.yaxis, group[column].dropna().tolist())
    for sampler, line in group[group[column].notna()].groupby("sampler", sort=False):
        axes.plot(line["layers"], line[column], **marked(style[str(sampler)]))
    failed = group[group[column].isna()]
    for layers in failed["layers"].unique():
        cells = failed[failed["layers"] == layers]
        for i, sampler in enumerate(cells["sampler"]):
            # Side by side, so that all of them can be seen.
            axes.annotate("✕", (layers, 1), xycoords=("data", "axes fraction"), ha="center", va="center",
                          xytext=(5.0 * (i - (len(cells) - 1) / 2), -6), textcoords="offset points",
                          color=style[sampler]["color"], fontweight="bold", fontfamily="DejaVu Sans")  # fmt: skip
    axes.xaxis.set_major_locator(FixedLocator(sorted(group["layers"].unique())))
    low, high = group["layers"].min(), group["layers"].max()
    axes.set_xlim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    draw_grid(axes)
    return not failed.empty


def accuracy_vs_memory(results: pd.DataFrame, summary: pd.DataFrame, **_: Any) -> Figure | None:
    """One panel a dataset and model, one point a sampler: the mean test metric against peak memory."""
    memory, words = memory_of(summary)
    shown = summary.assign(memory=memory)
    shown = shown[shown["memory"].notna() & shown["test_mean"].notna()]
    if shown.empty:
        return None
    groups = list(shown.groupby(["dataset", "model"], sort=False))
    style = styles(list(dict.fromkeys(summary["sampler"])))
    figure, panels = new_panels(len(groups), len(style))
    for panel, ((dataset, model), group) in zip(panels, groups, strict=True):
        for row in group.to_dict("records"):
            panel.errorbar(row["memory"], 100 * row["test_mean"], yerr=100 * row["test_error"], elinewidth=0.8,
                           capsize=1.5, **marked(style[row["sampler"]], 5, line=False))  # fmt: skip
        scale(panel.xaxis, group["memory"].tolist())
        title_panel(panel, results[(results["dataset"] == dataset) & (results["model"] == model)])
        draw_grid(panel)
    label_outer(panels, "peak memory (MB)", [metric_label(group) for _, group in groups])
    note = f"mean ± standard error over seeds, at the best validation epoch; {words}. {note_on_seeds(results)}"
    _legend(figure, style, shown["sampler"], note, line=False)
    return figure


def _legend(figure: Figure, style: dict[str, Any], drawn: pd.Series, note: str, line: bool = True) -> None:
    from matplotlib.lines import Line2D

    names = [name for name in style if name in set(drawn)]
    handles = [Line2D([], [], **marked(style[name], 3.6 if line else 5, line)) for name in names]
    add_legend(figure, handles, names, note, 3.4 if line else 1.0)
