"""Curves for TensorBoard, beside the files that every comparison leaves."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd

from gnnscale.compare.display import Display
from gnnscale.compare.plan import Cell

_CURVES = ("loss", "val", "test")
_STAGES = ("sample", "gather", "transfer", "history", "compute", "wait")


class TensorBoard(Display):
    """Writes one run a cell: its curves against optimiser steps, and its settings as hyper-parameters.

    The wall time of a point is the cell's start plus its training seconds, so that TensorBoard's axis "relative" is the
    clock of training, without evaluation. Seconds by stage are those of one epoch.

    Parameters
    ----------
    folder : Path
        For ``tensorboard --logdir``. A run has the name of its cell's file; what was finished earlier is written too,
        where it is not there yet.

    Raises
    ------
    ImportError
        The package tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import tensorboard  # noqa: F401
        except ImportError:
            raise ImportError(
                "--tensorboard needs the package tensorboard: pip install 'gnnscale[tensorboard]'"
            ) from None
        self.folder = folder
        self._runs: dict[str, _Run] = {}

    def begin(self, cells: list[Cell], found: list[pd.DataFrame | None], jobs: int) -> None:
        """Write the cells that were finished earlier."""
        for cell, rows in zip(cells, found, strict=True):
            if rows is not None:
                self.end(cell, rows)

    def cell(self, cell: Cell) -> None:
        """Begin a cell's run anew."""
        self._runs[cell.file_name] = _Run(self._place(cell), datetime.now(timezone.utc).timestamp())

    def point(self, cell: Cell, point: dict[str, Any]) -> None:
        """Write a point of a curve."""
        self._runs[cell.file_name].point(point)

    def end(self, cell: Cell, rows: pd.DataFrame) -> None:
        """Write a cell's settings and what it came to."""
        run = self._runs.pop(cell.file_name, None)
        if run is None:
            # It was finished earlier, or by another runner, which may have written it.
            if list(self._place(cell).glob("events.*")):
                return
            started = rows["started"].iloc[0]
            run = _Run(self._place(cell), started.timestamp() if pd.notna(started) else 0.0)
            for point in rows[rows["epoch"] > 0].to_dict("records"):
                run.point({str(name): value for name, value in point.items()})
        run.end(cell, rows)

    def _place(self, cell: Cell) -> Path:
        return self.folder / cell.file_name


class _Run:
    """The log of one cell."""

    def __init__(self, folder: Path, started: float) -> None:
        from torch.utils.tensorboard import SummaryWriter

        for old in folder.glob("events.*"):  # of an attempt that failed or was killed
            old.unlink()
        self._writer = SummaryWriter(str(folder), flush_secs=10)
        self._started = started
        self._last: dict[str, Any] = {}

    def point(self, point: dict[str, Any]) -> None:
        """Write a point."""
        steps = point.get("steps")
        step = int(steps if steps and not math.isnan(steps) else point["epoch"])
        time = self._started + point["train_seconds"]
        values = {name: point[name] for name in _CURVES}
        values["epoch"] = point["epoch"]
        if not math.isnan(point.get("staleness", math.nan)):
            values |= {"staleness/mean": point["staleness"], "staleness/largest": point["staleness_max"]}
        for stage in _STAGES:
            name = f"{stage}_seconds"
            values[f"seconds an epoch/{stage}"] = point[name] - self._last.get(name, 0.0)
        for name, value in values.items():
            self._writer.add_scalar(name, value, step, walltime=time)
        self._last = point

    def end(self, cell: Cell, rows: pd.DataFrame) -> None:
        """Write the hyper-parameters, the outcome and the best validation epoch's test metric."""
        last = rows.iloc[-1]
        metrics = {"best/val": math.nan, "best/test": math.nan}
        if rows["val"].notna().any():
            best = rows.iloc[int(rows["val"].argmax())]
            metrics = {"best/val": best["val"], "best/test": best["test"]}
        metrics["train_seconds"] = last["train_seconds"]
        settings = json.loads(last["settings"])
        flat = {
            "dataset": cell.dataset.label,
            "model": cell.model.label,
            "sampler": cell.sampler.label,
            "seed": cell.seed,
        }
        for group in ("model_arguments", "sampler_arguments", "training", "budget"):
            for name, value in settings.get(group, {}).items():
                flat.setdefault(name, value if isinstance(value, (bool, int, float, str)) else str(value))
        self._writer.add_text("status", str(last["status"]))
        # Beside the curves, and not in a run of its own, as it would be by default.
        self._writer.add_hparams(flat, {name: float(value) for name, value in metrics.items()}, run_name=".")
        self._writer.close()
