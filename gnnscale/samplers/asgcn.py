"""AS-GCN: layer-wise sampling with probabilities that are trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gnnscale._dgl import dgl
from gnnscale.adjacency import Adjacency
from gnnscale.checks import check_number, is_whole
from gnnscale.csc import CSC
from gnnscale.layer import Layer
from gnnscale.ops import gather_rows
from gnnscale.ops.layerwise import draw_with_replacement
from gnnscale.samplers.base import Sample
from gnnscale.samplers.layerwise import (
    DrawnLayer,
    LayerwiseSampler,
    as_adjacencies,
    draw_outwards,
    keep_drawn,
    squared_columns,
)

if TYPE_CHECKING:
    from gnnscale.batch import MiniBatch


class ASGCNSampler(LayerwiseSampler):
    """Nodes drawn with probabilities that are trained to lower the variance (AS-GCN, Huang et al., NeurIPS 2018).

    Among the sources u of the destinations V, with h = X w for the features X and trainable vectors w₀ and w₁,

        q_u ∝ (Σ_v Â_vu²)^½ · (ReLU(mean_v h₁_v + h₀_u) + 1) · (ReLU(h₀_u) + 1)

    and a layer makes ``n`` independent draws. A node drawn c_u times has the importance c_u / (n q_u), so that the
    estimate is unbiased under any normalisation and whatever the weights are.

    The variance of the last layer's estimate, averaged over its destinations, is added to the loss (the paper's
    explicit variance reduction): a draw of u says X_u = (1 / |V|) Σ_v Â_vu x_u / q_u, and the penalty is ``variance``
    times the variance of X over the draws, averaged over columns. Its gradient in w is an unbiased estimate of the
    gradient of E_q[X²] - E_q[X]²: each draw counts by how much likelier a changed q would make it. The task loss
    gives w no gradient: its expectation depends on q only through the spread of an estimate that stays unbiased, and
    to differentiate 1 / q at nodes that are already drawn would reward weights that make the outputs larger.

    The authors differ: their attention (ReLU(h_v + h_u) + 1) / n is part of the model as well, so that its sum is
    not Â's, and is what their loss trains, with q held fixed; here it shapes q alone, and the model is the one that
    was given. Their sampler reads the columns of ``sample_weights`` as (u, v) and their model as (v, u), so that the
    trained vectors serve the wrong side; here they have one order. They add up h_v over the batch, and here it is
    the mean, which does not depend on the batch's size. Their penalty compares X_u / n with X̄, and here both are
    on one scale.

    Parameters
    ----------
    sizes : sequence of int
        Draws, one number a layer, the input layer first.
    variance : float, default 0.5
        Factor of the variance in the loss; the authors' is 0.5 on Reddit and 0 on the small graphs. With 0 the
        weights stay what they were at first.
    norm : {"sym", "mean", "sum", "both", "in", "left"}
        The Â that the probabilities come from, best that of the model; see :meth:`gnnscale.Layer.aggregate`. The
        node's own row under "sym" is exact and does not count, and parallel edges count one by one.
    seed : int, default 0
        Of the first weights, which are Glorot's.

    Attributes
    ----------
    weight : torch.nn.Parameter or None
        Shape (F, 2), float32: w₀ and w₁, once the sampler has been prepared. They stay when it is prepared again,
        for any graph with as many features.

    Raises
    ------
    ValueError
        If ``sizes`` is empty or holds anything but positive integers, ``variance`` is negative or not finite,
        ``norm`` is not known, or ``seed`` is no integer; when it is prepared, if the graph has no features.

    Examples
    --------
    >>> import gnnscale as gs
    >>> from gnnscale.samplers.asgcn import ASGCNSampler
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> sampler = ASGCNSampler([100, 50])
    >>> batch = next(iter(gs.DataLoader(data.graph, data.train_ids, sampler, batch_size=64)))
    >>> model = gs.nn.GCN(data.num_features, 16, data.num_classes)
    >>> batch.loss(model(batch, batch.x)).backward()
    >>> sampler.weight.grad.shape == (data.num_features, 2)
    True
    """

    draws_ahead = False
    needs_norm = True

    def __init__(self, sizes: Sequence[int], *, variance: float = 0.5, norm: str = "sym", seed: int = 0) -> None:
        super().__init__(sizes, norm)
        check_number("variance", variance)
        if not is_whole(seed):
            raise ValueError(f"seed={seed!r} has to be an integer")
        self.variance = float(variance)
        self.seed = int(seed)
        self.weight: nn.Parameter | None = None
        self._features: Tensor | None = None

    def _options(self) -> list[str]:
        return [] if self.variance == 0.5 else [f"variance={self.variance}"]

    def prepare(self, graph: dgl.DGLGraph, indices: Tensor, batch_size: int) -> None:
        features = graph.ndata.get("feat")
        if features is None or features.dim() != 2:
            got = "none" if features is None else f"those of the shape {tuple(features.shape)}"
            raise ValueError(
                f"ASGCNSampler draws nodes by their features and the graph has {got}; store a matrix, one row a "
                "node, in graph.ndata['feat']"
            )
        self._features = features
        if self.weight is None or self.weight.shape[0] != features.shape[1]:
            generator = torch.Generator().manual_seed(self.seed)
            bound = math.sqrt(6 / (features.shape[1] + 2))
            self.weight = nn.Parameter((2 * torch.rand(features.shape[1], 2, generator=generator) - 1) * bound)

    def parameters(self) -> list[nn.Parameter]:
        return [] if self.weight is None else [self.weight]

    def probabilities(self, chance: Tensor, candidates: Tensor, destinations: Tensor) -> Tensor:
        """q of the candidates, shape (n,) float64, a function of the weights; ``chance`` is (Σ_v Â_vu²)^½."""
        if self.weight is None or self._features is None:
            raise ValueError(
                "ASGCNSampler has not seen the graph's features; call prepare(graph, indices, batch_size) first, as "
                "gnnscale.DataLoader does"
            )
        of_source, of_destination = self.weight.unbind(1)
        as_source, as_destination = (
            gather_rows(self._features, nodes, num_threads=self.num_threads).to(self.weight.dtype) @ weight
            for nodes, weight in ((candidates, of_source), (destinations, of_destination))
        )
        attention = (as_destination.mean() + as_source).relu() + 1
        unscaled = chance * attention * (as_source.relu() + 1)
        return unscaled / unscaled.sum().clamp(min=torch.finfo(unscaled.dtype).tiny)

    def draw_layer(self, csc: CSC, destinations: Tensor, size: int, key: int) -> AdaptiveLayer:
        candidates, chance = squared_columns(csc, destinations, self._scales(csc), self.num_threads)
        chance = chance.sqrt()
        q = self.probabilities(chance, candidates, destinations)
        drawn, counts = draw_with_replacement(q.detach().cumsum(0), size, key=key)
        share = counts / size
        importance = share / q.detach()[drawn]
        layer = keep_drawn(csc, destinations, candidates[drawn], importance, self.num_threads)
        # As draw_variance meets them: by their place in the layer.
        order = layer.places.argsort()
        return AdaptiveLayer(**vars(layer), share=share[order], probability=q[drawn[order]])

    def draw(self, csc: CSC, seeds: Tensor, key: int) -> Sample:
        layers = draw_outwards(partial(self.draw_layer, csc), seeds, self.sizes, key)
        return ASGCNSample(
            layers[-1].nodes,
            as_adjacencies(csc, layers),
            all_train=True,
            share=layers[0].share,
            probability=layers[0].probability,
            variance=self.variance,
        )


@dataclass(eq=False)
class AdaptiveLayer(DrawnLayer):
    """A layer whose probabilities are trained: for each drawn node, its share of the draws and its q (float64)."""

    share: Tensor
    probability: Tensor


class ASGCNLayer(Layer):
    """A layer that adds the variance of its estimate to the loss if it is the batch's last."""

    def __init__(self, index: int, adjacency: Adjacency, batch: MiniBatch) -> None:
        super().__init__(index, adjacency, batch)
        # A layer that is looked at by itself has no batch, and no loss to add to.
        sample = None if batch is None else batch.sample
        is_last = sample is not None and index == len(sample.adjacencies) - 1
        self._sample = sample if is_last and isinstance(sample, ASGCNSample) else None

    def propagate(self, conv: nn.Module, x: Tensor, *rows: Tensor) -> Tensor:
        """Apply a convolution that adds up its neighbours with fixed weights.

        Raises
        ------
        ValueError
            If it computes weights of its own, so that the variance under a fixed Â says nothing.
        """
        if getattr(conv, "norm", None) is None:
            raise ValueError(
                f"{conv._get_name()} has no fixed norm and AS-GCN trains its probabilities for one; use "
                "LADIESSampler or NeighborSampler, or a convolution with the attribute norm, such as GCNConv"
            )
        return super().propagate(conv, x, *rows)

    def aggregate(self, x: Tensor, norm: str = "mean", *, dropout: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        out = super().aggregate(x, norm, dropout=dropout)
        sample = self._sample
        if sample is not None and sample.variance and sample.share.numel() and torch.is_grad_enabled():
            share, q = (values.to(x.device, x.dtype) for values in (sample.share, sample.probability))
            self._batch.add_penalty(sample.variance * draw_variance(self._adjacency, x, norm, share, q))
        return out


@dataclass(eq=False)
class ASGCNSample(Sample):
    """A sample that knows how the sources of its last layer were drawn.

    Attributes
    ----------
    share, probability : Tensor
        Shape (k,), float64: the share of the draws that each drawn node of the last layer has, and its q, which
        is differentiable in the sampler's weights.
    variance : float
        Factor of the penalty.
    """

    share: Tensor = field(kw_only=True)
    probability: Tensor = field(kw_only=True)
    variance: float = field(kw_only=True)

    layer_class = ASGCNLayer


def draw_variance(adjacency: Adjacency, x: Tensor, norm: str, share: Tensor, q: Tensor) -> Tensor:
    """The variance of one draw's estimate of the destinations' mean, averaged over the columns of ``x``.

    Parameters
    ----------
    adjacency : Adjacency
        The edges from drawn nodes.
    x : Tensor
        Shape (num_src, F).
    norm : {"sym", "mean", "sum", "both", "in", "left"}
        The model's normalisation.
    share, q : Tensor
        Shape (k,): share of the draws, and probability, of each drawn node in the order of the sources.

    Returns
    -------
    Tensor
        A scalar, differentiable in ``x`` and in ``q``.
    """
    drawn, place = adjacency.hop.indices.unique(return_inverse=True)
    weights, _ = adjacency.normalised(norm)
    weights = x.new_ones(place.numel()) if weights is None else weights.to(x.dtype)
    columns = x.new_zeros(drawn.numel()).index_add_(0, place, weights) / adjacency.num_dst
    # The weights hold share / q; a single draw of the node stands for 1 / q.
    of_draw = (columns / share).unsqueeze(1) * x[drawn.long()]
    mean = (share.unsqueeze(1) * of_draw).sum(0)
    # For X = c / q, E_q[X²] is E_q₀[(q₀ / q) (c / q₀)²]: with nodes drawn at q₀, an unbiased gradient in q. The mean
    # that is squared does not depend on q.
    return (share * (q.detach() / q) * of_draw.square().mean(1)).sum() - mean.square().mean()
