"""Neighbour sampling of all layers of a batch in one call, with relabelling."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gnnscale.ops import gpu_sampling, reference
from gnnscale.ops._backend import kernels_for, native
from gnnscale.ops._checks import check_csc, check_vector, integer, random_key, thread_count

# Local ids are 32-bit up to here: half the memory, and what the fast sparse kernels want.
_NARROW_LIMIT = 2**31 - 1
# Graphs of more nodes have their ids mapped by hashing: a map as long as the graph would not stay in the caches, and
# each thread has one.
_DENSE_NODES = 2**24
# With replacement all of them are drawn, so that a slip would fill the memory.
_MOST_DRAWS = 2**24


class Hop(NamedTuple):
    """One sampled layer, CSR over its destinations.

    Attributes
    ----------
    indptr : Tensor
        (num_dst + 1,), int32 where it fits, else int64.
    indices : Tensor
        (num_edges,), of the dtype of `indptr`: each edge's source as a position in the sample's `nodes`.
    positions : Tensor
        (num_edges,) int64: where each edge stands in the graph's CSC arrays.
    """

    indptr: Tensor
    indices: Tensor
    positions: Tensor


def sample_neighbors(
    indptr: Tensor,
    indices: Tensor,
    seeds: Tensor,
    fanouts: Sequence[int],
    *,
    key: int,
    replace: bool = False,
    weight: Tensor | None = None,
    num_threads: int = 1,
) -> tuple[Tensor, list[Hop], list[Tensor | None]]:
    """Sample in-neighbours layer by layer (Hamilton et al., GraphSAGE, NeurIPS 2017, Algorithm 2).

    Hop h draws in-edges of every node known so far. With n_h nodes known before hop h, its destinations are
    ``nodes[:n_h]`` and its sources ``nodes[:n_(h+1)]``: every layer's nodes are a prefix of `nodes`.

    Without replacement each set of `fanout` in-edges is equally likely (Floyd's algorithm); a node with no
    more in-edges than the fan-out keeps them all, in CSC order. Parallel edges and self-loops count as
    ordinary edges.

    With weights, edges are drawn in proportion to them: with replacement each draw by itself, and without by priority
    sampling (Duffield, Lund and Thorup, JACM 2007), where a fan-out of 1 is one draw with replacement. Edges that
    weigh nothing are never drawn.

    A draw depends on (`key`, hop, destination, number of the draw) alone, so the sample is the same for any
    number of threads and on any machine.

    With `seeds` on a GPU, gnnscale's kernels draw the same sample there, of a graph on that GPU or in pinned memory.
    They do not check what the graph's arrays hold.

    Parameters
    ----------
    indptr : Tensor
        (N + 1,) int64, contiguous: the graph's CSC pointers. In-neighbours of v are
        ``indices[indptr[v]:indptr[v + 1]]``.
    indices : Tensor
        (E,) int32 or int64, contiguous: source ids.
    seeds : Tensor
        (B,) int32 or int64: distinct node ids.
    fanouts : sequence of int
        Edges drawn for each destination, one number a hop, the seeds' hop first; -1 takes all. With replacement at
        most 2**24.
    key : int
        In [0, 2**64); see `gnnscale.ops.random.key_of`.
    replace : bool
        Draw with replacement: `fanout` edges wherever there is at least one.
    weight : Tensor, optional
        (E,) float32, contiguous: the edges' weights, finite and not negative, which is checked where they are read.
    num_threads : int
        Most threads to use; small samples use fewer.

    Returns
    -------
    nodes : Tensor
        int64 global ids: the seeds, then each hop's new nodes in order of first appearance.
    hops : list of Hop
        In the order drawn: ``hops[0]`` has the seeds as destinations.
    importance : list of Tensor or None
        For each hop the factors, (num_edges,) float32, that make a linear aggregation of its edges unbiased; None
        where all edges are taken.

    Raises
    ------
    TypeError
        If a tensor has the wrong dtype, or a number is no integer.
    ValueError
        If a seed is repeated or no node, a number is out of range, a tensor is not on the CPU, contiguous and
        one-dimensional, or the arrays are no CSC structure, or weights not finite or negative, where the sample reads
        them.

    Examples
    --------
    A path 2 → 1 → 0:

    >>> import torch
    >>> from gnnscale.ops import sample_neighbors
    >>> indptr, indices = torch.tensor([0, 1, 2, 2]), torch.tensor([1, 2])
    >>> nodes, hops, _ = sample_neighbors(indptr, indices, torch.tensor([0]), [10, 10], key=0)
    >>> nodes.tolist(), [hop.indices.tolist() for hop in hops]
    ([0, 1, 2], [[1], [1, 2]])
    """
    replace = _flag("replace", replace)
    cuda, reached = kernels_for(seeds)
    seeds, fanouts, key, threads = _checked(indptr, indices, seeds, fanouts, key, num_threads, reached)
    for hop, fanout in enumerate(fanouts):
        if replace and fanout > _MOST_DRAWS:
            raise ValueError(f"fanouts[{hop}] is {fanout}; with replacement give at most {_MOST_DRAWS}.")
    if weight is not None:
        check_vector("weight", weight, torch.float32, reached=reached)
        if len(weight) != len(indices):
            raise ValueError(f"weight has {len(weight)} elements and indices {len(indices)}; give one for each edge.")
    if cuda is not None:
        drawn = gpu_sampling.sample_neighbors(cuda, indptr, indices, weight, seeds, fanouts, key, replace)
    elif native is None:
        drawn = reference.sample_neighbors(indptr, indices, weight, seeds, fanouts, key, replace, _NARROW_LIMIT)
    else:
        drawn = native.sample_neighbors(
            indptr, indices, weight, seeds, fanouts, key, replace, threads, _NARROW_LIMIT, _DENSE_NODES
        )
    return _with_importance(drawn, fanouts)


def sample_labor(
    indptr: Tensor,
    indices: Tensor,
    seeds: Tensor,
    fanouts: Sequence[int],
    *,
    key: int,
    iterations: int = 0,
    shared: bool = False,
    num_threads: int = 1,
) -> tuple[Tensor, list[Hop], list[Tensor | None]]:
    """Sample in-neighbours layer by layer with random numbers that a layer's nodes share (LABOR).

    Balın and Çatalyürek, "Layer-Neighbor Sampling: Defusing Neighborhood Explosion in GNNs", NeurIPS 2023, eq. 14 and
    algorithm 1; `gnnscale.samplers.LaborSampler` tells what is drawn.

    Parameters
    ----------
    indptr, indices, seeds, fanouts, key, num_threads
        As of `sample_neighbors`.
    iterations : int
        Of the fixpoint of π: 0 or more, or -1 to go on until convergence.
    shared : bool
        Whether all hops use the same random number of a node.

    Returns
    -------
    nodes, hops, importance
        As of `sample_neighbors`.

    Raises
    ------
    TypeError, ValueError
        As `sample_neighbors` does, and if `iterations` is below -1.

    Examples
    --------
    Two nodes with the same four in-neighbours keep the same ones:

    >>> import torch
    >>> from gnnscale.ops import sample_labor
    >>> indptr, indices = torch.tensor([0, 4, 8, 8, 8, 8, 8]), torch.tensor([2, 3, 4, 5, 2, 3, 4, 5])
    >>> nodes, (hop,), (importance,) = sample_labor(indptr, indices, torch.tensor([0, 1]), [2], key=0)
    >>> first, second = hop.indices.tensor_split(2)
    >>> torch.equal(first, second), importance.unique().tolist()
    (True, [2.0])
    """
    shared = _flag("shared", shared)
    cuda, reached = kernels_for(seeds)
    seeds, fanouts, key, threads = _checked(indptr, indices, seeds, fanouts, key, num_threads, reached)
    iterations = integer("iterations", iterations)
    if not -1 <= iterations < 2**63:
        raise ValueError(f"iterations is {iterations}; give 0 or more (below 2**63), or -1 to go on until convergence.")
    if cuda is not None:
        drawn = gpu_sampling.sample_labor(cuda, indptr, indices, seeds, fanouts, key, iterations, shared)
    elif native is None:
        drawn = reference.sample_labor(indptr, indices, seeds, fanouts, key, iterations, shared, _NARROW_LIMIT)
    else:
        drawn = native.sample_labor(
            indptr, indices, seeds, fanouts, key, iterations, shared, threads, _NARROW_LIMIT, _DENSE_NODES
        )
    return _with_importance(drawn, fanouts)


def _checked(
    indptr: Tensor,
    indices: Tensor,
    seeds: Tensor,
    fanouts: Sequence[int],
    key: int,
    num_threads: int,
    reached: torch.device | None = None,
) -> tuple[Tensor, list[int], int, int]:
    check_csc(indptr, indices, reached)
    if isinstance(seeds, Tensor) and seeds.layout == torch.strided:
        seeds = seeds.contiguous()
    check_vector("seeds", seeds, torch.int32, torch.int64, reached=reached)
    try:
        fanouts = list(fanouts)
    except TypeError:
        raise TypeError(f"fanouts must be a sequence of integers, one a hop; got {type(fanouts).__name__}.") from None
    for hop, fanout in enumerate(fanouts):
        fanouts[hop] = fanout = integer(f"fanouts[{hop}]", fanout)
        if fanout < -1:
            raise ValueError(f"fanouts[{hop}] is {fanout}; give a number of edges, or -1 for all of them.")
        if fanout >= 2**63:
            raise ValueError(f"fanouts[{hop}] is {fanout}; give less than 2**63, or -1 for all edges.")
    return seeds.long(), fanouts, random_key(key), thread_count(num_threads)


def _flag(name: str, value: bool) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False; got {type(value).__name__}.")
    return value


def _with_importance(
    drawn: tuple[Tensor, list[tuple[Tensor, Tensor, Tensor, Tensor]]], fanouts: list[int]
) -> tuple[Tensor, list[Hop], list[Tensor | None]]:
    nodes, hops = drawn
    importance = [None if fanout < 0 else hop[3] for fanout, hop in zip(fanouts, hops, strict=True)]
    return nodes, [Hop(*hop[:3]) for hop in hops], importance
