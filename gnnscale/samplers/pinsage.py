"""Neighbourhoods that random walks choose: PinSAGE's and personalised PageRank's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gnnscale.adjacency import Adjacency
from gnnscale.checks import check_count, check_per_layer, check_share
from gnnscale.csc import CSC
from gnnscale.ops import Hop
from gnnscale.ops.random import key_of
from gnnscale.ops.subgraph import append_nodes
from gnnscale.ops.walks import random_walks, top_visits, walk_ends
from gnnscale.samplers.base import Sample, Sampler


class WalkSampler(Sampler):
    """A sampler whose layers join each node with those that random walks from it visited most.

    Subclasses say which nodes those are, in :meth:`visited`.
    """

    draws_on_gpu = True
    default_batch_size = 512
    default_per_layer = 10
    estimate = "replaced"

    def __init__(self, num_neighbors: Sequence[int], num_walks: int, stop: float) -> None:
        self.num_neighbors = check_per_layer(
            "num_neighbors", num_neighbors, "neighbours", example=10, all_of="that were visited"
        )
        self.num_walks = check_count("num_walks", num_walks)
        self.stop = stop
        self.num_layers = len(self.num_neighbors)

    def visited(self, csc: CSC, nodes: Tensor, key: int) -> Tensor:
        """Shape (num_nodes, V), int64: what walks from each of ``nodes`` visited, itself or others, -1 for nothing."""
        raise NotImplementedError

    def draw(self, csc: CSC, seeds: Tensor, key: int) -> Sample:
        nodes = seeds.long().to(csc.device)
        adjacencies = []
        for number, limit in enumerate(reversed(self.num_neighbors)):
            visited = self.visited(csc, nodes, key_of(key, number, 0))
            indptr, found, counts = top_visits(
                visited, limit, key=key_of(key, number, 1), own=nodes, num_threads=self.num_threads
            )
            rows = rows_of(indptr)
            total = csc.degree.new_zeros(nodes.numel()).index_add_(0, rows, counts.float())
            nodes, indices = append_nodes(nodes, found, csc.num_nodes)
            hop = Hop(indptr.int(), indices, torch.full_like(found, -1))
            degree = (csc.degree[nodes] > (0 if csc.loops is None else csc.loops[nodes])).float()
            adjacencies.append(Adjacency.replacing(hop, nodes.numel(), counts / total[rows], degree))
        return Sample(nodes, adjacencies[::-1], all_train=True)


class PinSAGESampler(WalkSampler):
    """The most visited nodes of short random walks, weighted by their visits (Ying et al., KDD 2018, section 3).

    From each destination start ``num_walks`` walks along in-edges. Its neighbours are the ``num_neighbors`` nodes that
    were visited most (ties are broken at random), and the weight of each is its share of their visits, the paper's
    L1-normalised count. The destination itself is none of its neighbours, however often walks return to it.

    Edges and weights take the place of the graph's: "mean" and "sum" of :meth:`Layer.aggregate` are the
    importance pooling Σ_u w_vu x_u, with Σ_u w_vu = 1. For other models this is our reading: W is a graph in which
    every node with an in-edge other than a self-loop has the in-degree 1, so that "sym" is
    D̃^-1/2 (W + I) D̃^-1/2 with D̃ = 2, or 1 for a node without such an edge. A destination whose walks found no
    other node gets zeros for its neighbours.

    ``dgl.sampling.PinSAGESampler`` walks along out-edges, counts returns to the start as well, and gives counts that
    the model divides by their sum.

    Parameters
    ----------
    num_neighbors : sequence of int
        Neighbours kept a node, one number a layer, the input layer first; -1 keeps all that were visited.
    num_walks : int, default 10
        Walks from each node.
    walk_length : int, default 2
        Most steps of a walk (DGL's ``num_traversals``).
    stop : float, default 0.5
        Probability, after each step, that the walk ends (DGL's ``termination_prob``).

    Raises
    ------
    ValueError
        If ``num_neighbors`` is empty or holds anything but -1 and positive integers, ``num_walks`` or ``walk_length``
        is no positive integer, or ``stop`` is not in [0, 1].

    Examples
    --------
    >>> import gnnscale as gs
    >>> from gnnscale.samplers.pinsage import PinSAGESampler
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> loader = gs.DataLoader(data.graph, data.train_ids, PinSAGESampler([5, 5]), batch_size=50)
    >>> layer = next(iter(loader)).layers(2)[1]
    >>> means = layer.aggregate(torch.ones(layer.num_src, 1))
    >>> torch.allclose(means, torch.ones(50, 1))  # the weights of a node's neighbours add up to 1
    True
    """

    def __init__(
        self, num_neighbors: Sequence[int], *, num_walks: int = 10, walk_length: int = 2, stop: float = 0.5
    ) -> None:
        super().__init__(num_neighbors, num_walks, stop)
        self.walk_length = check_count("walk_length", walk_length)
        check_share("stop", stop, "a probability, 0 to 1", zero=True, one=True)

    def __repr__(self) -> str:
        return (
            f"PinSAGESampler(num_neighbors={self.num_neighbors}, num_walks={self.num_walks}, "
            f"walk_length={self.walk_length}, stop={self.stop})"
        )

    def visited(self, csc: CSC, nodes: Tensor, key: int) -> Tensor:
        starts = nodes.repeat_interleave(self.num_walks)
        walks = random_walks(csc, starts, self.walk_length, key=key, stop=self.stop, num_threads=self.num_threads)
        return walks.view(nodes.numel(), -1)


class PPRSampler(WalkSampler):
    """The nodes with the largest personalised PageRank, estimated by random walks (Fogaras et al. 2005).

    π(s, ·) = α Σ_k (1 - α)^k P^k e_s is where a walk from s ends that stops with probability α = ``stop`` before each
    step, the first one too. The share of ``num_walks`` such walks from a destination that ended at a node estimates
    its π without bias (:func:`ppr_shares`). Kept are the ``num_neighbors`` largest shares but for the destination's
    own (ties are broken at random), divided by their sum: these weights take the place of the graph's, as in
    :class:`PinSAGESampler`. Scores as weights of an aggregation are PPRGo's (Bojchevski et al., KDD 2020), which
    computes them by push and not by walks, keeps the destination among them, and has one layer.

    Walks follow in-edges, by weight on a weighted graph. At a node without in-edges a walk stays until it stops.

    Parameters
    ----------
    num_neighbors : sequence of int
        Neighbours kept a node, one number a layer, the input layer first; -1 keeps all that a walk ended at.
    num_walks : int, default 50
        Walks from each node.
    stop : float, default 0.15
        The teleport probability α.

    Raises
    ------
    ValueError
        If ``num_neighbors`` is empty or holds anything but -1 and positive integers, ``num_walks`` is no positive
        integer, or ``stop`` is not between 0 and 1.

    Examples
    --------
    >>> from gnnscale.samplers.pinsage import PPRSampler
    >>> PPRSampler([10, 10])
    PPRSampler(num_neighbors=[10, 10], num_walks=50, stop=0.15)
    """

    def __init__(self, num_neighbors: Sequence[int], *, num_walks: int = 50, stop: float = 0.15) -> None:
        super().__init__(num_neighbors, num_walks, stop)
        check_teleport(stop)

    def __repr__(self) -> str:
        return f"PPRSampler(num_neighbors={self.num_neighbors}, num_walks={self.num_walks}, stop={self.stop})"

    def visited(self, csc: CSC, nodes: Tensor, key: int) -> Tensor:
        starts = nodes.repeat_interleave(self.num_walks)
        ends = walk_ends(csc, starts, key=key, stop=self.stop, num_threads=self.num_threads)
        return ends.view(nodes.numel(), -1)


def ppr_shares(csc: CSC, starts: Tensor, *, num_walks: int, stop: float, key: int) -> tuple[Tensor, Tensor, Tensor]:
    """Unbiased estimates of the personalised PageRank π = α (I - (1 - α) P)^-1 of α = ``stop``, by random walks.

    Parameters
    ----------
    csc : CSC
        The graph.
    starts : Tensor
        Shape (S,), int64.
    num_walks : int
        Walks from each start.
    stop : float
        The teleport probability α, in (0, 1].
    key : int
        In [0, 2**64).

    Returns
    -------
    rows, nodes : Tensor
        Shape (K,), int64: position in ``starts``, and a node that a walk from there ended at; in order.
    shares : Tensor
        Shape (K,), float32: the share of walks, which estimates π(starts[row], node). All others are estimated as 0.

    Raises
    ------
    ValueError
        If a start is no node, ``num_walks`` no positive integer, or ``stop`` not in (0, 1].

    Examples
    --------
    >>> from gnnscale._dgl import dgl
    >>> csc = CSC.of(dgl.graph(([1], [0])))
    >>> rows, nodes, shares = ppr_shares(csc, torch.tensor([0, 1]), num_walks=1000, stop=0.2, key=0)
    >>> list(zip(rows.tolist(), nodes.tolist()))
    [(0, 0), (0, 1), (1, 1)]
    >>> (shares - torch.tensor([0.2, 0.8, 1.0])).abs().max().item() < 0.05
    True
    """
    num_walks = check_count("num_walks", num_walks)
    ends = walk_ends(csc, starts.repeat_interleave(num_walks), key=key, stop=stop)
    indptr, nodes, counts = top_visits(ends.view(starts.numel(), num_walks), -1, key=0)
    return rows_of(indptr), nodes, counts / num_walks


def rows_of(indptr: Tensor) -> Tensor:
    """The row of each element of a CSR structure, int64."""
    rows = torch.arange(indptr.numel() - 1, device=indptr.device)
    return rows.repeat_interleave(indptr.diff(), output_size=int(indptr[-1]))


def check_teleport(stop: float) -> float:
    """``stop`` where it lies between 0 and 1."""
    return check_share("stop", stop, "more than 0 and less than 1")
