"""What a search tells while it goes, and the files that it leaves."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from gnnscale.compare.display import Display
from gnnscale.compare.results import write_whole
from gnnscale.compare.specification import Specification
from gnnscale.compare.tune import Study, Trial
from gnnscale.compare.written import write_specification


class TuneDisplay(Display):
    """A line for each trial that has ended; at a terminal also a bar of all of them."""

    def __init__(self, console: Console, total: int, live: bool) -> None:
        self.console = console
        self.told = 0
        columns = (TextColumn("trials"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=console, transient=True, disable=not live)
        self.task = self.progress.add_task("trials", total=total)

    def __enter__(self) -> TuneDisplay:
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def say(self, line: str) -> None:
        """Print one line as it is."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def on_round(self, studies: list[Study]) -> None:
        """Tell the trials that are new."""
        number = max(len(study.trials) for study in studies)
        new = [study for study in studies if len(study.trials) == number]
        for study in new:
            self.say(f"[{number}] {study}: {describe_trial(study, study.trials[-1])}")
        self.told += len(new)
        self.progress.update(self.task, completed=self.told)


def describe_trial(study: Study, trial: Trial) -> str:
    """One trial in one line."""
    settings = format_values(trial.values)
    if math.isnan(trial.val):
        return f"{settings}: {trial.status}"
    best = " (the best so far)" if trial is study.best else ""
    return f"{settings}: validation {100 * trial.val:.2f} %{best}, {trial.seconds:.3g} s"


def format_values(values: dict[tuple[str, str], Any]) -> str:
    """Settings in one line.

    Examples
    --------
    >>> format_values({("train", "lr"): 0.012345, ("sampler", "fanouts"): [5, 5]})
    'lr = 0.0123, fanouts = [5, 5]'
    """
    if not values:
        return "nothing to search"
    return ", ".join(f"{name} = {round_off(value)}" for (_, name), value in values.items())


def round_off(value: Any) -> Any:
    """A number with three digits; anything else as it is."""
    return float(f"{value:.3g}") if isinstance(value, float) else value


def best_table(studies: Iterable[Study]) -> Table:
    """The best trial of each combination beside its own settings, which were the first trial."""
    table = Table(box=box.SIMPLE_HEAD, title="best by validation; the test metric took no part")
    for name in ("dataset", "model", "sampler", "trials", "seconds", "first %", "best %", "settings"):
        table.add_column(name, justify="right" if name in ("trials", "seconds", "first %", "best %") else "left")
    for study in studies:
        combination, best = study.combination, study.best
        first = study.trials[0].val if study.trials else math.nan
        table.add_row(
            combination.dataset.label,
            combination.model.label,
            combination.sampler.label,
            str(len(study.trials)),
            f"{study.seconds:.3g}",
            _percent(first),
            _percent(best.val if best else math.nan),
            format_values(best.values) if best else study.trials[-1].status,
        )
    return table


def _percent(value: float) -> str:
    return "" if math.isnan(value) else f"{100 * value:.2f}"


def trials_frame(studies: Iterable[Study]) -> pd.DataFrame:
    """One row a trial: what it was for, its number, what it came to, and its settings."""
    rows = []
    for study in studies:
        combination = study.combination
        for trial in study.trials:
            rows.append(
                {
                    "dataset": combination.dataset.label,
                    "model": combination.model.label,
                    "sampler": combination.sampler.label,
                    "trial": trial.number,
                    "best": trial is study.best,
                    "val": trial.val,
                    "val_std": trial.val_std,
                    "train_seconds": trial.seconds,
                    "status": trial.status,
                    **{".".join(key): value for key, value in trial.values.items()},
                }
            )
    return pd.DataFrame(rows)


def write_trials(studies: Iterable[Study], folder: Path) -> Path:
    """Write :func:`trials_frame` as trials.csv; the file appears whole or not at all."""
    frame, path = trials_frame(studies), folder / "trials.csv"
    write_whole(path, lambda temporary: frame.to_csv(temporary, index=False))
    return path


def write_tuned(specification: Specification, studies: Iterable[Study], folder: Path) -> Path:
    """Write tuned.toml: the comparison with the best settings of each combination, ready for ``gnnscale compare``."""
    path = folder / "tuned.toml"
    content = {key: value for key, value in specification.content.items() if key != "tune"}
    write_specification(replace(specification, content=content), path, cases_of(studies))
    return path


def cases_of(studies: Iterable[Study]) -> list[dict[str, Any]]:
    """A ``[[case]]`` with the best settings of each combination that has any."""
    cases = []
    for study in studies:
        if study.best is None or not study.best.values:
            continue
        combination = study.combination
        case: dict[str, Any] = {
            "for": {
                "dataset": combination.dataset.label,
                "model": combination.model.label,
                "sampler": combination.sampler.label,
            }
        }
        for (table, name), value in study.best.values.items():
            case.setdefault(table, {})[name] = value
        cases.append(case)
    return cases
