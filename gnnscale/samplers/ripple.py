"""Subgraphs that grow from a node like a ripple (Ripple Walk Training)."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnscale._dgl import dgl
from gnnscale.adjacency import Adjacency
from gnnscale.checks import check_count, check_num_layers, check_share
from gnnscale.csc import CSC
from gnnscale.ops.positions import ranges
from gnnscale.ops.random import as_signed, fold, key_of
from gnnscale.samplers.base import Sample, Sampler
from gnnscale.samplers.cluster import inside_degree
from gnnscale.samplers.edges import induced


class RippleWalkSampler(Sampler):
    """Subgraphs grown from a start node by random shares of their neighbours (Bai, Ren and Zhang, IJCNN 2021).

    A ripple walk begins with one node. In each step a random share ``expansion`` of the subgraph's neighbours, at
    least one of them, joins it, until it has ``size`` nodes: a share near 0 makes it a random walk, 1 a
    breadth-first search. The batch is the subgraph induced by the nodes of ``batch_size`` walks (the authors train on
    several at a step as well), normalised by the degrees inside it; its loss is that of its training nodes.

    Where the paper leaves it open: neighbours are in-neighbours, the nodes that messages come from. A walk that has
    no neighbour left goes on from a node drawn at random from the rest of the graph, so that batches have one
    size. Walks start at training nodes and not at any node, so that every batch has one. An epoch has
    ⌈N / (size · batch_size)⌉ batches: as many nodes as the graph has.

    Parameters
    ----------
    size : int, default 1000
        Nodes of a walk; of a graph with fewer, all.
    expansion : float, default 0.5
        The share of neighbours that joins in each step, the paper's r.
    num_layers : int, optional
        Number of blocks when a batch is unpacked the DGL way; gnnscale's models need none.

    Raises
    ------
    ValueError
        If ``size`` is no positive integer, or ``expansion`` is not in (0, 1].

    Examples
    --------
    >>> import gnnscale as gs
    >>> from gnnscale.samplers.ripple import RippleWalkSampler
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> loader = gs.DataLoader(data.graph, data.train_ids, RippleWalkSampler(size=300))
    >>> [len(batch.output_nodes) for batch in loader]
    [300, 300, 300, 300]
    """

    default_batch_size = 1
    estimate = "subgraph"

    def __init__(self, size: int = 1000, *, expansion: float = 0.5, num_layers: int | None = None) -> None:
        self.size = check_count("size", size)
        self.expansion = check_share("expansion", expansion, "more than 0 and at most 1", one=True)
        self.num_layers = check_num_layers(num_layers)

    def __repr__(self) -> str:
        return f"RippleWalkSampler(size={self.size}, expansion={self.expansion})"

    def prepare(self, graph: dgl.DGLGraph, indices: Tensor, batch_size: int) -> None:
        self._num_nodes = graph.num_nodes()

    def batches(
        self, indices: Tensor, batch_size: int, shuffle: bool, drop_last: bool, generator: torch.Generator
    ) -> list[Tensor]:
        """The start nodes of each batch: training nodes, each once before one is there again."""
        num_batches = -(-self._num_nodes // (self.size * batch_size))
        num_starts, n = num_batches * batch_size, indices.numel()
        rounds = [
            torch.randperm(n, generator=generator) if shuffle else torch.arange(n) for _ in range(-(-num_starts // n))
        ]
        return list(indices[torch.cat(rounds)[:num_starts]].split(batch_size))

    def draw(self, csc: CSC, seeds: Tensor, key: int) -> Sample:
        walks = [self.walk(csc, start, key_of(key, number)) for number, start in enumerate(seeds.long())]
        nodes = torch.cat(walks).unique()
        hop, num_nodes = induced(csc, nodes, self.num_threads), nodes.numel()
        return Sample(nodes, [Adjacency(hop, num_nodes, csc, nodes, degree=inside_degree(csc, hop))], repeats=True)

    def walk(self, csc: CSC, start: Tensor, key: int) -> Tensor:
        """The nodes of one ripple walk, in the order in which they joined, shape (min(size, N),) int64."""
        size, state = min(self.size, csc.num_nodes), torch.tensor(as_signed(key))
        reached = torch.zeros(csc.num_nodes, dtype=torch.bool)  # members and their neighbours
        joined, frontier = start.view(1), start.new_empty(0)
        reached[joined] = True
        members, num_members = [joined], 1
        restarts = None
        while num_members < size:
            begins = csc.indptr[joined]
            sources = csc.indices[ranges(begins, csc.indptr[joined + 1] - begins)].long()
            new = sources[~reached[sources]].unique()
            reached[new] = True
            frontier = torch.cat([frontier, new])
            if frontier.numel():
                count = min(max(1, round(self.expansion * frontier.numel())), size - num_members)
                # The first of the neighbours in a random order that is this step's own.
                order = fold(fold(state, torch.tensor(len(members))), frontier).argsort()
                joined, frontier = frontier[order[:count]], frontier[order[count:]]
            else:
                if restarts is None:
                    generator = torch.Generator().manual_seed(key_of(key))
                    restarts = iter(torch.randperm(csc.num_nodes, generator=generator).tolist())
                joined = start.new_tensor([next(node for node in restarts if not reached[node])])
                reached[joined] = True
            members.append(joined)
            num_members += joined.numel()
        return torch.cat(members)
