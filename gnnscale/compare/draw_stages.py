"""Where an epoch's time goes, as stacked bars: the literature's picture of what sampling costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from gnnscale.compare.draw_curves import note_on_machines, note_on_seeds, title_panel
from gnnscale.compare.figure import add_legend, draw_grid, label_outer, new_rows, shorten
from gnnscale.compare.summary import STAGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOK = {
    "sample": ("#D55E00", "//////"),
    "gather": ("#F0C05A", "....."),
    "transfer": ("#56B4E9", "xxxxx"),
    "wait": ("#FFFFFF", "-----"),
    "history": ("#CC79A7", "\\\\\\\\\\\\"),
    "compute": ("#C8C8C8", ""),
}
WORDS = {"sample": "sampling", "gather": "gathering", "transfer": "transfer", "wait": "waiting for workers",
          "history": "history", "compute": "compute"}  # fmt: skip


def stages_of(row: dict[str, Any]) -> dict[str, float]:
    """Seconds an epoch by stage of a row of the summary, such that they add up to the clock's.

    With workers, drawing, gathering and moving batches overlap with training; what the clock sees is the waiting.
    """
    seconds = {stage: row[f"{stage}_seconds_per_epoch"] for stage in (*STAGES, "wait")}
    batches = ("sample", "gather", "transfer")
    hidden = batches if (row["num_workers"] or 0) > 0 else ("wait",)
    return {stage: seconds[stage] for stage in LOOK if stage not in hidden}


def time_by_stage(results: pd.DataFrame, summary: pd.DataFrame, **_: Any) -> Figure | None:
    """One panel a dataset and model, one bar a sampler: seconds an epoch by stage, and the share of sampling."""
    from matplotlib.patches import Patch

    shown = summary[summary["seconds_per_epoch"].notna()]
    if shown.empty:
        return None
    groups = list(shown.groupby(["dataset", "model"], sort=False))
    figure, panels = new_rows([len(group) for _, group in groups])
    used: dict[str, None] = {}
    for panel, ((dataset, model), group) in zip(panels, groups, strict=True):
        used.update(dict.fromkeys(_draw_bars(panel, group)))
        title_panel(panel, results[(results["dataset"] == dataset) & (results["model"] == model)])
    label_outer(panels, "training seconds an epoch", [""] * len(panels))
    stages = [stage for stage in LOOK if stage in used]
    handles = [
        Patch(facecolor=LOOK[stage][0], hatch=LOOK[stage][1], edgecolor="black", linewidth=0.4) for stage in stages
    ]
    note = "medians over seeds; number: share of the epoch that is spent sampling"
    if "wait" in used:
        note += " (with workers: waiting for batches, which they make meanwhile)"
    note = f"{note}{note_on_machines(results)}. {note_on_seeds(results)}"
    add_legend(figure, handles, [WORDS[stage] for stage in stages], note, handle_length=2.4)
    return figure


def _draw_bars(axes: Axes, group: pd.DataFrame) -> list[str]:
    """Draw one bar a row, and tell the stages that can be seen."""
    rows: list[Any] = group.to_dict("records")
    longest = max(sum(stages_of(row).values()) for row in rows)
    seen = []
    for place, row in enumerate(rows):
        left, stages = 0.0, stages_of(row)
        for stage, seconds in stages.items():
            if math.isfinite(seconds) and seconds > 0:
                colour, hatch = LOOK[stage]
                axes.barh(place, seconds, left=left, height=0.72, color=colour, hatch=hatch, edgecolor="black",
                          linewidth=0.4)  # fmt: skip
                left += seconds
                if seconds > longest / 1000:
                    seen.append(stage)
        share = row["sampling_share"] if "sample" in stages else stages["wait"] / left
        axes.text(left + 0.015 * longest, place, f"{100 * share:.0f} %", va="center", fontsize=6.5)
    axes.set_yticks(range(len(rows)), [shorten(row["sampler"], 26) for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.14 * longest)
    axes.spines[["top", "right"]].set_visible(False)
    draw_grid(axes, "x")
    return seen
