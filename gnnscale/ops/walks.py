"""Random walks along in-edges, all of them a step at a time, and what they visited."""

from __future__ import annotations

import operator

import torch
from torch import Tensor

from gnnscale.csc import CSC
from gnnscale.ops import reference
from gnnscale.ops._backend import kernels_for, native
from gnnscale.ops._checks import check_tensor, check_vector, thread_count
from gnnscale.ops.gpu import stream_of


def random_walks(csc: CSC, starts: Tensor, length: int, *, key: int, stop: float = 0.0, num_threads: int = 1) -> Tensor:
    """Walk from each start along in-edges: from a node to one of its in-neighbours, against the messages.

    The in-edge is drawn uniformly, or in proportion to its weight on a weighted graph; parallel edges and self-loops
    count as ordinary edges. A walk ends early at a node without in-edges (or whose in-edges all weigh nothing).

    A step depends on (`key`, number of the walk, number of the step) and the node it is taken from alone.

    Parameters
    ----------
    csc : CSC
        The graph.
    starts : Tensor
        Shape (W,), int64: where each walk starts; nodes may repeat.
    length : int
        Most steps of a walk.
    key : int
        In [0, 2**64); see `gnnscale.ops.random.key_of`.
    stop : float
        Probability, after each step, that the walk ends there.
    num_threads : int
        Most threads to use; the walks do not depend on it.

    Returns
    -------
    Tensor
        Shape (W, length + 1), int64: `starts`, then the node after each step, -1 once a walk has ended.

    Raises
    ------
    TypeError
        If `starts` is no int64 tensor, or a number is no integer.
    ValueError
        If a start is no node, `length` is negative, or `stop` is no probability.

    Examples
    --------
    A path 2 → 1 → 0, walked against its edges:

    >>> import torch
    >>> from gnnscale._dgl import dgl
    >>> from gnnscale.csc import CSC
    >>> csc = CSC.of(dgl.graph(([2, 1], [1, 0])))
    >>> random_walks(csc, torch.tensor([0, 1]), 3, key=0).tolist()
    [[0, 1, 2, -1], [1, 2, -1, -1]]
    """
    _check_starts(csc, starts)
    length = operator.index(length)
    if length < 0:
        raise ValueError(f"length is {length}; give a number of steps, at least 0.")
    if not 0 <= stop <= 1:
        raise ValueError(f"stop is {stop}; a probability lies in [0, 1].")
    out = starts.new_empty(starts.numel(), length + 1)
    graph, key = (csc.indptr, csc.indices, csc.weight_sums), operator.index(key)
    if (cuda := kernels_for(starts)[0]) is not None:
        cuda.random_walks(*graph, starts, key, stop, out, stream_of(out))
    elif native is None:
        reference.random_walks(*graph, starts, key, stop, out)
    else:
        native.random_walks(*graph, starts, key, stop, out, thread_count(num_threads))
    return out


def walk_ends(csc: CSC, starts: Tensor, *, key: int, stop: float, num_threads: int = 1) -> Tensor:
    """Where walks end that stop with probability `stop` before each step, the first one too.

    The end of a walk from s is t with probability π(s, t), the personalised PageRank π = α Σ_k (1 - α)^k P^k of
    α = `stop` (Fogaras et al., Internet Mathematics 2005), where P_vu is the probability of a step from v to its
    in-neighbour u. A node that no step leaves is stayed at: P_vv = 1. Walks are as long as they happen to be, so
    that nothing is cut off.

    Parameters
    ----------
    csc : CSC
        The graph.
    starts : Tensor
        Shape (W,), int64: where each walk starts.
    key : int
        In [0, 2**64).
    stop : float
        In (0, 1].
    num_threads : int
        Most threads to use; the walks do not depend on it.

    Returns
    -------
    Tensor
        Shape (W,), int64.

    Raises
    ------
    TypeError, ValueError
        As `random_walks`; also if `stop` is 0.

    Examples
    --------
    A path 2 → 1 → 0; with every second walk from 0 ending there, and half of the others in 1:

    >>> import torch
    >>> from gnnscale._dgl import dgl
    >>> from gnnscale.csc import CSC
    >>> csc = CSC.of(dgl.graph(([2, 1], [1, 0])))
    >>> ends = walk_ends(csc, torch.zeros(1000, dtype=torch.int64), key=0, stop=0.5)
    >>> (torch.bincount(ends) / 1000 - torch.tensor([0.5, 0.25, 0.25])).abs().max().item() < 0.05
    True
    """
    _check_starts(csc, starts)
    if not 0 < stop <= 1:
        raise ValueError(f"stop is {stop}; it has to be more than 0 and at most 1, or walks never end.")
    out = torch.empty_like(starts)
    graph, key = (csc.indptr, csc.indices, csc.weight_sums), operator.index(key)
    if (cuda := kernels_for(starts)[0]) is not None:
        cuda.walk_ends(*graph, starts, key, stop, out, stream_of(out))
    elif native is None:
        reference.walk_ends(*graph, starts, key, stop, out)
    else:
        native.walk_ends(*graph, starts, key, stop, out, thread_count(num_threads))
    return out


def top_visits(
    visited: Tensor, limit: int, *, key: int, own: Tensor | None = None, num_threads: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Count what walks visited, and keep the nodes visited most; ties are broken at random.

    Parameters
    ----------
    visited : Tensor
        Shape (R, V), int64: node ids, -1 for nothing.
    limit : int
        Most nodes kept of a row; -1 keeps all.
    key : int
        In [0, 2**64).
    own : Tensor, optional
        Shape (R,), int64: a node of each row that does not count.
    num_threads : int
        Most threads to use; the result does not depend on it.

    Returns
    -------
    indptr : Tensor
        Shape (R + 1,), int64: where each row begins among the nodes kept.
    nodes, counts : Tensor
        Shape (K,), int64: the nodes, in ascending order within a row, and how often each was visited.

    Raises
    ------
    TypeError
        If a tensor is not int64, or a number is no integer.
    ValueError
        If a tensor has the wrong shape, or `limit` is below -1.

    Examples
    --------
    >>> import torch
    >>> top_visits(torch.tensor([[5, 2, 5, 9, -1, 9]]), 1, key=0, own=torch.tensor([9]))
    (tensor([0, 1]), tensor([5]), tensor([2]))
    """
    cuda, reached = kernels_for(visited)
    check_tensor("visited", visited, torch.int64, reached=reached)
    if visited.dim() != 2:
        raise ValueError(f"visited must have two dimensions; its shape is {tuple(visited.shape)}.")
    if own is not None:
        check_vector("own", own, torch.int64, reached=reached)
        if len(own) != len(visited):
            raise ValueError(f"own holds {len(own)} nodes and visited {len(visited)} rows; give one for each row.")
    limit, key = operator.index(limit), operator.index(key)
    if limit < -1:
        raise ValueError(f"limit is {limit}; give a number of nodes, or -1 for all of them.")
    # Of torch's operations, on any device.
    if native is None or cuda is not None:
        return reference.top_visits(visited, own, limit, key)
    return native.top_visits(visited, own, limit, key, thread_count(num_threads))


def _check_starts(csc: CSC, starts: Tensor) -> None:
    check_vector("starts", starts, torch.int64, reached=kernels_for(starts)[1])
    if starts.device != csc.device:
        raise ValueError(f"starts is on {starts.device} and the graph on {csc.device}; pass starts.to(csc.device).")
    if starts.numel():
        low, high = (int(bound) for bound in starts.aminmax())
        if low < 0 or high >= csc.num_nodes:
            raise ValueError(
                f"starts holds {low if low < 0 else high}; node ids of this graph are 0 to {csc.num_nodes - 1}."
            )
