"""Lays a summary out for reading at a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table

from gnnscale.compare.plots import METRIC_NAMES


def summary_tables(summary: pd.DataFrame) -> Iterator[Table]:
    """Make a table of each dataset and model: metrics in percent, mean ± standard error.

    Parameters
    ----------
    summary : pandas.DataFrame
        As :func:`~gnnscale.compare.summary.summarise` makes it.

    Yields
    ------
    rich.table.Table
        Narrow enough for a terminal of 80 columns, as long as names are short and all is well.
    """
    for (dataset, model), group in summary.groupby(["dataset", "model"], sort=False):
        metric = METRIC_NAMES.get(group["metric"].iloc[0], group["metric"].iloc[0])
        table = Table(
            title=f"{dataset}, {model}: {metric} in %, mean ± standard error over seeds",
            title_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        table.add_column("sampler")
        aimed = bool(group["target_reached"].notna().any())
        for name in ("seeds", "test", "val", "best\nepoch", "seconds\n/ epoch", "of it\nsampling",
                     "seconds\nto target" if aimed else "train\nseconds", "prepare\nseconds", "peak\nMB"):  # fmt: skip
            table.add_column(name, justify="right", no_wrap=True)
        failures = bool((group["status"] != "ok").any())
        if failures:
            table.add_column("status", overflow="fold")
        for row in group.to_dict("records"):
            spread = f" ± {100 * row['test_error']:.2f}" if pd.notna(row["test_error"]) else ""
            cells = [
                row["sampler"],
                str(row["seeds"]),
                _number(100 * row["test_mean"], ".2f") + spread,
                _number(100 * row["val_mean"], ".2f"),
                _number(row["best_epoch"], ".0f"),
                _number(row["seconds_per_epoch"], ".4f"),
                _number(row["sampling_share"], ".0%"),
                _time_to_target(row) if aimed else _number(row["train_seconds"], ".2f"),
                _number(row["prepare_seconds"], ".2f"),
                _number(row["peak_memory_mb"], ",.0f"),
            ]
            table.add_row(*(escape(cell) for cell in (*cells, *([row["status"]] if failures else []))))
        yield table


def _time_to_target(row: dict[Any, Any]) -> str:
    """The time, and where not all runs reached the target how many did."""
    if pd.isna(row["target_reached"]):
        return "–"
    reached = "" if row["target_reached"] == row["seeds"] else f" ({row['target_reached']:.0f}/{row['seeds']})"
    return _number(row["time_to_target"], ".2f") + reached


def _number(value: float, form: str) -> str:
    return format(value, form) if pd.notna(value) else "–"
