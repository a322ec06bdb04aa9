"""Runs the cells of a comparison that are missing, and keeps each result as it comes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from gnnscale.compare.cell import check_dataset, run_cell
from gnnscale.compare.plan import Cell, Facts
from gnnscale.compare.process import run_in_process
from gnnscale.compare.results import (
    cell_frame,
    concatenate,
    read_cell,
    write_results,
)
from gnnscale.compare.specification import Specification, SpecificationError


class Display(Protocol):
    """What the runner tells while it works."""

    def begin(self, cells: list[Cell], found: int) -> None:
        """The comparison has these cells, and that many of them were finished earlier."""

    def cell(self, cell: Cell) -> None:
        """A cell begins."""

    def stage(self, text: str) -> None:
        """The cell is at this stage."""

    def point(self, point: dict[str, Any]) -> None:
        """The cell has done an epoch."""

    def end(self, cell: Cell, rows: pd.DataFrame) -> None:
        """The cell has ended, well or not."""


@dataclass
class _Curve:
    """What has arrived from the process of a cell."""

    display: Display
    points: list[dict[str, Any]] = field(default_factory=list)
    prepare_seconds: float = math.nan
    peak_memory_mb: float = math.nan
    stopped: str | None = None
    started: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    def __call__(self, message: tuple[Any, ...]) -> None:
        match message:
            case ("stage", text):
                self.display.stage(text)
            case ("point", point, memory):
                self.points.append(point)
                self.peak_memory_mb = memory
                self.display.point(point)
            case ("end", seconds, memory, stopped):
                self.prepare_seconds, self.peak_memory_mb, self.stopped = seconds, memory, stopped


def check(specification: Specification) -> dict[str, Facts]:
    """Load every dataset and build every model and sampler for it, each dataset in its own process.

    Parameters
    ----------
    specification : Specification

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
    cells = specification.out / "cells"
    cells.mkdir(parents=True, exist_ok=True)
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
        log = cells / f"check-{Path(dataset.name).stem}.log"
        status = run_in_process(check_dataset, arguments, log, on_message)
        if status != "ok":
            problems.append(f"dataset {dataset.label}: {status} (see {log}).")
    if problems:
        raise SpecificationError(problems)
    return facts


def run_cells(
    cells: list[Cell],
    out: Path,
    display: Display,
    *,
    retry_failed: bool = False,
    target: Callable[..., None] = run_cell,
) -> pd.DataFrame:
    """Run the cells that are not finished yet, one after the other, each in its own process.

    Parameters
    ----------
    cells : list of Cell
    out : Path
        Folder of the comparison; a cell's file appears in ``cells/`` once it is finished.
    display : Display
        Told of everything that happens.
    retry_failed : bool
        Run those again that failed earlier (default: a failure is a result like any other).
    target : callable
        What runs in the process.

    Returns
    -------
    pandas.DataFrame
        The rows of all cells, in order, as in results.parquet.
    """
    folder = out / "cells"
    folder.mkdir(parents=True, exist_ok=True)
    frames = [read_cell(cell, folder) for cell in cells]
    if retry_failed:
        frames = [frame if frame is not None and frame["status"].iloc[0] == "ok" else None for frame in frames]
    display.begin(cells, found=sum(frame is not None for frame in frames))
    for i, cell in enumerate(cells):
        if frames[i] is None:
            display.cell(cell)
            curve = _Curve(display)
            log = folder / f"{cell.file_name}.log"
            status = run_in_process(target, (cell,), log, curve)
            frame = cell_frame(
                cell, curve.points, status, curve.prepare_seconds, curve.peak_memory_mb,
                stopped=curve.stopped, started=curve.started,
            )  # fmt: skip
            write_results(frame, folder / f"{cell.file_name}.parquet")
            display.end(cell, frame)
            frames[i] = frame
    return concatenate(frame for frame in frames if frame is not None)
