"""Runs the cells of a comparison that are missing, several at once if wanted, and keeps each result as it comes."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd

from gnnscale.compare.cell import check_dataset, run_cell
from gnnscale.compare.claims import Claims
from gnnscale.compare.display import Display
from gnnscale.compare.endings import Ending
from gnnscale.compare.limits import Limits, can_watch
from gnnscale.compare.machine import send_machine
from gnnscale.compare.plan import Cell, Facts
from gnnscale.compare.process import Child, run_in_process, wait_for
from gnnscale.compare.results import cell_frame, concatenate, read_cell, write_results
from gnnscale.compare.specification import Specification, SpecificationError

#: Seconds between two looks at whether other runners on the folder are done with the cells that they have taken.
_LOOK_AGAIN = 1.0


def check(specification: Specification, logs: Path | None = None) -> dict[str, Facts]:
    """Load every dataset and build every model and sampler for it, each dataset in its own process.

    Parameters
    ----------
    specification : Specification
    logs : Path, optional
        Folder for what the processes print; ``cells`` in the folder for the results unless given.

    Returns
    -------
    dict of str to Facts
        What each dataset says of itself, by its label.

    Raises
    ------
    SpecificationError
        Something cannot be loaded or built; all such problems are listed.
    OSError
        The folder for the results cannot be written.
    """
    logs = logs or specification.out / "cells"
    logs.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Facts] = {}
    problems: list[str] = []
    for dataset in specification.datasets:

        def on_message(message: tuple[str, Any], label: str = dataset.label) -> None:
            kind, content = message
            if kind == "facts":
                facts[label] = content
            else:
                problems.append(content)

        arguments = (dataset, specification.data_dir, specification.combinations_of(dataset))
        log = logs / f"check-{Path(dataset.name).stem}.log"
        ending = run_in_process(check_dataset, arguments, log, on_message)
        if ending.outcome != "ok":
            problems.append(f"dataset {dataset.label}: {ending.status} (see {log}).")
    if problems:
        raise SpecificationError(problems)
    return facts


def run_cells(
    cells: list[Cell],
    out: Path,
    display: Display,
    *,
    jobs: int = 1,
    retry_failed: bool = False,
    target: Callable[..., None] = run_cell,
) -> pd.DataFrame:
    """Run the cells that are not finished yet, each in its own process.

    A cell that fails, in whatever way, is a result like any other. Several runners on one folder share the work, and
    each comes back with all results.

    Parameters
    ----------
    cells : list of Cell
    out : Path
        Folder of the comparison; a cell's file appears in ``cells/`` once it is finished.
    display : Display
        Told of everything that happens.
    jobs : int
        Cells that run at once.
    retry_failed : bool
        Run those again that failed earlier. Without it only those are that ran out of memory or time under another
        budget than they have now.
    target : callable
        What runs in the process.

    Returns
    -------
    pandas.DataFrame
        The rows of all cells, in order, as in results.parquet.

    Raises
    ------
    KeyboardInterrupt
        It was stopped; the running cells have been ended, and results.parquet holds those that are finished.
    ValueError
        A cell has a limit of memory, and this system does not tell how much a process uses.
    """
    if any(cell.budget.get("memory_gb") is not None for cell in cells) and not can_watch():
        raise ValueError("memory_gb needs Linux's /proc, which this system does not have; leave it out")
    folder = out / "cells"
    folder.mkdir(parents=True, exist_ok=True)
    with Claims(folder) as claims:
        runner = _Runner(cells, folder, display, claims, jobs, retry_failed, target)
        try:
            runner.run()
        except KeyboardInterrupt:
            runner.look_at_files()
            if runner.finished():
                write_results(runner.results(), out / "results.parquet")
            raise
        return runner.results()


class _Runner:
    """One call of :func:`run_cells`."""

    def __init__(
        self,
        cells: list[Cell],
        folder: Path,
        display: Display,
        claims: Claims,
        jobs: int,
        retry_failed: bool,
        target: Callable[..., None],
    ) -> None:
        self.cells, self.folder, self.display, self.claims = cells, folder, display, claims
        self.jobs, self.retry_failed, self.target = jobs, retry_failed, target
        self.running: list[_Run] = []
        self.refused: dict[int, str] = {}
        self.look_again = 0.0
        self.frames: list[pd.DataFrame | None] = [self.read(i, at_start=True) for i in range(len(cells))]
        self.waiting = [i for i, rows in enumerate(self.frames) if rows is None]

    def run(self) -> None:
        self.display.begin(self.cells, self.frames, self.jobs)
        self.machine = _machine(self.folder) if self.waiting else {}
        try:
            while self.waiting or self.running:
                self.start_some()
                wait_for([one.child for one in self.running], _LOOK_AGAIN if len(self.running) < self.jobs else None)
                for one in list(self.running):
                    if ending := one.child.step():
                        self.finish(one, ending)
        finally:
            for one in self.running:
                one.child.close()

    def look_at_files(self) -> None:
        """Have the rows of a cell whose file was written when the run was stopped."""
        for i, rows in enumerate(self.frames):
            if rows is None:
                self.frames[i] = self.read(i, at_start=True)

    def finished(self) -> list[pd.DataFrame]:
        return [rows for rows in self.frames if rows is not None]

    def results(self) -> pd.DataFrame:
        return concatenate(self.finished())

    def start_some(self) -> None:
        """Start cells until as many run as may, or the rest is in the hands of other runners."""
        if len(self.running) == self.jobs or time.monotonic() < self.look_again:
            return
        for i in list(self.waiting):
            name = self.cells[i].file_name
            if not self.claims.take(name):
                continue
            self.waiting.remove(i)
            # Another runner may have finished it since the last look.
            if (rows := self.read(i)) is not None:
                self.claims.release(name)
                self.keep(i, rows)
                continue
            self.start(i)
            if len(self.running) == self.jobs:
                return
        self.look_again = time.monotonic() + _LOOK_AGAIN

    def start(self, i: int) -> None:
        cell = self.cells[i]
        for left in self.folder.glob(f".{cell.file_name}-*"):
            left.unlink(missing_ok=True)  # of a runner that was killed while it wrote
        self.display.cell(cell)
        curve = _Curve(cell, self.display)
        limits = Limits(cell.budget.get("memory_gb"), cell.budget.get("cell_seconds"))
        child = Child(self.target, (cell,), self.folder / f"{cell.file_name}.log", curve, limits)
        self.running.append(_Run(i, curve, child))

    def finish(self, one: _Run, ending: Ending) -> None:
        """Make a result of what a cell has come to."""
        if "SIGTERM" in ending.status:
            # Whoever ends all processes of a job ends this one as well, and then the cell has no result.
            time.sleep(0.5)
        one.child.close()
        self.running.remove(one)
        ending = ending.at(one.curve.place)
        one.curve.run["peak_memory_mb"] = float(
            pd.Series([one.curve.run["peak_memory_mb"], one.child.watch.peak_memory_mb]).max()
        )
        cell = self.cells[one.index]
        rows = cell_frame(
            cell,
            one.curve.points,
            status=ending.status,
            outcome=ending.outcome,
            machine=json.dumps(self.machine | {"jobs": self.jobs, "threads": one.curve.threads}),
            **one.curve.run,
        )
        write_results(rows, self.folder / f"{cell.file_name}.parquet")
        self.claims.release(cell.file_name)
        self.keep(one.index, rows)

    def keep(self, i: int, rows: pd.DataFrame) -> None:
        self.frames[i] = rows
        self.display.end(self.cells[i], rows)

    def read(self, i: int, *, at_start: bool = False) -> pd.DataFrame | None:
        """The rows of a finished cell; None where it is to run, again perhaps."""
        cell = self.cells[i]
        try:
            rows = read_cell(cell, self.folder)
        except ValueError:
            if not at_start:  # then the cell is ours, and nobody else's file is moved
                path = self.folder / f"{cell.file_name}.parquet"
                os.replace(path, path.with_suffix(".damaged"))
                self.display.say(f"{path} is damaged; it is now called {path.stem}.damaged, and the cell runs again.")
            return None
        if rows is None or rows["status"].iloc[0] == "ok":
            return rows
        run = rows.iloc[0]
        if at_start and (self.retry_failed or had_another_budget(cell, run)):
            self.refused[i] = str(run["started"])
        # Another runner may have tried it again in the meantime, and then that counts.
        return None if self.refused.get(i) == str(run["started"]) else rows


@dataclass
class _Run:
    """A cell that runs."""

    index: int
    curve: _Curve
    child: Child


@dataclass
class _Curve:
    """What has arrived from the process of a cell."""

    cell: Cell
    display: Display
    points: list[dict[str, Any]] = field(default_factory=list)
    run: dict[str, Any] = field(default_factory=dict)
    stage: str = "starting"
    threads: int | None = None

    def __post_init__(self) -> None:
        self.run = {
            "prepare_seconds": math.nan,
            "peak_memory_mb": math.nan,
            "peak_device_memory_mb": math.nan,
            "stopped": None,
            "started": datetime.now(timezone.utc),
        }

    @property
    def place(self) -> str:
        """Where in the run it is."""
        if self.stage in ("training", "evaluating"):
            return f"epoch {len(self.points) + 1}, {self.stage}"
        return self.stage

    def __call__(self, message: tuple[Any, ...]) -> None:
        match message:
            case ("stage", text):
                self.stage = text
                self.display.stage(self.cell, text)
            case ("threads", threads):
                self.threads = threads
            case ("point", point, columns):
                self.points.append(point)
                self.run |= columns
                self.stage = "training"
                self.display.point(self.cell, point)
            case ("end", columns):
                self.run |= columns


def had_another_budget(cell: Cell, run: pd.Series) -> bool:
    """Whether a cell failed for want of something of which it has more now, or less."""
    key = {"out_of_memory": "memory_gb", "timeout": "cell_seconds"}.get(run["outcome"])
    return key is not None and json.loads(run["settings"]).get("budget", {}).get(key) != cell.budget.get(key)


def _machine(folder: Path) -> dict[str, Any]:
    """The machine's record, made in another process: looking for a GPU takes memory, and some of the GPU's."""
    found: list[dict[str, Any]] = []
    run_in_process(send_machine, (), folder / f".machine-{os.getpid()}.log", found.append)
    return found[0] if found else {}
