"""Tells how a comparison goes: live at a terminal, one plain line a cell elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from gnnscale.compare.plan import Cell
from gnnscale.compare.plots import METRIC_NAMES
from gnnscale.compare.results import at_best_epochs


class PlainDisplay:
    """One line of text for each cell that ends."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.total = self.done = 0

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def begin(self, cells: list[Cell], found: int) -> None:
        """Say how many of the cells were finished earlier."""
        self.total, self.done = len(cells), found
        if found:
            self.say(f"{found} of {self.total} cells were finished earlier and are kept.")

    def cell(self, cell: Cell) -> None:
        """A cell begins."""

    def stage(self, text: str) -> None:
        """The cell is at this stage."""

    def point(self, point: dict[str, Any]) -> None:
        """The cell has done an epoch."""

    def end(self, cell: Cell, rows: pd.DataFrame) -> None:
        """Say what a cell came to."""
        self.done += 1
        self.say(f"[{self.done}/{self.total}] {cell}: {_outcome(rows)}")

    def say(self, line: str) -> None:
        """Print one line as it is."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


class LiveDisplay(PlainDisplay):
    """The lines of :class:`PlainDisplay` above two bars: all cells, and the epochs of the current one."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        # Cells differ in speed, so the time left comes from everything done so far.
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[count]}"),
            TimeRemainingColumn(), TextColumn("{task.fields[last]}"),
            console=console, transient=True, speed_estimate_period=1e6,
        )  # fmt: skip
        self.all = self.progress.add_task("all cells", total=None, count="", last="left")
        self.one = self.progress.add_task("", total=None, count="", last="", visible=False)

    def __enter__(self) -> LiveDisplay:
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def begin(self, cells: list[Cell], found: int) -> None:
        """Show the bars."""
        super().begin(cells, found)
        epochs = sum(cell.training["epochs"] for cell in cells) * (len(cells) - found) / max(len(cells), 1)
        self.progress.reset(self.all, total=epochs)
        self._count()

    def cell(self, cell: Cell) -> None:
        """Name the cell and empty its bar."""
        self.epochs = cell.training["epochs"]
        self.at_epoch = 0
        self.progress.reset(self.one, total=self.epochs, description=str(cell), count="", last="", visible=True)

    def stage(self, text: str) -> None:
        """Say what the cell does before its first epoch."""
        self.progress.update(self.one, last=text)

    def point(self, point: dict[str, Any]) -> None:
        """Move both bars on by an epoch."""
        self.at_epoch = point["epoch"]
        self.progress.update(
            self.one,
            advance=1,
            count=f"epoch {self.at_epoch}/{self.epochs}",
            last=f"val {100 * point['val']:.1f} %, loss {point['loss']:.3f}",
        )
        self.progress.update(self.all, advance=1)

    def end(self, cell: Cell, rows: pd.DataFrame) -> None:
        """Say what the cell came to; the epochs that a failed one leaves out are not to come either."""
        super().end(cell, rows)
        self.progress.update(self.all, advance=self.epochs - self.at_epoch)
        self._count()

    def _count(self) -> None:
        self.progress.update(self.all, count=f"{self.done}/{self.total}")


def _outcome(rows: pd.DataFrame) -> str:
    status = rows["status"].iloc[0]
    if status != "ok":
        return status
    best = at_best_epochs(rows)
    if best.empty:
        return "ok, without a validation metric"
    run = best.iloc[0]
    metric = METRIC_NAMES.get(run["metric"], run["metric"])
    return (
        f"test {metric} {100 * run['test']:.2f} % at epoch {int(run['epoch'])}, "
        f"{run['total_seconds']:.2f} s of training"
    )


def summary_tables(summary: pd.DataFrame) -> Iterator[Table]:
    """Lay a summary out for reading: a table a dataset and model, metrics in percent, mean ± deviation.

    Parameters
    ----------
    summary : pandas.DataFrame
        As :func:`~gnnscale.compare.results.summarise` makes it.

    Yields
    ------
    rich.table.Table
        Narrow enough for a terminal of 80 columns, as long as names are short and all is well.
    """
    for (dataset, model), group in summary.groupby(["dataset", "model"], sort=False):
        metric = METRIC_NAMES.get(group["metric"].iloc[0], group["metric"].iloc[0])
        table = Table(
            title=f"{dataset}, {model}: {metric} in %, mean ± standard deviation over seeds",
            title_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        table.add_column("sampler")
        for name in ("seeds", "test", "val", "best\nepoch", "seconds\n/ epoch", "train\nseconds",
                     "prepare\nseconds", "peak\nMB"):  # fmt: skip
            table.add_column(name, justify="right", no_wrap=True)
        failures = bool((group["status"] != "ok").any())
        if failures:
            table.add_column("status", overflow="fold")
        for row in group.to_dict("records"):
            spread = f" ± {100 * row['test_std']:.2f}" if pd.notna(row["test_std"]) else ""
            cells = [
                row["sampler"],
                str(row["seeds"]),
                _number(100 * row["test_mean"], ".2f") + spread,
                _number(100 * row["val_mean"], ".2f"),
                _number(row["best_epoch"], ".0f"),
                _number(row["seconds_per_epoch"], ".4f"),
                _number(row["train_seconds"], ".2f"),
                _number(row["prepare_seconds"], ".2f"),
                _number(row["peak_memory_mb"], ",.0f"),
            ]
            table.add_row(*(escape(cell) for cell in (*cells, *([row["status"]] if failures else []))))
        yield table


def _number(value: float, form: str) -> str:
    return format(value, form) if pd.notna(value) else "–"
