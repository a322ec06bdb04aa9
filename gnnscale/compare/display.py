"""Tells how a comparison goes: live at a terminal, one plain line a cell elsewhere."""

from __future__ import annotations

import time
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from gnnscale.compare.plan import Cell
from gnnscale.compare.plots import METRIC_NAMES
from gnnscale.compare.summary import at_best_epochs
from gnnscale.compare.time_left import TimeLeft, in_words


class Display:
    """Is told everything that happens in a comparison, and does nothing with it."""

    def begin(self, cells: list[Cell], found: list[pd.DataFrame | None], jobs: int) -> None:
        """The comparison has these cells; of those that were finished earlier, ``found`` has the rows."""

    def cell(self, cell: Cell) -> None:
        """A cell begins."""

    def stage(self, cell: Cell, text: str) -> None:
        """A cell is at this stage."""

    def point(self, cell: Cell, point: dict[str, Any]) -> None:
        """A cell has done an epoch."""

    def end(self, cell: Cell, rows: pd.DataFrame) -> None:
        """A cell has ended, well or not, here or in another runner on the same folder."""

    def say(self, line: str) -> None:
        """Something that the user should know."""


class Several(Display):
    """Hands everything on to several displays."""

    def __init__(self, *displays: Display) -> None:
        self.displays = displays

    def begin(self, cells: list[Cell], found: list[pd.DataFrame | None], jobs: int) -> None:
        for display in self.displays:
            display.begin(cells, found, jobs)

    def cell(self, cell: Cell) -> None:
        for display in self.displays:
            display.cell(cell)

    def stage(self, cell: Cell, text: str) -> None:
        for display in self.displays:
            display.stage(cell, text)

    def point(self, cell: Cell, point: dict[str, Any]) -> None:
        for display in self.displays:
            display.point(cell, point)

    def end(self, cell: Cell, rows: pd.DataFrame) -> None:
        for display in self.displays:
            display.end(cell, rows)

    def say(self, line: str) -> None:
        for display in self.displays:
            display.say(line)


class PlainDisplay(Display):
    """One line of text for each cell that ends."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.total = self.done = self.failed = 0

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def begin(self, cells: list[Cell], found: list[pd.DataFrame | None], jobs: int) -> None:
        """Say how many of the cells were finished earlier."""
        kept = [rows for rows in found if rows is not None]
        self.total, self.done = len(cells), len(kept)
        self.failed = sum(rows["status"].iloc[0] != "ok" for rows in kept)
        if kept:
            failed = f"; {self.failed} of them failed" if self.failed else ""
            self.say(f"{self.done} of {self.total} cells were finished earlier and are kept{failed}.")

    def end(self, cell: Cell, rows: pd.DataFrame) -> None:
        """Say what a cell came to."""
        self.done += 1
        self.failed += rows["status"].iloc[0] != "ok"
        self.say(f"[{self.done}/{self.total}] {cell}: {_outcome(rows)}")

    def say(self, line: str) -> None:
        """Print one line as it is."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


class LiveDisplay(PlainDisplay):
    """The lines of :class:`PlainDisplay` above bars: one of all cells, and one of each that runs."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        # Drawn seldom, because the cells need the cores.
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[count]}"),
            TextColumn("{task.fields[last]}"), console=console, transient=True, refresh_per_second=4,
        )  # fmt: skip
        self.all = self.progress.add_task("all cells", total=None, count="", last="")
        self.running: dict[int, _Running] = {}

    def __enter__(self) -> LiveDisplay:
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def begin(self, cells: list[Cell], found: list[pd.DataFrame | None], jobs: int) -> None:
        """Show the bar of all cells."""
        super().begin(cells, found, jobs)
        self.left = TimeLeft(jobs)
        self.waiting = {id(cell): cell for cell, rows in zip(cells, found, strict=True) if rows is None}
        for cell, rows in zip(cells, found, strict=True):
            if rows is not None:
                self.left.found(cell, rows)
        self._show_all()

    def cell(self, cell: Cell) -> None:
        """Add the bar of a cell."""
        self.waiting.pop(id(cell), None)
        task = self.progress.add_task(escape(str(cell)), total=cell.training["epochs"], count="", last="starting")
        self.running[id(cell)] = _Running(cell, task)
        self._show_all()

    def stage(self, cell: Cell, text: str) -> None:
        """Say what a cell does before its first epoch."""
        one = self.running[id(cell)]
        if not one.epoch:
            self.progress.update(one.task, last=text)

    def point(self, cell: Cell, point: dict[str, Any]) -> None:
        """Move a cell's bar on by an epoch."""
        one = self.running[id(cell)]
        one.epoch = point["epoch"]
        self.progress.update(
            one.task,
            completed=one.epoch,
            count=f"epoch {one.epoch}/{one.epochs}",
            last=f"val {100 * point['val']:.1f} %, loss {point['loss']:.3f}",
        )
        # The guess is worth no more than a look a second.
        if time.monotonic() - self.shown > 1:
            self._show_all()

    def end(self, cell: Cell, rows: pd.DataFrame) -> None:
        """Say what a cell came to, and take its bar away."""
        super().end(cell, rows)
        self.waiting.pop(id(cell), None)
        if one := self.running.pop(id(cell), None):
            self.left.ended(cell, time.monotonic() - one.start)
            self.progress.remove_task(one.task)
        self._show_all()

    def _show_all(self) -> None:
        self.shown = time.monotonic()
        running = [(one.cell, self.shown - one.start, one.epoch / one.epochs) for one in self.running.values()]
        seconds = self.left.seconds(self.waiting.values(), running)
        words = [f"{len(running)} running"] if running else []
        words += [f"{self.failed} failed"] if self.failed else []
        words += [f"about {in_words(seconds)} left"] if seconds is not None and self.done < self.total else []
        self.progress.update(
            self.all,
            total=self.total,
            completed=self.done,
            count=f"{self.done}/{self.total}",
            last=", ".join(words),
        )


class _Running:
    """A cell that runs: its bar, when it began, and how far it is."""

    def __init__(self, cell: Cell, task: TaskID) -> None:
        self.cell, self.task = cell, task
        self.epochs, self.epoch = cell.training["epochs"], 0
        self.start = time.monotonic()


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
