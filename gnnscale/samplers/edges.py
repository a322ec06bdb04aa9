"""Lists of nodes and edges, and selections of them, that several samplers need."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnscale.csc import CSC
from gnnscale.ops import Hop, sample_neighbors
from gnnscale.ops.subgraph import edges_between


def in_edges(csc: CSC, nodes: Tensor, num_threads: int = 1) -> tuple[Tensor, Hop]:
    """``nodes`` followed by their other in-neighbours, and all edges into ``nodes``.

    ``nodes`` are distinct int64 ids; the hop's sources are positions in the returned list.
    """
    everything, (hop,), _ = sample_neighbors(csc.indptr, csc.indices, nodes, [-1], key=0, num_threads=num_threads)
    return everything, hop


def induced(csc: CSC, nodes: Tensor, num_threads: int = 1) -> Hop:
    """The edges among ``nodes`` (distinct int64 ids): sources and destinations are positions in ``nodes``."""
    return edges_between(csc.indptr, csc.indices, nodes, nodes, num_threads=num_threads)


def select(hop: Hop, keep: Tensor) -> Hop:
    """The edges where ``keep``, shape (E,) bool, is true."""
    before = torch.cat([keep.new_zeros(1, dtype=hop.indptr.dtype), keep.cumsum(0, dtype=hop.indptr.dtype)])
    return Hop(before[hop.indptr.long()], hop.indices[keep], hop.positions[keep])


def row_pointers(rows: Tensor, num_rows: int) -> Tensor:
    """CSR pointers of sorted ``rows``, shape (num_rows + 1,), int32."""
    counts = torch.bincount(rows, minlength=num_rows)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()
