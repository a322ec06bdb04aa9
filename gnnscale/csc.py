"""The in-edges of a graph as arrays, which every sampler and the exact evaluation read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from gnnscale._dgl import dgl
from gnnscale.ops import gather_rows
from gnnscale.ops._backend import cuda_kernels
from gnnscale.ops.gpu_sampling import take

# DGL converts a graph's arrays at each look, and the samplers look at every batch. Each entry stands beside what
# it was made from, so that a graph that was changed in place is read again.
_known: WeakKeyDictionary[dgl.DGLGraph, tuple[object, Tensor | None, int | None, CSC]] = WeakKeyDictionary()

_CHUNK = 1 << 22


@dataclass(frozen=True, eq=False)
class CSC:
    """In-edges by destination: the in-neighbours of ``v`` are ``indices[indptr[v]:indptr[v + 1]]``.

    Attributes
    ----------
    indptr : Tensor
        Shape (N + 1,), int64.
    indices : Tensor
        Shape (E,), the source of each edge; int32 where the node ids fit, else int64.
    edge_order : Tensor or None
        Shape (E,), integers: DGL's id of each edge; None where edges are numbered in this order.
    weight : Tensor or None
        Shape (E,), float32: ``graph.edata["weight"]`` in this order, None for an unweighted graph.
    degree : Tensor
        Shape (N,), float32: the sum of the weights of a node's in-edges (their number where unweighted).
    loops : Tensor or None
        Shape (N,), float32: how much of ``degree`` is self-loops; None where there are none.
    nodes : Tensor
        Shape (N,), int64: 0 to N - 1.
    host : CSC or None
        Of a copy for a GPU (:meth:`on`): the graph in host memory.
    """

    indptr: Tensor
    indices: Tensor
    edge_order: Tensor | None
    weight: Tensor | None
    degree: Tensor
    loops: Tensor | None
    nodes: Tensor
    host: CSC | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Without what is kept beside them.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def on(self, device: torch.device, *, pinned: bool = False) -> CSC:
        """The same for a GPU, which reaches its arrays: all in its memory, or those of edges in pinned host memory.

        ``edge_order`` stays where it is.
        """
        edges = Tensor.pin_memory if pinned else partial(Tensor.to, device=device)
        return replace(
            self,
            indptr=self.indptr.to(device),
            indices=edges(self.indices),
            weight=None if self.weight is None else edges(self.weight),
            degree=self.degree.to(device),
            loops=None if self.loops is None else self.loops.to(device),
            nodes=self.nodes.to(device),
            host=self,
        )

    @property
    def device(self) -> torch.device:
        """Where nodes are drawn."""
        return self.nodes.device

    @property
    def source(self) -> CSC:
        """The graph in host memory: this one, unless it is a copy."""
        return self.host or self

    @cached_property
    def kept(self) -> WeakKeyDictionary[Any, dict[Any, Any]]:
        """What was drawn from this graph and comes again, for as long as what it was drawn for lives."""
        return WeakKeyDictionary()

    @cached_property
    def _copies(self) -> WeakTensorKeyDictionary:
        return WeakTensorKeyDictionary()

    def beside(self, values: Tensor) -> Tensor:
        """Values of edges or nodes in host memory, where a draw from this graph reads them: a copy that is kept."""
        if self.host is None:
            return values
        copy = self._copies.get(values)
        if copy is None:
            with_edges = len(values) >= self.indices.numel() > self.num_nodes and self.indices.device != self.device
            copy = self._copies[values] = values.pin_memory() if with_edges else values.to(self.device)
        return copy

    def take(self, values: Tensor, positions: Tensor, num_threads: int = 1) -> Tensor:
        """``values``, one an edge, where this graph's arrays are (:meth:`beside`), at some positions of edges."""
        if self.host is None and positions.device.type == "cpu":
            return gather_rows(values, positions, num_threads=num_threads)
        return take(cuda_kernels(self.device), values, positions)

    @property
    def num_nodes(self) -> int:
        return self.nodes.numel()

    @cached_property
    def edge_ids(self) -> Tensor:
        """Shape (E,), int64: DGL's id of each edge."""
        return torch.arange(self.indices.numel()) if self.edge_order is None else self.edge_order.long()

    def ids_of(self, positions: Tensor) -> Tensor:
        """DGL's ids of the edges at some positions; unlike :attr:`edge_ids`, without an array of all."""
        return positions if self.edge_order is None else self.edge_order[positions]

    @cached_property
    def weight_sums(self) -> Tensor | None:
        """Shape (E + 1,), float64: the weight of all edges before each one; None for an unweighted graph."""
        if self.weight is None:
            return None
        if self.host is not None:
            sums = self.host.weight_sums
            assert sums is not None
            return self.beside(sums)
        return torch.cat([torch.zeros(1).double(), self.weight.double().cumsum(0)])

    @cached_property
    def out_degree(self) -> Tensor:
        """Shape (N,), float32: the sum of the weights of a node's out-edges (their number where unweighted)."""
        if self.host is not None:
            return self.host.out_degree.to(self.device)
        weight = torch.ones(self.indices.numel()) if self.weight is None else self.weight
        return torch.zeros(self.num_nodes).index_add_(0, self.indices, weight)

    @cached_property
    def mean_log_degree(self) -> float:
        """The mean of log(d + 1) over the nodes' in-degrees d."""
        return self.source.degree.log1p().mean().item()

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
        # Of a graph that was made from these arrays, they are DGL's own; edges in their order have no ids.
        indptr, indices, edge_ids = graph.adj_tensors("csc")
        edge_order = edge_ids if edge_ids.numel() == indices.numel() else None
        indptr = on_huge_pages(indptr, torch.int64)
        if weight is not None:
            if weight.dim() != 1:
                raise ValueError(f"graph.edata['weight'] has the shape {tuple(weight.shape)}; it has to be (E,)")
            weight = (weight if edge_order is None else weight[edge_order.long()]).float().contiguous()
            if not bool(((weight >= 0) & weight.isfinite()).all()):
                low, high = float(weight.min()), float(weight.max())
                raise ValueError(
                    f"graph.edata['weight'] goes from {low:g} to {high:g}; weights of edges have to be "
                    "finite and at least 0"
                )
        degree, loops = _sums(indptr, indices, weight)
        fits = num_nodes <= torch.iinfo(torch.int32).max
        return cls(
            indptr=indptr,
            indices=_of_dtype(indices, torch.int32 if fits else torch.int64),
            edge_order=edge_order,
            weight=weight,
            degree=degree,
            loops=loops if bool(loops.any()) else None,
            nodes=torch.arange(num_nodes),
        )


def _of_dtype(ids: Tensor, dtype: torch.dtype) -> Tensor:
    """The same integers, contiguous: themselves where they are that already, as a copy may be too much for memory."""
    return ids if ids.dtype == dtype and ids.is_contiguous() else on_huge_pages(ids, dtype)


def on_huge_pages(values: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A copy where random reads cost less: NumPy asks for huge pages for large arrays, and torch does not."""
    name = str(dtype or values.dtype).removeprefix("torch.")
    return torch.from_numpy(np.empty(values.numel(), name)).copy_(values)


def row_ranges(indptr: Tensor) -> Iterator[tuple[int, int]]:
    """All rows in ranges of not too many edges: what is computed for an edge takes several times its memory."""
    num_rows = indptr.numel() - 1
    starts = torch.searchsorted(indptr, torch.arange(0, max(int(indptr[-1]), 1), _CHUNK)).tolist()
    return pairwise([*starts, num_rows])


def _sums(indptr: Tensor, indices: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Each node's weight of in-edges, and of self-loops among them, float32."""
    num_nodes = indptr.numel() - 1
    degree, loops = torch.zeros(num_nodes), torch.zeros(num_nodes)
    for first, last in row_ranges(indptr):
        rows = torch.repeat_interleave(torch.arange(first, last), indptr[first : last + 1].diff())
        edges = slice(int(indptr[first]), int(indptr[last]))
        is_loop = indices[edges] == rows
        if weight is None:
            degree[first:last] = indptr[first : last + 1].diff()
            loops[first:last] = torch.bincount(rows[is_loop] - first, minlength=last - first)
        else:
            degree.index_add_(0, rows, weight[edges])
            loops.index_add_(0, rows[is_loop], weight[edges][is_loop])
    return degree, loops
