"""The edges among given nodes, and lists of distinct nodes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gnnscale.ops import gpu_sampling, reference
from gnnscale.ops._backend import kernels_for, native
from gnnscale.ops._checks import check_csc, check_vector, thread_count
from gnnscale.ops.sampling import Hop

_NARROW_LIMIT = 2**31 - 1


def edges_between(
    indptr: Tensor, indices: Tensor, destinations: Tensor, sources: Tensor, *, num_threads: int = 1
) -> Hop:
    """The edges from any of some nodes into each of others.

    With the same nodes on both sides these are the edges of the induced subgraph.

    Parameters
    ----------
    indptr : Tensor
        (N + 1,) int64: the graph's CSC pointers.
    indices : Tensor
        (E,) int32 or int64: source ids.
    destinations : Tensor
        (D,) int64: node ids.
    sources : Tensor
        (S,) int64: distinct node ids.
    num_threads : int
        Most threads to use; small subgraphs use fewer.

    Returns
    -------
    Hop
        CSR over `destinations`, each row's edges in CSC order; sources are positions in `sources`.

    Raises
    ------
    TypeError
        If a tensor has the wrong dtype.
    ValueError
        If an id is no node, `sources` has one twice, or the arrays are no CSC structure where they are read.

    Examples
    --------
    A triangle 0 → 1 → 2 → 0 without its node 1:

    >>> import torch
    >>> indptr, indices = torch.tensor([0, 1, 2, 3]), torch.tensor([2, 0, 1])
    >>> nodes = torch.tensor([0, 2])
    >>> edges_between(indptr, indices, nodes, nodes)
    Hop(indptr=tensor([0, 1, 1], dtype=torch.int32), indices=tensor([1], dtype=torch.int32), positions=tensor([0]))
    """
    cuda, reached = kernels_for(destinations)
    check_csc(indptr, indices, reached)
    check_vector("destinations", destinations, torch.int64, reached=reached)
    check_vector("sources", sources, torch.int64, reached=reached)
    threads = thread_count(num_threads)
    if cuda is not None:
        return Hop(*gpu_sampling.edges_between(cuda, indptr, indices, destinations, sources))
    if native is None:
        return Hop(*reference.edges_between(indptr, indices, destinations, sources, _NARROW_LIMIT))
    return Hop(*native.edges_between(indptr, indices, destinations, sources, threads, _NARROW_LIMIT))


class LayerEdges(NamedTuple):
    """The edges of one layer that leave its drawn nodes.

    Attributes
    ----------
    nodes : Tensor
        (n,) int64: the destinations, then the drawn nodes that an edge leaves and that are not among them.
    hop : Hop
        The edges, sources as positions in `nodes`.
    origins : Tensor
        (E,) int32 (or int64, as `hop`): which of the drawn nodes each edge leaves.
    places : Tensor
        (d,) int32: where each drawn node stands in `nodes`, -1 where no edge leaves it.
    """

    nodes: Tensor
    hop: Hop
    origins: Tensor
    places: Tensor


def edges_from(
    indptr: Tensor, indices: Tensor, destinations: Tensor, drawn: Tensor, *, num_threads: int = 1
) -> LayerEdges:
    """The edges from drawn nodes into the destinations of a layer, and the layer's list of nodes.

    Parameters
    ----------
    indptr, indices, num_threads
        As for `edges_between`.
    destinations, drawn : Tensor
        (D,) and (d,) int64: distinct node ids, each.

    Returns
    -------
    LayerEdges

    Raises
    ------
    TypeError, ValueError
        As `edges_between`; also if `destinations` has a node twice.

    Examples
    --------
    >>> import torch
    >>> indptr, indices = torch.tensor([0, 2, 3, 3]), torch.tensor([1, 2, 2])
    >>> layer = edges_from(indptr, indices, torch.tensor([0]), torch.tensor([2]))
    >>> layer.nodes.tolist(), layer.hop.indices.tolist()
    ([0, 2], [1])
    """
    cuda, reached = kernels_for(destinations)
    check_csc(indptr, indices, reached)
    check_vector("destinations", destinations, torch.int64, reached=reached)
    check_vector("drawn", drawn, torch.int64, reached=reached)
    threads = thread_count(num_threads)
    if cuda is not None:
        nodes, *edges, origins, places = gpu_sampling.edges_from(cuda, indptr, indices, destinations, drawn)
    elif native is None:
        nodes, *edges, origins, places = reference.edges_from(indptr, indices, destinations, drawn, _NARROW_LIMIT)
    else:
        nodes, *edges, origins, places = native.edges_from(indptr, indices, destinations, drawn, threads, _NARROW_LIMIT)
    return LayerEdges(nodes, Hop(*edges), origins, places)


def distinct_nodes(ids: Tensor, num_nodes: int) -> Tensor:
    """The distinct ones of some node ids, in ascending order.

    Parameters
    ----------
    ids : Tensor
        (n,) int64, in [0, num_nodes), or -1 for nothing.
    num_nodes : int
        Nodes of the graph.

    Returns
    -------
    Tensor
        int64.

    Raises
    ------
    TypeError
        If `ids` is not int64.
    ValueError
        If an id is no node.

    Examples
    --------
    >>> import torch
    >>> distinct_nodes(torch.tensor([7, 2, -1, 7]), 10)
    tensor([2, 7])
    """
    cuda, reached = kernels_for(ids)
    check_vector("ids", ids, torch.int64, reached=reached)
    # Of torch's operations, on any device.
    return (reference if native is None or cuda is not None else native).distinct_nodes(ids, num_nodes)


def append_nodes(seeds: Tensor, ids: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """Seeds followed by the others of some ids, in the order of their first appearance.

    Parameters
    ----------
    seeds : Tensor
        (k,) int64: distinct node ids.
    ids : Tensor
        (n,) int64: node ids.
    num_nodes : int
        Nodes of the graph.

    Returns
    -------
    nodes : Tensor
        int64.
    places : Tensor
        (n,) int32: where each of `ids` stands in `nodes`.

    Raises
    ------
    TypeError
        If a tensor is not int64.
    ValueError
        If an id is no node, or `seeds` has one twice.

    Examples
    --------
    >>> import torch
    >>> append_nodes(torch.tensor([4, 1]), torch.tensor([9, 1, 9]), 10)
    (tensor([4, 1, 9]), tensor([2, 1, 2], dtype=torch.int32))
    """
    cuda, reached = kernels_for(seeds)
    check_vector("seeds", seeds, torch.int64, reached=reached)
    check_vector("ids", ids, torch.int64, reached=reached)
    # Of torch's operations, on any device.
    return (reference if native is None or cuda is not None else native).append_nodes(seeds, ids, num_nodes)
