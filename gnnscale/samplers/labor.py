"""Layer-neighbour sampling: neighbours drawn node by node, with random numbers that a layer's nodes share."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gnnscale.checks import check_flag, is_whole
from gnnscale.csc import CSC
from gnnscale.ops import sample_labor
from gnnscale.samplers.base import Sample, Sampler
from gnnscale.samplers.neighbor import as_sample, check_fanouts


class LaborSampler(Sampler):
    """About a fixed number of neighbours a node, the same ones for many nodes (LABOR, Balın and Çatalyürek 2023).

    The paper is "Layer-Neighbor Sampling: Defusing Neighborhood Explosion in GNNs" (NeurIPS 2023). Every node u has
    one random number r_u a layer, and the edge u → v is kept where r_u < p_vu = min(1, c_v π_u). Destinations that
    share a neighbour so keep it or leave it together, and a layer has fewer sources than if each destination drew
    for itself. For a destination with d in-edges, c_v solves Σ_u 1 / p_vu = d² / min(k, d), the paper's condition for
    the variance of ``k`` neighbours drawn by v alone. Parallel edges share their source's r_u.

    LABOR-0 has π = 1, so p = k / d: a node's number of edges is random, with the mean min(k, d). LABOR-i then
    repeats ``i`` times π_u ← π_u max_v c_v, which lets the layer's expected number of sources decrease, while that
    of edges grows. c_v is the equation's root, by Newton's method; DGL stops within 10⁻⁴ of it.

    The importance of an edge is 1 / p_vu (Horvitz and Thompson), so that a linear aggregation under any
    normalisation is unbiased, on weighted graphs too: weights have no part in p. The authors' code in DGL scales
    the importances of each node's edges so that their mean is 1. That makes the aggregate a weighted mean of what was
    drawn, of smaller variance, and slightly biased, as a node that kept no edge gets zeros.

    Parameters
    ----------
    fanouts : sequence of int
        ``k``, one number a layer, the input layer first; -1 takes all.
    importance_sampling : int, default 0
        ``i`` of LABOR-i; -1 goes on until the expected number of sources falls by less than one in 10⁴.
    layer_dependency : bool, default False
        Whether all layers use the same r_u, so that fewer nodes are in a batch. Each layer is unbiased by itself, but
        no longer given the layers that were drawn before it.

    Raises
    ------
    ValueError
        If ``fanouts`` is empty or holds anything but -1 and positive integers, ``importance_sampling`` is no integer
        of at least -1, or ``layer_dependency`` is no bool.

    Examples
    --------
    >>> import gnnscale as gs
    >>> from gnnscale.samplers.labor import LaborSampler
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=20_000)
    >>> def num_inputs(sampler):
    ...     return len(next(iter(gs.DataLoader(data.graph, data.train_ids, sampler, batch_size=50))).input_nodes)
    >>> num_inputs(gs.samplers.NeighborSampler([5, 5])) > num_inputs(LaborSampler([5, 5]))
    True
    """

    draws_on_gpu = True
    default_batch_size = 512
    default_per_layer = 10

    def __init__(self, fanouts: Sequence[int], *, importance_sampling: int = 0, layer_dependency: bool = False) -> None:
        self.fanouts = check_fanouts(fanouts)
        if not is_whole(importance_sampling) or importance_sampling < -1:
            raise ValueError(
                f"importance_sampling={importance_sampling!r} has to be a number of iterations, 0 or more, or -1 to "
                "go on until convergence"
            )
        self.importance_sampling = int(importance_sampling)
        self.layer_dependency = check_flag("layer_dependency", layer_dependency)
        self.num_layers = len(self.fanouts)

    def __repr__(self) -> str:
        shown = f"fanouts={self.fanouts}"
        if self.importance_sampling:
            shown += f", importance_sampling={self.importance_sampling}"
        if self.layer_dependency:
            shown += ", layer_dependency=True"
        return f"LaborSampler({shown})"

    def draw(self, csc: CSC, seeds: Tensor, key: int) -> Sample:
        drawn = sample_labor(
            csc.indptr,
            csc.indices,
            seeds.to(csc.device),
            self.fanouts[::-1],
            key=key,
            iterations=self.importance_sampling,
            shared=self.layer_dependency,
            num_threads=self.num_threads,
        )
        return as_sample(csc, *drawn)
