"""Node-wise sampling: each node draws its own neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gnnscale.adjacency import Adjacency
from gnnscale.checks import check_flag, check_per_layer
from gnnscale.csc import CSC
from gnnscale.ops import Hop, sample_neighbors
from gnnscale.ops.random import fold, key_of, uniform
from gnnscale.samplers.base import Sample, Sampler
from gnnscale.samplers.edges import drop_unused, in_edges, select


class NeighborSampler(Sampler):
    """A fixed number of neighbours a node and layer (GraphSAGE, Hamilton et al. 2017).

    Each of the ``k`` drawn in-edges of a node with ``d`` in-edges carries the importance d / k, so that a linear
    aggregation under any normalisation is unbiased.

    With ``by_weight``, edges are drawn in proportion to their weights w, which makes the variance of a sum of
    weighted neighbours smaller. With replacement, an edge has the importance Σ w / (k w) each time that it is drawn.
    Without, the draw is priority sampling (Duffield, Lund and Thorup, "Priority sampling for estimation of arbitrary
    subset sums", JACM 2007): the ``k`` edges with the largest w / u are kept, u uniform in (0, 1], and with τ the
    next largest their importance is max(1, τ / w). A fan-out of 1, for which the variance of that is infinite, is
    one draw with replacement. Edges that weigh nothing are never drawn; they add nothing to the full sum either.

    Parameters
    ----------
    fanouts : sequence of int
        In-edges drawn a node, one number a layer, the input layer first (DGL's order); -1 takes all.
    replace : bool, default False
        Whether to draw with replacement.
    by_weight : bool, default False
        Whether to draw in proportion to ``graph.edata["weight"]``; without weights, all edges are alike.

    Raises
    ------
    ValueError
        If ``fanouts`` is empty or holds anything but -1 and positive integers, or ``replace`` or ``by_weight`` is no
        bool.

    Examples
    --------
    >>> import gnnscale as gs
    >>> gs.samplers.NeighborSampler([10, 10])
    NeighborSampler(fanouts=[10, 10])
    >>> from gnnscale.samplers.neighbor import NeighborSampler
    >>> NeighborSampler([10, 5], replace=True, by_weight=True)
    NeighborSampler(fanouts=[10, 5], replace=True, by_weight=True)
    """

    default_batch_size = 512
    default_per_layer = 10

    def __init__(self, fanouts: Sequence[int], *, replace: bool = False, by_weight: bool = False) -> None:
        self.fanouts = check_fanouts(fanouts)
        self.replace = check_flag("replace", replace)
        self.by_weight = check_flag("by_weight", by_weight)
        self.num_layers = len(self.fanouts)

    def __repr__(self) -> str:
        options = [f", {name}=True" for name in ("replace", "by_weight") if getattr(self, name)]
        return f"{type(self).__name__}(fanouts={self.fanouts}{''.join(options)})"

    def draw(self, csc: CSC, seeds: Tensor, key: int) -> Sample:
        if self.by_weight and csc.weight is not None:
            return thin_outwards(self._thin, csc, seeds, self.fanouts, key, self.num_threads)
        # Hops are drawn from the seeds outwards, and fan-outs are written from the input inwards.
        outwards = self.fanouts[::-1]
        nodes, hops = sample_neighbors(
            csc.indptr,
            csc.indices,
            seeds,
            outwards,
            key=key,
            replace=self.replace,
            num_threads=self.num_threads,
        )
        adjacencies = []
        for hop, fanout, num_src in zip(
            hops, outwards, [*(h.indptr.numel() - 1 for h in hops[1:]), nodes.numel()], strict=True
        ):
            importance = None
            if fanout != -1:
                drawn = hop.indptr.diff()
                destinations = nodes[: drawn.numel()]
                available = csc.indptr[destinations + 1] - csc.indptr[destinations]
                # Rows without edges divide 0 by 0 here and are repeated zero times.
                importance = torch.repeat_interleave(available / drawn, drawn.long())
            adjacencies.append(Adjacency(hop, num_src, csc, nodes, importance=importance))
        return Sample(nodes, adjacencies[::-1], all_train=True)

    def _thin(self, csc: CSC, nodes: Tensor, hop: Hop, fanout: int, key: int) -> tuple[Hop, Tensor]:
        weight = csc.weight[hop.positions].double()  # type: ignore[index]
        if self.replace or fanout == 1:
            return draw_edges_with_replacement(hop, weight, fanout, fold(torch.tensor(key), nodes))
        return draw_by_priority(hop, weight, fanout, fold(torch.tensor(key), hop.positions))


Thin = Callable[[CSC, Tensor, Hop, int, int], tuple[Hop, Tensor]]


def thin_outwards(
    thin: Thin, csc: CSC, seeds: Tensor, fanouts: Sequence[int], key: int, num_threads: int = 1
) -> Sample:
    """A sample whose layers are drawn one after the other, each from all in-edges of its destinations.

    ``thin(csc, nodes, hop, fanout, key)`` is given those edges with their nodes, and the layer's own random key; it
    returns the edges that it keeps, sources numbered as they were, and their importance, shape (E,).
    """
    nodes, adjacencies = seeds.long(), []
    for number, fanout in enumerate(reversed(fanouts)):
        nodes, hop = in_edges(csc, nodes, num_threads)
        importance = None
        if fanout != -1:
            hop, importance = thin(csc, nodes, hop, fanout, key_of(key, number))
            nodes, hop = drop_unused(nodes, hop)
            importance = importance.float()
        adjacencies.append(Adjacency(hop, nodes.numel(), csc, nodes, importance=importance))
    return Sample(nodes, adjacencies[::-1], all_train=True)


def draw_by_priority(hop: Hop, weight: Tensor, size: int, words: Tensor) -> tuple[Hop, Tensor]:
    """Up to ``size`` edges of each row of ``hop`` by priority sampling, and their importance.

    ``weight``, shape (E,), float64, is not negative; ``words``, shape (E,), int64, are the random words.
    """
    counts = hop.indptr.diff()
    rows = torch.repeat_interleave(counts).long()
    priority = weight / (1 - uniform(words))
    # Row by row, the largest first, in one sort: the bits of positive floats are in the order of their values.
    order = ((rows << 32) - priority.float().view(torch.int32)).argsort()
    rank = torch.arange(rows.numel()) - torch.repeat_interleave(hop.indptr[:-1], counts)
    following = order[rank == size]
    threshold = weight.new_zeros(counts.numel())
    threshold[rows[following]] = priority[following]
    keep = torch.zeros_like(rows, dtype=torch.bool)
    keep[order[rank < size]] = True
    keep &= weight > 0
    return select(hop, keep), (threshold[rows[keep]] / weight[keep]).clamp(min=1)


def draw_edges_with_replacement(hop: Hop, weight: Tensor, size: int, words: Tensor) -> tuple[Hop, Tensor]:
    """``size`` edges of each row of ``hop`` that weighs anything, and their importance.

    ``weight``, shape (E,), float64, is not negative; ``words``, int64, are random words, the first num_dst of them
    those of the rows.
    """
    counts = hop.indptr.diff()
    rows = torch.repeat_interleave(counts)
    total = weight.new_zeros(counts.numel()).index_add_(0, rows, weight)
    drawing = (total > 0).nonzero().squeeze(1)
    # Shares, and not weights: a light row beside a heavy one would drown in the sum's rounding.
    share = (weight / total[rows]).nan_to_num_(0.0)
    cumulative = share.cumsum(0)
    ends = torch.cat([cumulative.new_zeros(1), cumulative])[hop.indptr.long()]
    begin, end = ends[drawing], ends[drawing + 1]
    points = uniform(fold(words[drawing][:, None], torch.arange(size)))
    drawn = torch.searchsorted(cumulative, begin[:, None] + points * (end - begin)[:, None], right=True)
    # Rounding can carry a point to the row's end, which belongs to the last of its edges that weighs anything.
    drawn = torch.minimum(drawn, torch.searchsorted(cumulative, end)[:, None]).flatten()
    indptr = torch.zeros_like(hop.indptr)
    indptr[drawing + 1] = size
    indptr = indptr.cumsum(0, dtype=hop.indptr.dtype)
    return Hop(indptr, hop.indices[drawn], hop.positions[drawn]), 1 / (size * share[drawn])


def check_fanouts(fanouts: Sequence[int]) -> list[int]:
    """``fanouts`` as a list, where it holds one number of neighbours a layer."""
    return check_per_layer("fanouts", fanouts, "neighbours", example=10, all_of="neighbours")
