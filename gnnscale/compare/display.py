"""Tells how a comparison goes: live at a terminal, one plain line a cell elsewhere."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from gnnscale.compare.plan import Cell
from gnnscale.compare.plots import METRIC_NAMES
from gnnscale.compare.summary import at_best_epochs


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
        f"{run['total_train_seconds']:.2f} s of training"
    )
