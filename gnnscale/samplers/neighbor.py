"""Node-wise sampling: each node draws its own neighbours."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gnnscale.adjacency import Adjacency
from gnnscale.checks import check_flag, check_per_layer
from gnnscale.csc import CSC
from gnnscale.ops import Hop, sample_neighbors
from gnnscale.samplers.base import Sample, Sampler


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

    draws_on_gpu = True
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
        # Hops are drawn from the seeds outwards, and fan-outs are written from the input inwards.
        drawn = sample_neighbors(
            csc.indptr,
            csc.indices,
            seeds.to(csc.device),
            self.fanouts[::-1],
            key=key,
            replace=self.replace,
            weight=csc.weight if self.by_weight else None,
            num_threads=self.num_threads,
        )
        return as_sample(csc, *drawn)


def as_sample(csc: CSC, nodes: Tensor, hops: list[Hop], importance: list[Tensor | None]) -> Sample:
    """A batch of hops that were drawn from training nodes outwards."""
    num_src = [*(hop.indptr.numel() - 1 for hop in hops[1:]), nodes.numel()]
    adjacencies = [
        Adjacency(hop, size, csc, nodes, importance=factors)
        for hop, size, factors in zip(hops, num_src, importance, strict=True)
    ]
    return Sample(nodes, adjacencies[::-1], all_train=True)


def check_fanouts(fanouts: Sequence[int]) -> list[int]:
    """``fanouts`` as a list, where it holds one number of neighbours a layer."""
    return check_per_layer("fanouts", fanouts, "neighbours", example=10, all_of="neighbours")
