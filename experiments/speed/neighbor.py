"""Neighbour sampling from seeds to usable layers, beside DGL's and PyG's samplers.

A graph of 1 M nodes and 40 M edges with a power law of degrees; 1,024 seeds a batch, other ones in each round.
"""

from __future__ import annotations

from collections.abc import Iterator

import measure
import peers
import torch
from graphs import dgl_graph, power_law
from measure import OURS, Line, Settings, Way
from torch import Tensor

import gnnscale as gs
from gnnscale._dgl import dgl
from gnnscale.csc import CSC

WORK = "neighbour sampling"
FANOUTS = ([10, 10], [25, 10], [15, 10, 5])  # of the seeds first, as papers write them


def lines(settings: Settings) -> Iterator[Line]:
    indptr, indices = power_law(settings.size(1_000_000), settings.size(40_000_000))
    graph = dgl_graph(indptr, indices)
    num_nodes = graph.num_nodes()
    repeats = settings.repeats(10)
    generator = torch.Generator().manual_seed(0)
    num_seeds = min(1024, num_nodes // 4)
    seeds = [torch.randperm(num_nodes, generator=generator)[:num_seeds] for _ in range(repeats + 2)]
    csc = CSC.of(graph)
    pyg = peers.find("torch_geometric.sampler")
    for fanouts in FANOUTS:
        ours = gs.samplers.NeighborSampler(fanouts[::-1])
        ours.num_threads = settings.threads
        theirs = dgl.dataloading.NeighborSampler(fanouts[::-1])
        edges = sum(a.hop.indices.numel() for a in ours.draw(csc, seeds[0], 0).adjacencies)
        found = measure.compare(
            WORK,
            str(fanouts),
            {
                OURS: lambda n, ours=ours: ours.draw(csc, seeds[n], n),
                "gnnscale, DGL blocks made too": lambda n, ours=ours: as_blocks(graph, ours.draw(csc, seeds[n], n)),
                "DGL": lambda n, theirs=theirs: theirs.sample_blocks(graph, seeds[n]),
                "PyG with torch-sparse": pyg and pyg_way(indptr, indices, fanouts, seeds),
            },
            repeats,
            threads=settings.threads,
        )
        yield from measure.with_rates(found, edges / 1e6, "M edges/s")


def as_blocks(graph: dgl.DGLGraph, sample: gs.samplers.Sample) -> list[dgl.DGLGraph]:
    from gnnscale.blocks import to_blocks

    return to_blocks(graph, sample, len(sample.adjacencies))


def pyg_way(indptr: Tensor, indices: Tensor, fanouts: list[int], seeds: list[Tensor]) -> Way | None:
    """PyG's sampler on the same in-edges; one thread is all that torch-sparse's takes."""
    if peers.find("torch_sparse") is None:
        return None
    from torch_geometric.data import Data
    from torch_geometric.sampler import NeighborSampler, NodeSamplerInput
    from torch_sparse import SparseTensor

    num_nodes = indptr.numel() - 1
    adjacency = SparseTensor(rowptr=indptr, col=indices.long(), sparse_sizes=(num_nodes, num_nodes), is_sorted=True)
    sampler = NeighborSampler(Data(adj_t=adjacency, num_nodes=num_nodes), num_neighbors=fanouts)
    return lambda n: sampler.sample_from_nodes(NodeSamplerInput(input_id=None, node=seeds[n]))


if __name__ == "__main__":
    measure.main(lines)
