"""How long a cell will take and how much memory: from runs that are finished, or from a short piece of one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from time import perf_counter
from typing import Any

import pandas as pd
import torch

from gnnscale.compare.cell import peaks, train_cell
from gnnscale.compare.limits import Limits
from gnnscale.compare.plan import Cell
from gnnscale.compare.process import Send, run_in_process
from gnnscale.data import Dataset
from gnnscale.evaluation import evaluate
from gnnscale.samplers.base import split
from gnnscale.training import Point

#: Seconds of training, and seconds of a whole process, that a measurement may take.
TRAINING_SECONDS, PROCESS_SECONDS = 2.0, 60.0
#: Epochs and steps that are worth more time, which may then be so many times as long: the first ones are slower.
_LEAST_EPOCHS, _LEAST_STEPS, _TIMES_AS_LONG = 3, 3, 5


@dataclass(frozen=True)
class Estimate:
    """What one cell will take: seconds and 10^6 bytes, NaN where nothing is known, and what tells so."""

    seconds: float
    memory_mb: float
    source: str


def of_finished(runs: Iterable[pd.DataFrame]) -> Estimate | None:
    """From the rows of finished runs of the same combination under other seeds; None where there are none."""
    last = [rows.iloc[-1] for rows in runs]
    if not last:
        return None
    clocks = ("prepare_seconds", "train_seconds", "evaluation_seconds")
    seconds = median(sum(run[name] for name in clocks if pd.notna(run[name])) for run in last)
    count = f"{len(last)} finished run{'s' * (len(last) > 1)}"
    return Estimate(seconds, max(run["peak_memory_mb"] for run in last), count)


def measured(cell: Cell, log: Path) -> Estimate:
    """Train a short piece of a cell in a process of its own.

    It ends after some :data:`TRAINING_SECONDS` of training, or with the run if that is shorter, and the rest is taken
    to go on like that: steps up to an epoch, epochs up to the last that the rules allow. A run that ends by its
    patience or target takes less.

    Parameters
    ----------
    cell : Cell
    log : Path
        File for what the process prints.
    """
    found: list[Estimate] = []
    budget = cell.budget
    limits = Limits(budget.get("memory_gb"), min(budget.get("cell_seconds") or math.inf, PROCESS_SECONDS))
    ending = run_in_process(measure, (cell, TRAINING_SECONDS), log, found.append, limits)
    if ending.outcome == "ok":
        return found[-1]
    if ending.outcome == "timeout" and (budget.get("cell_seconds") or math.inf) > PROCESS_SECONDS:
        doing = "evaluate" if found else "load and prepare"
        return Estimate(math.nan, math.nan, f"not known: it took more than {PROCESS_SECONDS:.0f} s to {doing}")
    return Estimate(math.nan, math.nan, f"it failed: {ending.status}")


class _EnoughError(Exception):
    """What ends a measurement."""


@dataclass
class _Piece:
    """A short piece of a run."""

    seconds: float
    points: list[Point] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    began: dict[str, float] = field(default_factory=dict)
    batches: int = 0
    refresh: bool = False
    model: Any = None
    data: Dataset | None = None

    def on_stage(self, name: str) -> None:
        self.began.setdefault(name, perf_counter())

    def on_point(self, point: Point) -> None:
        self.points.append(point)
        self.look_at_the_clock()

    def look_at_the_clock(self) -> None:
        seconds = perf_counter() - self.began["training"]
        few = len(self.points) < _LEAST_EPOCHS
        if seconds > self.seconds * (_TIMES_AS_LONG if few else 1) and (self.points or len(self.steps) > _LEAST_STEPS):
            raise _EnoughError

    def on_built(self, model: torch.nn.Module, sampler: Any, data: Dataset) -> None:
        self.model, self.data, self.refresh = model, data, getattr(sampler, "refresh", False)
        group = getattr(sampler, "batches", split)

        def counting(*arguments: Any, **named: Any) -> Any:
            batches = group(*arguments, **named)
            self.batches = len(batches)
            return batches

        sampler.batches = counting
        model.register_forward_pre_hook(self.before_forward)

    def before_forward(self, model: torch.nn.Module, arguments: Any) -> None:
        if not model.training:
            return
        self.look_at_the_clock()
        self.steps.append(perf_counter())


def measure(send: Send, cell: Cell, seconds: float) -> None:
    """Train a piece of a cell, and send an :class:`Estimate` of the whole; a better one follows.

    Parameters
    ----------
    send : callable
    cell : Cell
    seconds : float
        Of training; less where the run is shorter.
    """
    start = perf_counter()
    piece = _Piece(seconds)
    with suppress(_EnoughError):
        train_cell(cell, piece.on_stage, piece.on_point, piece.on_built)
    before = piece.began["training"] - start  # loading and preparation
    epochs = cell.training["epochs"]
    if piece.points:
        first, last = piece.points[0], piece.points[-1]
        done = len(piece.points)
        train, evaluation = (
            _first_and_later(getattr(first, name), getattr(last, name), done)
            for name in ("train_seconds", "evaluation_seconds")
        )
        source = f"measured, {done} epoch{'s' * (done > 1)}"
    else:
        gaps = [after - before for before, after in zip(piece.steps, piece.steps[1:], strict=False)]
        # The first step makes what later ones find ready.
        epoch = piece.batches * fmean(gaps[1:] or gaps)
        source = f"measured, {len(gaps)} of an epoch's {piece.batches} steps"
        send(Estimate(math.nan, math.nan, source))
        began = perf_counter()
        evaluate(piece.model, piece.data)  # type: ignore[arg-type]
        once = perf_counter() - began
        train, evaluation = ((epoch + once,) * 2, (0.0, 0.0)) if piece.refresh else ((epoch,) * 2, (once,) * 2)
    if bound := cell.training["max_seconds"]:
        epochs = min(epochs, 1 + max(math.ceil((bound - train[0]) / max(train[1], 1e-9)), 0))
    whole = before + sum(once + (epochs - 1) * later for once, later in (train, evaluation))
    if (limit := cell.budget.get("cell_seconds")) and whole > limit:
        whole, source = limit, f"{source}: cell_seconds will end it"
    elif cell.training["patience"] or cell.training["target"]:
        source += "; at most, it may end sooner"
    send(Estimate(whole, peaks(cell.training["device"])["peak_memory_mb"], source))


def _first_and_later(first: float, last: float, done: int) -> tuple[float, float]:
    """Seconds of the first epoch, and of each later one, from the clock after the first and after the last."""
    return first, (last - first) / (done - 1) if done > 1 else first
