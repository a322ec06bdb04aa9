"""Neighbour sampling: gnnscale against DGL, on a power-law graph.

Both draw the same number of edges from the same graph; DGL's time includes its blocks, gnnscale's the sampled
layers as CSR. The two take turns, so that a busy machine slows both; medians are shown.

    python experiments/speed/sampling.py --nodes 1000000 --edges 40000000
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gnnscale import ops
from gnnscale._dgl import dgl
from gnnscale.ops.random import key_of

Way = Callable[[Tensor, int], int]  # (seeds, key) -> edges sampled


def power_law_graph(num_nodes: int, num_edges: int) -> "dgl.DGLGraph":
    """Draw both ends of every edge with probability falling as rank ** -0.5, the ranks shuffled."""
    rng = np.random.default_rng(0)
    ends = (num_nodes * rng.random((2, num_edges)) ** 2).astype(np.int32)
    shuffled = rng.permutation(num_nodes).astype(np.int32)
    src, dst = torch.from_numpy(shuffled[ends])
    return dgl.graph((src, dst), num_nodes=num_nodes, idtype=torch.int64).formats("csc")


def compare(ways: list[Way], num_nodes: int, num_seeds: int, repeats: int) -> tuple[list[float], int]:
    """Give each way's median speed in million edges a second, and the edges of one sample."""
    speeds: list[list[float]] = [[] for _ in ways]
    edges = 0
    for repeat in range(repeats + 2):
        seeds = torch.randperm(num_nodes)[:num_seeds]
        for speed, way in zip(speeds, ways, strict=True):
            start = time.perf_counter()
            edges = way(seeds, key_of(0, repeat))
            if repeat >= 2:  # the first rounds warm up
                speed.append(edges / (time.perf_counter() - start) / 1e6)
    return [statistics.median(speed) for speed in speeds], edges


def dgl_way(graph: "dgl.DGLGraph", fanouts: list[int]) -> Way:
    # DGL counts its layers from the input; gnnscale from the seeds.
    sampler = dgl.dataloading.NeighborSampler(fanouts[::-1])
    return lambda seeds, key: sum(block.num_edges() for block in sampler.sample_blocks(graph, seeds)[2])


def our_way(indptr: Tensor, indices: Tensor, fanouts: list[int], threads: int) -> Way:
    def sample(seeds: Tensor, key: int) -> int:
        _, hops, _ = ops.sample_neighbors(indptr, indices, seeds, fanouts, key=key, num_threads=threads)
        return sum(len(hop.indices) for hop in hops)

    return sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--edges", type=int, default=40_000_000)
    parser.add_argument("--seeds", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=30)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    graph = power_law_graph(args.nodes, args.edges)
    indptr, indices, _ = graph.adj_tensors("csc")
    narrow = indices.int()

    size = f"{args.nodes:,} nodes, {args.edges:,} edges, {args.seeds:,} seeds"
    table = Table(title=f"Million edges a second (ratio to DGL): {size}")
    table.add_column("fan-outs")
    threads = f"{args.threads} threads"
    for column in (f"DGL, {threads}", "1 thread", threads, f"{threads}, 32-bit graph", "edges"):
        table.add_column(column, justify="right")
    for fanouts in ([10, 10], [25, 10], [15, 10, 5]):
        ways = [
            dgl_way(graph, fanouts),
            our_way(indptr, indices, fanouts, 1),
            our_way(indptr, indices, fanouts, args.threads),
            our_way(indptr, narrow, fanouts, args.threads),
        ]
        speeds, edges = compare(ways, args.nodes, args.seeds, args.repeats)
        table.add_row(str(fanouts), *(f"{s:.1f} (×{s / speeds[0]:.1f})" for s in speeds), f"{edges:,}")
    Console(width=110).print(table)
    print(f"torch {torch.__version__}, DGL {dgl.__version__}, operations: {ops.backend()}")


if __name__ == "__main__":
    main()
