"""An epoch of GNNAutoScale beside PyGAS: a large graph in communities, and Cora and CiteSeer.

Large: 200,000 nodes, 4.1 M edges, 128 features, a GCN of 3 layers of 256 columns, 40 METIS parts, 1 or 10 of them a
step. Small: the GCN of GAS's table of small graphs, with its settings, on one thread. Ours is ``gs.train``. Seconds
are those of an epoch's training steps; "with evaluation" adds the pass that rewrites the histories after each epoch.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import measure
import torch
from graphs import communities
from measure import MISSING, OURS, Line, Settings, seconds_of
from pygas import PyGAS, is_there

import gnnscale as gs
from gnnscale.samplers.partition import partition

PEER = "PyGAS"


def large(settings: Settings) -> Iterator[Line]:
    data = communities(settings.size(200_000), settings.size(4_100_000), 128)
    parts = partition(data.graph, 40)
    for batch_size, dropout in ((1, 0.5), (10, 0.5), (10, 0.0)):
        case = f"{batch_size} of 40 parts a step" + ("" if dropout else ", without dropout")
        yield from epochs(
            "GAS epoch, large", case, data, parts, batch_size=batch_size, rounds=2, length=1, threads=settings.threads,
            hidden=256, num_layers=3, dropout=dropout,
        )  # fmt: skip


def small(settings: Settings) -> Iterator[Line]:
    torch.set_num_threads(1)
    for name, num_parts, batch_size, clip_norm in (("cora", 40, 10, 1.0), ("citeseer", 24, 8, None)):
        try:
            data = gs.load(name, settings.data_dir)
        except FileNotFoundError as error:
            for who in (OURS, PEER):
                yield Line("GAS epoch, small", name, who, math.nan, repeats=0, note=str(error))
            continue
        parts = partition(data.graph, num_parts)
        for evaluated in (False, True):
            case = name.capitalize().replace("seer", "Seer") + (", with evaluation" if evaluated else "")
            yield from epochs(
                "GAS epoch, small", case, data, parts, batch_size=batch_size, rounds=3, length=settings.repeats(12),
                threads=1, evaluated=evaluated, clip_norm=clip_norm, hidden=16, num_layers=2, dropout=0.5,
            )  # fmt: skip


def epochs(
    work: str, case: str, data: gs.Dataset, parts: torch.Tensor, *, batch_size: int, rounds: int, length: int,
    threads: int, hidden: int, num_layers: int, dropout: float, evaluated: bool = False, clip_norm: float | None = None,
) -> Iterator[Line]:  # fmt: skip
    """Runs of ``length`` epochs take turns; the first epoch of each warms up."""
    model: dict[str, Any] = {"num_layers": num_layers, "dropout": dropout}
    theirs = None
    if is_there():
        theirs = PyGAS(data, parts, batch_size=batch_size, clip_norm=clip_norm, hidden_channels=hidden, **model)
    sampler = gs.samplers.GASSampler(int(parts.max()) + 1, refresh=evaluated)
    seconds: dict[str, list[float]] = {OURS: [], PEER: []}
    for number in range(rounds):
        torch.manual_seed(number)
        ours = gs.nn.GCN(data.num_features, hidden, data.num_classes, **model)
        result = gs.train(ours, data, sampler, epochs=length + 1, batch_size=batch_size, clip_norm=clip_norm)
        ends = [point.train_seconds for point in result.points]
        seconds[OURS] += [end - start for start, end in pairwise(ends)]
        if theirs is not None:
            if number == 0 and length > 1:  # the large graph needs no warming up
                theirs.epoch()
            for _ in range(length):
                taken = seconds_of(theirs.epoch)
                seconds[PEER].append(taken + seconds_of(theirs.refresh) if evaluated else taken)
    for who, times in seconds.items():
        if times:
            yield Line(work, case, who, statistics.median(times), repeats=len(times), threads=threads)
        else:
            yield Line(work, case, who, math.nan, repeats=0, threads=threads, note=MISSING)


def lines(settings: Settings) -> Iterator[Line]:
    yield from large(settings)
    yield from small(settings)


if __name__ == "__main__":
    measure.main(lines)
