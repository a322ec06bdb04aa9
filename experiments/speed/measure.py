"""How the benchmarks measure: ways that take turns, medians, and one line a result."""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import torch

OURS = "gnnscale"
MISSING = "not installed"

#: Seconds that a way has before its turn counts. OpenMP's threads (torch's, DGL's) look for more work for some
#: milliseconds after they have had some, on cores that the next way would then not have.
SETTLE = 0.03

Way = Callable[[int], object]
"""Does the work once; it is given the number of the round, which says on what."""


@dataclass(frozen=True)
class Line:
    """One result.

    Attributes
    ----------
    work, case, who : str
        What was done, on what, and by whom; ``OURS`` stands for gnnscale.
    value : float
        The median, NaN where there is none.
    unit : str
        Of the value; "s" for seconds.
    repeats, threads : int
        Of how many rounds the median is, and how many threads they used.
    note : str
        Anything else.
    """

    work: str
    case: str
    who: str
    value: float
    unit: str = "s"
    repeats: int = 1
    threads: int = 1
    note: str = ""

    @property
    def is_missing(self) -> bool:
        return math.isnan(self.value)


@dataclass(frozen=True)
class Settings:
    """How large the work is, and where things are.

    Attributes
    ----------
    scale : float
        Factor of the sizes; 1 is what the published numbers are of.
    threads : int
        Of everything that is measured, unless the work says otherwise.
    data_dir : str or None
        Folder with the files of Cora and CiteSeer.
    """

    scale: float = 1.0
    threads: int = 2
    data_dir: str | None = None

    def size(self, full: int, least: int = 1) -> int:
        """``full`` scaled, even, and not below ``least``."""
        return max(least, 2 * round(full * self.scale / 2))

    def repeats(self, full: int) -> int:
        """Rounds: fewer where the work is scaled down, because a look is all that is wanted then."""
        return full if self.scale >= 1 else max(2, full // 3)


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    del result  # giving memory back is not part of the work
    return seconds


def medians(ways: Mapping[str, Way], repeats: int, warm_up: int = 2) -> dict[str, float]:
    """Each way's median seconds.

    They take turns, so that a busy machine slows all of them, and another one begins each round, so that none always
    finds in the caches what the one before it read; the first rounds warm up.
    """
    names, rounds = list(ways), repeats + warm_up
    seconds: dict[str, list[float]] = {who: [] for who in ways}
    for number in range(rounds):
        first = number % len(names)
        for who in names[first:] + names[:first]:
            settle(ways[who], seconds[who], number, rounds)
            seconds[who].append(seconds_of(partial(ways[who], number)))
    return {who: statistics.median(times[warm_up:]) for who, times in seconds.items()}


def settle(way: Way, seconds: list[float], number: int, rounds: int) -> None:
    """Let the threads of whoever came before fall asleep, and keep this way's awake where that takes little time."""
    end = time.perf_counter() + SETTLE
    is_short = bool(seconds) and seconds[-1] < SETTLE / 2
    for other in itertools.count(number + 1):
        if time.perf_counter() > end:
            return
        if is_short:
            way(other % rounds)  # another round's work, lest this one's lies in the caches


def compare(
    work: str, case: str, ways: Mapping[str, Way | None], repeats: int, *, threads: int, warm_up: int = 2
) -> Iterator[Line]:
    """A line for each way; None stands for one whose library is missing."""
    there = {who: way for who, way in ways.items() if way is not None}
    found = medians(there, repeats, warm_up)
    for who in ways:
        line = Line(work, case, who, found.get(who, math.nan), repeats=repeats, threads=threads)
        yield line if who in found else replace(line, repeats=0, note=MISSING)


def with_rates(lines: Iterator[Line], amount: float, unit: str) -> Iterator[Line]:
    """The lines, with how much a second was done in their notes."""
    for line in lines:
        yield line if line.is_missing else replace(line, note=f"{amount / line.value:.1f} {unit}")


def main(work: Callable[[Settings], Iterator[Line]]) -> None:
    """Run one file's work from the command line; every line is written as soon as it is there."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the sizes")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--data-dir", help="folder with the files of Cora and CiteSeer")
    parser.add_argument("--out", type=Path, help="CSV file to append the lines to")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for line in work(Settings(args.scale, args.threads, args.data_dir)):
        shown = f"{line.value:.4g} {line.unit}" if not line.is_missing else ""
        print(f"{line.work} | {line.case} | {line.who}: {shown} {line.note}".rstrip(), flush=True)
        if args.out is not None:
            append(args.out, line)


def append(path: Path, line: Line) -> None:
    """Add a line to a CSV file."""
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Line)])
        if is_new:
            writer.writeheader()
        writer.writerow(asdict(line))
