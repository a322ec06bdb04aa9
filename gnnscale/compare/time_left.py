"""How long the rest of a comparison will take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean, median

import pandas as pd

from gnnscale.compare.plan import Cell


class TimeLeft:
    """Guesses from the cells that have ended: those of the same dataset, model and sampler first, else from all.

    Parameters
    ----------
    jobs : int
        Cells that run at once.
    """

    def __init__(self, jobs: int = 1) -> None:
        self._jobs = jobs
        self._seconds: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)

    def found(self, cell: Cell, rows: pd.DataFrame) -> None:
        """A cell that was finished earlier: its clocks stand for the time that nobody measured."""
        last = rows.iloc[-1]
        if last["status"] == "ok":
            clocks = [last[name] for name in ("prepare_seconds", "train_seconds", "evaluation_seconds") if name in rows]
            self.ended(cell, sum(seconds for seconds in clocks if pd.notna(seconds)))

    def ended(self, cell: Cell, seconds: float) -> None:
        """A cell has taken that long, from the start of its process to its end."""
        self._seconds[_combination(cell)].append(seconds)

    def seconds(self, waiting: Iterable[Cell], running: Iterable[tuple[Cell, float, float]]) -> float | None:
        """Seconds until the last cell has ended.

        Parameters
        ----------
        waiting : iterable of Cell
            Those that have not begun.
        running : iterable of (Cell, float, float)
            With each, the seconds since it began, and the share of its epochs that it has done.

        Returns
        -------
        float or None
            None where there is nothing to guess from.
        """
        running = list(running)
        known = {names: median(values) for names, values in self._seconds.items()}
        for cell, elapsed, share in running:
            if share > 0:
                known.setdefault(_combination(cell), elapsed / share)
        if not known:
            return None
        usual = fmean(known.values())
        rest = [
            elapsed * (1 - share) / share if share > 0 else max(known.get(_combination(cell), usual) - elapsed, 0)
            for cell, elapsed, share in running
        ]
        rest += [known.get(_combination(cell), usual) for cell in waiting]
        return max(sum(rest) / self._jobs, *rest) if rest else 0.0


def in_words(seconds: float) -> str:
    """A span of time, roughly.

    Examples
    --------
    >>> in_words(40), in_words(200), in_words(5000), in_words(400_000)
    ('40 s', '3 min', '1.4 h', '4.6 days')
    """
    for unit, size, digits in (("days", 86400, 1), ("h", 3600, 1), ("min", 60, 0)):
        if seconds >= 1.5 * size or (unit == "h" and seconds >= size):
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"


def _combination(cell: Cell) -> tuple[str, str, str]:
    return cell.dataset.label, cell.model.label, cell.sampler.label
