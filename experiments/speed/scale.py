"""Neighbour sampling on R-MAT graphs from 50,000 nodes to 5 M nodes and 250 M edges: time, memory, core-seconds.

A GCN of 2 layers, 64 columns and 100 features, fan-outs [10, 10], 1,000 seeds a batch; an epoch over 1 % and over 10 %
of the nodes. DGL's text (2019) has 4.7 s on 64 cores and 8 GB for 5 M nodes and 250 M edges. Each size runs in a
process of its own, whose largest resident memory is reported: of generating the graph, and of training.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import measure
import torch
from measure import OURS, Line, Settings

import gnnscale as gs

WORK = "R-MAT"
NODES = (50_000, 150_000, 500_000, 1_500_000, 5_000_000)
EDGES_A_NODE = 50
PEER_CORE_SECONDS = 4.7 * 64


def lines(settings: Settings) -> Iterator[Line]:
    for full in NODES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            try:
                yield from pool.apply(one_size, (full, settings))
            except (ValueError, MemoryError) as error:
                yield Line(WORK, shown(full), OURS, math.nan, repeats=0, note=str(error))


def shown(num_nodes: int) -> str:
    return f"{num_nodes:,} nodes, {EDGES_A_NODE * num_nodes:,} edges"


def one_size(full: int, settings: Settings) -> list[Line]:
    torch.set_num_threads(settings.threads)
    num_nodes, case = settings.size(full, 2000), shown(full)
    start = time.perf_counter()
    data = gs.load("rmat", num_nodes=num_nodes, num_edges=EDGES_A_NODE * num_nodes, num_features=100)
    common = {"threads": settings.threads}
    found = [
        Line(WORK, f"{case}: generating", OURS, time.perf_counter() - start, **common),
        Line(WORK, f"{case}: memory of generating", OURS, peak_memory(), "GB", **common),
    ]
    forget_peak()
    for share in (100, 10):
        torch.manual_seed(0)
        ids = data.train_ids[:: share // 10]  # one node in ten trains
        sampler = gs.samplers.NeighborSampler([10, 10])
        loader = gs.DataLoader(data.graph, ids, sampler, batch_size=1000, shuffle=True)
        model = gs.nn.GCN(data.num_features, 64, data.num_classes)
        optimizer = torch.optim.Adam(model.parameters())
        for batch in loader:  # warms up
            batch.loss(model(batch, batch.x)).backward()
            break
        start, start_cores = time.perf_counter(), time.process_time()
        for batch in loader:
            loss = batch.loss(model(batch, batch.x))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds, cores = time.perf_counter() - start, time.process_time() - start_cores
        name = f"{case}: epoch over {100 // share} % of the nodes"
        note = f"{cores:.1f} core-seconds" + (f" (DGL's text: {PEER_CORE_SECONDS:.0f})" if full == NODES[-1] else "")
        found += [
            Line(WORK, name, OURS, seconds, note=note, **common),
            Line(WORK, f"{name}, memory", OURS, peak_memory(), "GB", **common),
        ]
    return found


def peak_memory() -> float:
    """The largest resident memory of this process since :func:`forget_peak`, in GB."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith("VmHWM")), math.nan)


def forget_peak() -> None:
    """Start anew, from the memory that is resident now."""
    with suppress(OSError):  # the peak is then that of the whole process
        Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    measure.main(lines)
