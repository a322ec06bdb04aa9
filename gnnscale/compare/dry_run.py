"""What a comparison would do: its cells, which of them are done, and what the others will take."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table

from gnnscale.compare import estimate
from gnnscale.compare.estimate import Estimate
from gnnscale.compare.plan import Cell
from gnnscale.compare.results import read_cell
from gnnscale.compare.runner import had_another_budget
from gnnscale.compare.time_left import in_words


@dataclass
class Planned:
    """The cells of one combination of dataset, model and sampler, which differ in the seed."""

    finished: list[Cell] = field(default_factory=list)
    failed: list[Cell] = field(default_factory=list)
    to_run: list[Cell] = field(default_factory=list)
    runs: list[pd.DataFrame] = field(default_factory=list)
    estimate: Estimate | None = None

    @property
    def cells(self) -> list[Cell]:
        """All of them."""
        return [*self.finished, *self.failed, *self.to_run]


def plan(
    cells: Iterable[Cell],
    out: Path,
    *,
    retry_failed: bool = False,
    on_measuring: Callable[[Cell], None] = lambda cell: None,
) -> list[Planned]:
    """Look at what is there, and find out what the rest will take; the folder is not touched.

    Parameters
    ----------
    cells : iterable of Cell
    out : Path
        Folder of the comparison.
    retry_failed : bool
        As for :func:`~gnnscale.compare.runner.run_cells`.
    on_measuring : callable
        Called with a cell of which a piece is about to be trained.

    Returns
    -------
    list of Planned
        In the order of the cells.
    """
    planned: dict[tuple[str, str, str], Planned] = {}
    for cell in cells:
        one = planned.setdefault((cell.dataset.label, cell.model.label, cell.sampler.label), Planned())
        rows = _read(cell, out / "cells")
        if rows is None:
            one.to_run.append(cell)
        elif rows["status"].iloc[0] == "ok":
            one.finished.append(cell)
            one.runs.append(rows)
        else:
            again = retry_failed or had_another_budget(cell, rows.iloc[0])
            (one.to_run if again else one.failed).append(cell)
    with TemporaryDirectory(prefix="gnnscale-estimate-") as logs:
        for number, one in enumerate(planned.values()):
            if one.to_run and (found := estimate.of_finished(one.runs)) is None:
                on_measuring(one.to_run[0])
                found = estimate.measured(one.to_run[0], Path(logs) / f"{number}.log")
            one.estimate = found if one.to_run else None
    return list(planned.values())


def _read(cell: Cell, folder: Path) -> pd.DataFrame | None:
    try:
        return read_cell(cell, folder)
    except ValueError:  # a damaged file's cell runs again
        return None


def seconds_of(planned: Iterable[Planned], jobs: int) -> float:
    """Seconds until the last cell has ended, each begun when one of ``jobs`` is free; unknown ones count nothing."""
    ends = [0.0] * jobs
    for one in planned:
        if one.estimate is not None and not math.isnan(one.estimate.seconds):
            for _ in one.to_run:
                heapq.heappush(ends, heapq.heappop(ends) + one.estimate.seconds)
    return max(ends)


def plan_table(planned: Iterable[Planned]) -> Table:
    """The cells by combination: seeds finished, failed and to run, and what one that is to run will take."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("dataset", "model", "sampler", "finished", "failed", "to run"):
        table.add_column(name, overflow="fold")
    for name in ("a cell", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("estimated from", overflow="fold")
    for one in planned:
        cell, guess = one.cells[0], one.estimate
        table.add_row(
            *(escape(choice.label) for choice in (cell.dataset, cell.model, cell.sampler)),
            *(_seeds(cells) for cells in (one.finished, one.failed, one.to_run)),
            in_words(guess.seconds) if guess and not math.isnan(guess.seconds) else "",
            f"{guess.memory_mb:,.0f}" if guess and not math.isnan(guess.memory_mb) else "",
            escape(guess.source) if guess else "",
        )
    return table


def plan_summary(planned: list[Planned], jobs: int) -> str:
    """How many cells there are of each kind, and what the rest will take in all."""
    finished, failed, to_run = (sum(len(getattr(one, name)) for one in planned)
                                for name in ("finished", "failed", "to_run"))  # fmt: skip
    text = f"{finished + failed + to_run} cells: {finished} finished, "
    text += f"{failed} failed (--retry-failed runs them again), " if failed else ""
    text += f"{to_run} to run"
    if not to_run:
        return f"{text}."
    guesses = [one.estimate for one in planned if one.estimate is not None]
    unknown = sum(len(one.to_run) for one in planned if one.estimate and math.isnan(one.estimate.seconds))
    at_least = " at least, without those that are not known" if unknown else ""
    text += f" in about {in_words(seconds_of(planned, jobs))}{at_least}" if unknown < to_run else ""
    text += f", {jobs} at once" if jobs > 1 else ""
    largest = sorted((each.memory_mb for each in guesses if not math.isnan(each.memory_mb)), reverse=True)
    if largest:
        text += f"; up to {sum((largest[:1] * jobs)[:to_run]):,.0f} MB of memory"
    return f"{text}. Nothing was written."


def _seeds(cells: list[Cell]) -> str:
    """Seeds, runs of consecutive ones joined.

    Examples
    --------
    >>> from types import SimpleNamespace as Cell
    >>> _seeds([Cell(seed=seed) for seed in (0, 1, 2, 5, 7, 8)])
    '0-2 5 7-8'
    """
    spans: list[list[int]] = []
    for seed in sorted(cell.seed for cell in cells):
        if spans and seed == spans[-1][1] + 1:
            spans[-1][1] = seed
        else:
            spans.append([seed, seed])
    return " ".join(f"{first}-{last}" if last > first else str(first) for first, last in spans)
