"""LADIES, FastGCN, LABOR, GraphSAINT's walks, Cluster-GCN and random walks, beside the same in DGL and torch.

The first four and the walks run on 1 M nodes and 40 M edges with a power law of degrees, Cluster-GCN on 200,000 nodes
and 4.1 M edges in communities, cut into 40 parts by METIS.
"""

from __future__ import annotations

from collections.abc import Iterator

import measure
import torch
from graphs import communities, dgl_graph, power_law
from measure import OURS, Line, Settings, Way
from neighbor import as_blocks
from torch import Tensor

import gnnscale as gs
from gnnscale._dgl import dgl
from gnnscale.blocks import to_blocks
from gnnscale.csc import CSC
from gnnscale.ops.walks import random_walks
from gnnscale.samplers.partition import partition

WORK = "samplers"


def lines(settings: Settings) -> Iterator[Line]:
    yield from on_power_law(settings)
    yield from clusters(settings)


def on_power_law(settings: Settings) -> Iterator[Line]:
    graph = dgl_graph(*power_law(settings.size(1_000_000), settings.size(40_000_000)))
    num_nodes, repeats = graph.num_nodes(), settings.repeats(12)
    generator = torch.Generator().manual_seed(0)
    size = min(512, num_nodes // 4)
    seeds = [torch.randperm(num_nodes, generator=generator)[:size] for _ in range(repeats + 2)]
    csc = CSC.of(graph)

    def compare(case: str, sampler: gs.samplers.Sampler, peer: str, way: Way) -> Iterator[Line]:
        sampler.num_threads = settings.threads
        ways = {
            OURS: lambda n: sampler.draw(csc, seeds[n], n),
            "gnnscale, DGL blocks made too": lambda n: as_blocks(graph, sampler.draw(csc, seeds[n], n)),
            peer: way,
        }
        yield from measure.compare(WORK, case, ways, repeats, threads=settings.threads)

    theirs = DGLLayerwise(graph, sizes=[size, size])
    ladies = gs.samplers.LADIESSampler([size, size])
    yield from compare("LADIES [512, 512]", ladies, "DGL calls", lambda n: theirs.ladies(seeds[n]))
    fastgcn = gs.samplers.FastGCNSampler([size, size])
    fastgcn.prepare(graph, seeds[0], size)
    yield from compare("FastGCN [512, 512]", fastgcn, "DGL calls", lambda n: theirs.fastgcn(seeds[n]))
    labor = dgl.dataloading.LaborSampler([10, 10])
    yield from compare(
        "LABOR [10, 10]", gs.samplers.LaborSampler([10, 10]), "DGL", lambda n: labor.sample_blocks(graph, seeds[n])
    )
    yield from saint(settings, graph, csc, repeats)
    yield from walks(settings, graph, csc, repeats)


def saint(settings: Settings, graph: dgl.DGLGraph, csc: CSC, repeats: int) -> Iterator[Line]:
    """2,000 roots, walks of 2 steps, and all edges among the nodes met. Ours also gives its weights of edges and nodes.

    Both walk along the in-edges: DGL's sampler, which follows out-edges, is given the graph turned round.
    """
    roots = min(2000, graph.num_nodes() // 4)
    ours = gs.samplers.SAINTSampler("walk", walk_length=2, coverage=0.1)  # the weights' quality costs no time here
    ours.num_threads = settings.threads
    ours.prepare(graph, csc.nodes, roots)
    seeds = ours.batches(csc.nodes, roots, True, False, torch.Generator().manual_seed(0))
    turned = dgl.reverse(graph)
    turned.create_formats_()
    theirs = dgl.dataloading.SAINTSampler("walk", (roots, 2), cache=False)
    ways: dict[str, Way] = {
        OURS: lambda n: ours.draw(csc, seeds[n % len(seeds)], n),
        "gnnscale, DGL blocks made too": lambda n: to_blocks(graph, ours.draw(csc, seeds[n % len(seeds)], n), 2),
        "DGL": lambda n: theirs.sample(turned, None),
    }
    yield from measure.compare(WORK, "GraphSAINT, walks", ways, repeats, threads=settings.threads)


def walks(settings: Settings, graph: dgl.DGLGraph, csc: CSC, repeats: int) -> Iterator[Line]:
    turned = dgl.reverse(graph)
    turned.create_formats_()
    generator = torch.Generator().manual_seed(0)
    starts = torch.randint(graph.num_nodes(), (settings.size(100_000),), generator=generator)
    ways: dict[str, Way] = {
        OURS: lambda n: random_walks(csc, starts, 10, key=n, num_threads=settings.threads),
        "DGL": lambda n: dgl.sampling.random_walk(turned, starts, length=10),
    }
    found = measure.compare(WORK, "100,000 walks of 10 steps", ways, repeats, threads=settings.threads)
    yield from measure.with_rates(found, starts.numel() * 10 / 1e6, "M steps/s")


def clusters(settings: Settings) -> Iterator[Line]:
    """What DGL's ClusterGCNSampler does for a batch is to take the subgraph of its parts' nodes."""
    data = communities(settings.size(200_000), settings.size(4_100_000), 128)
    graph = data.graph.formats(["csc", "csr", "coo"])
    graph.create_formats_()
    bare = dgl.graph(graph.edges(), num_nodes=graph.num_nodes())  # without features, which neither copies here
    bare.create_formats_()
    parts = partition(graph, 40)
    members = [(parts == part).nonzero().squeeze(1) for part in range(40)]
    repeats = settings.repeats(12)
    generator = torch.Generator().manual_seed(0)
    ours = gs.samplers.ClusterGCNSampler(40)
    ours.num_threads = settings.threads
    ours.prepare(graph, data.train_ids, 10)
    csc = CSC.of(graph)
    for count in (1, 10):
        chosen = [torch.randperm(40, generator=generator)[:count] for _ in range(repeats + 2)]

        def subgraph(n: int, chosen: list[Tensor] = chosen) -> dgl.DGLGraph:
            return bare.subgraph(torch.cat([members[part] for part in chosen[n].tolist()]), relabel_nodes=True)

        ways: dict[str, Way] = {
            OURS: lambda n, chosen=chosen: ours.draw(csc, chosen[n], n),  # type: ignore[misc]
            "DGL": subgraph,
        }
        case = f"Cluster-GCN, {count} of 40 parts"
        yield from measure.compare(WORK, case, ways, repeats, threads=settings.threads)


class DGLLayerwise:
    """LADIES and FastGCN as one writes them with DGL's calls, Â and what depends on it alone computed beforehand."""

    def __init__(self, graph: dgl.DGLGraph, sizes: list[int]) -> None:
        self.graph, self.sizes = graph, sizes
        scale = (graph.in_degrees().float() + 1).rsqrt()
        sources, destinations = graph.edges(order="eid")
        self.weight = scale[sources] * scale[destinations]  # Â of each edge
        graph = graph.local_var()
        chance = torch.zeros(graph.num_nodes()).index_add_(0, sources, self.weight.square())
        self.chance = chance / chance.sum()
        self.cumulative = self.chance.double().cumsum(0)

    def ladies(self, seeds: Tensor) -> list[dgl.DGLGraph]:
        blocks: list[dgl.DGLGraph] = []
        for size in self.sizes:
            around = dgl.in_subgraph(self.graph, seeds)
            weight = self.weight[around.edata[dgl.EID]]
            # The candidates, numbered from 0, the seeds first.
            block = dgl.to_block(around, seeds)
            weight = weight[block.edata[dgl.EID]]
            sources, destinations = block.edges()
            chance = torch.zeros(block.num_src_nodes()).index_add_(0, sources, weight.square())
            drawn = torch.multinomial(chance, min(size, int(chance.count_nonzero())))
            is_drawn = torch.zeros_like(chance, dtype=torch.bool)
            is_drawn[drawn] = True
            keep = is_drawn[sources]
            estimate = weight[keep] / chance[sources[keep]]
            sums = torch.zeros(block.num_dst_nodes()).index_add_(0, destinations[keep], estimate)
            estimate = estimate / sums[destinations[keep]]
            names = block.srcdata[dgl.NID]
            kept = dgl.graph((names[sources[keep]], seeds[destinations[keep]]), num_nodes=self.graph.num_nodes())
            blocks.insert(0, with_weight(dgl.to_block(kept, seeds), estimate))
            seeds = blocks[0].srcdata[dgl.NID]
        return blocks

    def fastgcn(self, seeds: Tensor) -> list[dgl.DGLGraph]:
        blocks: list[dgl.DGLGraph] = []
        for size in self.sizes:
            points = torch.rand(size, dtype=torch.float64) * self.cumulative[-1]
            times = torch.zeros(self.graph.num_nodes())
            drawn = torch.searchsorted(self.cumulative, points, right=True)
            times.index_add_(0, drawn, torch.ones(size))
            sources, destinations, ids = self.graph.in_edges(seeds, form="all")
            keep = times[sources] > 0
            sources, destinations, ids = sources[keep], destinations[keep], ids[keep]
            estimate = self.weight[ids] * times[sources] / (size * self.chance[sources])
            kept = dgl.graph((sources, destinations), num_nodes=self.graph.num_nodes())
            blocks.insert(0, with_weight(dgl.to_block(kept, seeds), estimate))
            seeds = blocks[0].srcdata[dgl.NID]
        return blocks


def with_weight(block: dgl.DGLGraph, weight: Tensor) -> dgl.DGLGraph:
    block.edata["weight"] = weight[block.edata[dgl.EID]]
    return block


if __name__ == "__main__":
    measure.main(lines)
