"""The small graphs that samplers are checked on: directed, of one size, the same in every run."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gnnscale._dgl import dgl

NUM_NODES = 60
_NUM_CLASSES = 3


def plain(weighted: bool = False) -> dgl.DGLGraph:
    """Degrees from a few to most of the nodes; no self-loops, duplicate edges or isolated nodes."""
    generator = torch.Generator().manual_seed(1)
    # What is wrong with a normalisation shows where degrees differ: the first nodes have many in-neighbours, and
    # every fifth node has many out-neighbours.
    share = torch.linspace(1.0, 0.1, NUM_NODES)[None, :] * torch.linspace(1.0, 0.2, 5).repeat(NUM_NODES // 5)[:, None]
    has_edge = torch.rand(NUM_NODES, NUM_NODES, generator=generator) < share
    has_edge |= torch.eye(NUM_NODES, dtype=torch.bool).roll(1, 0)
    has_edge.fill_diagonal_(False)
    return _dressed(dgl.graph(has_edge.nonzero(as_tuple=True), num_nodes=NUM_NODES), weighted, generator)


def weighted() -> dgl.DGLGraph:
    """The plain graph with edge weights."""
    return plain(weighted=True)


def odd(weighted: bool = True) -> dgl.DGLGraph:
    """Self-loops, duplicate edges, isolated nodes, and nodes with edges of one direction alone."""
    generator = torch.Generator().manual_seed(2)
    source = torch.randint(NUM_NODES - 6, (500,), generator=generator)
    # Squares crowd the edges onto a few destinations.
    destination = ((NUM_NODES - 6) * torch.rand(500, generator=generator).square()).long()
    only_out, only_in = torch.arange(NUM_NODES - 6, NUM_NODES - 3), torch.full((3,), NUM_NODES - 3)
    loops = torch.arange(0, 30, 3)
    source = torch.cat([source, source[:60], loops, loops, only_out, torch.arange(3)])
    destination = torch.cat([destination, destination[:60], loops, loops, torch.arange(3), only_in])
    return _dressed(dgl.graph((source, destination), num_nodes=NUM_NODES), weighted, generator)


def odd_unweighted() -> dgl.DGLGraph:
    """The odd graph without weights."""
    return odd(weighted=False)


def without_edges() -> dgl.DGLGraph:
    """Nodes alone."""
    empty = torch.empty(0, dtype=torch.int64)
    return _dressed(dgl.graph((empty, empty), num_nodes=NUM_NODES), False, torch.Generator().manual_seed(3))


GRAPHS: dict[str, Callable[[], dgl.DGLGraph]] = {
    "plain": plain,
    "weighted": weighted,
    "odd": odd,
}
"""Those that estimates are checked on."""


def train_ids() -> Tensor:
    """Every other node, in no order."""
    generator = torch.Generator().manual_seed(4)
    return 2 * torch.randperm(NUM_NODES // 2, generator=generator)


def dense_normalised(graph: dgl.DGLGraph, norm: str) -> Tensor:
    """The model's Â as a matrix, shape (N, N), float64, written from its definition; see :meth:`Layer.aggregate`."""
    source, destination = graph.edges()
    weight = graph.edata["weight"].double() if "weight" in graph.edata else torch.ones(graph.num_edges()).double()
    adjacency = torch.zeros(graph.num_nodes(), graph.num_nodes(), dtype=torch.float64)
    adjacency.index_put_((destination.long(), source.long()), weight, accumulate=True)
    return normalise(adjacency, norm)


def normalise(adjacency: Tensor, norm: str) -> Tensor:
    """Â of a square matrix A."""
    degree, out_degree = adjacency.sum(1), adjacency.sum(0)
    if norm == "sum":
        return adjacency
    if norm == "sym":
        scale = (degree - adjacency.diagonal() + 1).rsqrt()
        return scale[:, None] * adjacency.clone().fill_diagonal_(1.0) * scale
    of_destination, of_source = (d.where(d > 0, torch.ones_like(d)).reciprocal() for d in (degree, out_degree))
    if norm == "mean":
        return adjacency * of_destination[:, None]
    if norm == "left":
        return adjacency * of_source
    return of_destination.sqrt()[:, None] * adjacency * (of_source if norm == "both" else of_destination).sqrt()


def _dressed(graph: dgl.DGLGraph, weighted: bool, generator: torch.Generator) -> dgl.DGLGraph:
    num_nodes = graph.num_nodes()
    graph.ndata["feat"] = torch.randn(num_nodes, 4, generator=generator)
    graph.ndata["label"] = torch.randint(_NUM_CLASSES, (num_nodes,), generator=generator)
    if weighted:
        graph.edata["weight"] = 0.2 + 1.8 * torch.rand(graph.num_edges(), generator=generator)
    return graph
