"""The in-edges of a graph as arrays, which every sampler and the exact evaluation read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from gnnscale._dgl import dgl

# DGL converts a graph's arrays at each look, and the samplers look at every batch. Each entry stands beside what
# it was made from, so that a graph that was changed in place is read again.
_known: WeakKeyDictionary[dgl.DGLGraph, tuple[object, Tensor | None, int | None, CSC]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class CSC:
    """In-edges by destination: the in-neighbours of ``v`` are ``indices[indptr[v]:indptr[v + 1]]``.

    Attributes
    ----------
    indptr : Tensor
        Shape (N + 1,), int64.
    indices : Tensor
        Shape (E,), the source of each edge; int32 where the node ids fit, else int64.
    edge_ids : Tensor
        Shape (E,), int64: DGL's id of each edge.
    weight : Tensor or None
        Shape (E,), float32: ``graph.edata["weight"]`` in this order, None for an unweighted graph.
    degree : Tensor
        Shape (N,), float32: the sum of the weights of a node's in-edges (their number where unweighted).
    loops : Tensor or None
        Shape (N,), float32: how much of ``degree`` is self-loops; None where there are none.
    nodes : Tensor
        Shape (N,), int64: 0 to N - 1.
    """

    indptr: Tensor
    indices: Tensor
    edge_ids: Tensor
    weight: Tensor | None
    degree: Tensor
    loops: Tensor | None
    nodes: Tensor

    @property
    def num_nodes(self) -> int:
        return self.nodes.numel()

    @cached_property
    def weight_sums(self) -> Tensor | None:
        """Shape (E + 1,), float64: the weight of all edges before each one; None for an unweighted graph."""
        if self.weight is None:
            return None
        return torch.cat([torch.zeros(1).double(), self.weight.double().cumsum(0)])

    @cached_property
    def out_degree(self) -> Tensor:
        """Shape (N,), float32: the sum of the weights of a node's out-edges (their number where unweighted)."""
        weight = torch.ones(self.indices.numel()) if self.weight is None else self.weight
        return torch.zeros(self.num_nodes).index_add_(0, self.indices, weight)

    @cached_property
    def mean_log_degree(self) -> float:
        """The mean of log(d + 1) over the nodes' in-degrees d."""
        return self.degree.log1p().mean().item()

    @classmethod
    def of(cls, graph: dgl.DGLGraph) -> CSC:
        """The arrays of a homogeneous graph on the CPU, made once a graph.

        Raises
        ------
        ValueError
            For a heterogeneous graph, or one that is not in host memory.
        """
        weight = graph.edata.get("weight") if graph.is_homogeneous else None
        version = None if weight is None else weight._version  # counts changes in place
        known = _known.get(graph)
        if known is None or known[0] is not graph._graph or known[1] is not weight or known[2] != version:
            known = _known[graph] = (graph._graph, weight, version, cls._build(graph, weight))
        return known[3]

    @classmethod
    def _build(cls, graph: dgl.DGLGraph, weight: Tensor | None) -> CSC:
        if not graph.is_homogeneous:
            raise ValueError(
                f"graph has the node types {graph.ntypes} and edge types {graph.etypes}; gnnscale samples "
                "homogeneous graphs: convert it with dgl.to_homogeneous(graph)"
            )
        if graph.device.type != "cpu":
            raise ValueError(f"graph is on {graph.device}; give it in host memory: graph.to('cpu')")
        num_nodes = graph.num_nodes()
        indptr, indices, edge_ids = graph.adj_tensors("csc")
        indptr, edge_ids = _on_huge_pages(indptr, torch.int64), edge_ids.long().contiguous()
        if edge_ids.numel() < indices.numel():  # a graph that was made of CSC arrays without ids has none in DGL
            edge_ids = torch.arange(indices.numel())
        if weight is not None:
            if weight.dim() != 1:
                raise ValueError(f"graph.edata['weight'] has the shape {tuple(weight.shape)}; it has to be (E,)")
            weight = weight[edge_ids].float()
            if not bool(((weight >= 0) & weight.isfinite()).all()):
                low, high = float(weight.min()), float(weight.max())
                raise ValueError(
                    f"graph.edata['weight'] goes from {low:g} to {high:g}; weights of edges have to be "
                    "finite and at least 0"
                )
        destinations = torch.repeat_interleave(torch.arange(num_nodes), indptr.diff())
        ones = torch.ones(indices.numel()) if weight is None else weight
        degree = torch.zeros(num_nodes).index_add_(0, destinations, ones)
        is_loop = indices == destinations
        loops = None
        if bool(is_loop.any()):
            loops = torch.zeros(num_nodes).index_add_(0, destinations[is_loop], ones[is_loop])
        fits = num_nodes <= torch.iinfo(torch.int32).max
        return cls(
            indptr=indptr,
            indices=_on_huge_pages(indices, torch.int32 if fits else torch.int64),
            edge_ids=edge_ids,
            weight=weight,
            degree=degree,
            loops=loops,
            nodes=torch.arange(num_nodes),
        )


def _on_huge_pages(values: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy where random reads cost less: NumPy asks the system for huge pages for large arrays, and torch does not."""
    return torch.from_numpy(np.empty(values.numel(), str(dtype).removeprefix("torch."))).copy_(values)
