"""Batches drawn by a GPU against 16 threads of the CPU, and against DGL's samplers there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

import gnnscale as gs
from gnnscale._dgl import dgl
from gnnscale.csc import CSC
from gnnscale.ops.walks import random_walks

Line = tuple[str, str, str, str]
Way = Callable[[int], object]
Medians = Callable[[Mapping[str, Way], int], dict[str, float]]

NUM_WALKS = 1_000_000

# Name, what makes the sampler, seeds a batch, and DGL's sampler where it has one; fan-outs from the input inwards.
SAMPLERS: tuple[tuple[str, Callable[[], gs.samplers.Sampler], int, Callable[[], object] | None], ...] = (
    ("neighbor [10, 10]", lambda: gs.samplers.NeighborSampler([10, 10]), 1024,
     lambda: dgl.dataloading.NeighborSampler([10, 10])),
    ("neighbor [5, 10, 15]", lambda: gs.samplers.NeighborSampler([5, 10, 15]), 1024,
     lambda: dgl.dataloading.NeighborSampler([5, 10, 15])),
    ("neighbor [10, 10]", lambda: gs.samplers.NeighborSampler([10, 10]), 8192,
     lambda: dgl.dataloading.NeighborSampler([10, 10])),
    ("labor [10, 10]", lambda: gs.samplers.LaborSampler([10, 10]), 1024,
     lambda: dgl.dataloading.LaborSampler([10, 10])),
    ("labor-1 [10, 10]", lambda: gs.samplers.LaborSampler([10, 10], importance_sampling=1), 1024,
     lambda: dgl.dataloading.LaborSampler([10, 10], importance_sampling=1)),
    ("ladies [512, 512]", lambda: gs.samplers.LADIESSampler([512, 512]), 512, None),
    ("fastgcn [512, 512]", lambda: gs.samplers.FastGCNSampler([512, 512]), 512, None),
    ("pinsage [10, 10]", lambda: gs.samplers.PinSAGESampler([10, 10]), 512, None),
    ("halo of 1 part of 100", lambda: gs.samplers.GASSampler(100, partition="random"), 1, None),
    ("subgraph of 10 parts of 100", lambda: gs.samplers.ClusterGCNSampler(100, partition="random"), 10, None),
)  # fmt: skip


def lines(arrays: tuple[Tensor, Tensor], repeats: int, medians: Medians) -> Iterator[Line]:
    """The lines for a graph given by its in-edges: pointers (int64) and sources."""
    indptr, indices = arrays
    num_nodes, threads = len(indptr) - 1, min(os.cpu_count() or 1, 16)
    torch.set_num_threads(threads)
    graph = dgl.graph(("csc", (indptr, indices.long(), torch.empty(0, dtype=torch.int64))), num_nodes=num_nodes)
    device = torch.device("cuda", torch.cuda.current_device())
    csc = CSC.of(graph)
    places = {"device": csc.on(device), "pinned": csc.on(device, pinned=True)}
    everything, generator = torch.arange(num_nodes), torch.Generator().manual_seed(0)
    for name, make, size, theirs in SAMPLERS:
        sampler = make()
        sampler.kept_bytes = 0  # type: ignore[attr-defined]  # batches that come again are drawn again
        sampler.num_threads = threads
        size = min(size, num_nodes // 4)
        sampler.prepare(graph, everything, size)
        seeds = sampler.batches(everything, size, True, False, generator)[: repeats + 1]

        def drawn(n: int, where: CSC, sampler: gs.samplers.Sampler, seeds: list[Tensor]) -> object:
            return sampler.draw(where, seeds[n % len(seeds)], n)

        ways: dict[str, Way] = {"CPU": partial(drawn, where=csc, sampler=sampler, seeds=seeds)}
        ways |= {place: partial(drawn, where=c, sampler=sampler, seeds=seeds) for place, c in places.items()}
        if theirs is not None:
            ways["DGL"] = partial(of_dgl, sampler=theirs(), graph=graph, seeds=seeds)
        seconds = medians(ways, repeats)
        for place in places:
            beside = "".join(f", {who} {1e3 * seconds[who]:.2f}" for who in ("DGL",) if who in seconds)
            yield (
                f"{name}, {size} seeds, graph {'on the device' if place == 'device' else 'pinned'}",
                f"{1e3 * seconds[place]:.2f} ms, {threads} CPU threads {1e3 * seconds['CPU']:.2f}{beside}",
                " / ".join(f"{seconds[who] / seconds[place]:.1f} ×" for who in ("CPU", "DGL") if who in seconds),
                "10 ×" if place == "device" else "",
            )
    yield from walk_lines(csc, places["device"], repeats, medians, threads)


def of_dgl(n: int, sampler: object, graph: dgl.DGLGraph, seeds: list[Tensor]) -> object:
    return sampler.sample_blocks(graph, seeds[n % len(seeds)])  # type: ignore[attr-defined]


def walk_lines(csc: CSC, there: CSC, repeats: int, medians: Medians, threads: int) -> Iterator[Line]:
    """Walks as they come, and sorted by the node that they are at before each step (NextDoor's transit vertices)."""
    starts = torch.randint(csc.num_nodes, (NUM_WALKS,))
    started = starts.to(there.device)

    def grouped(n: int) -> Tensor:
        nodes = started
        for t in range(4):
            nodes = random_walks(there, nodes.sort().values, 1, key=n + t)[:, 1]
            nodes = torch.where(nodes < 0, 0, nodes)
        return nodes

    seconds = medians(
        {
            "CPU": lambda n: random_walks(csc, starts, 4, key=n, num_threads=threads),
            "as they come": lambda n: random_walks(there, started, 4, key=n),
            "grouped": grouped,
        },
        repeats,
    )
    for who, wanted in (("as they come", "10 ×"), ("grouped", "")):
        yield (
            f"{NUM_WALKS} random walks of 4 steps, {who}",
            f"{1e3 * seconds[who]:.2f} ms, {threads} CPU threads {1e3 * seconds['CPU']:.2f}",
            f"{seconds['CPU'] / seconds[who]:.1f} ×",
            wanted,
        )
