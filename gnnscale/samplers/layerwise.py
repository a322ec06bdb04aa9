"""Layer-wise sampling: the sources of a layer are drawn together, for all its destinations at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from gnnscale._dgl import dgl
from gnnscale.adjacency import NORMS, Adjacency
from gnnscale.checks import check_flag, check_per_layer
from gnnscale.csc import CSC, on_huge_pages
from gnnscale.ops import Hop
from gnnscale.ops.layerwise import (
    column_sums,
    cumulative_sums,
    draw_in_succession,
    draw_with_replacement,
    fill_rows,
    guide_of,
)
from gnnscale.ops.random import key_of
from gnnscale.ops.subgraph import edges_from
from gnnscale.samplers.base import Sample, Sampler


@dataclass(eq=False)
class DrawnLayer:
    """The edges of one layer that leave its drawn nodes.

    Attributes
    ----------
    nodes : Tensor
        Shape (n,), int64: the destinations, then the drawn nodes that are not among them.
    hop : Hop
        The edges, sources as positions in ``nodes``.
    importance : Tensor
        Shape (E,), float64: how much each edge stands for.
    places : Tensor
        Shape (d,), int32: where each drawn node stands in ``nodes``, -1 where no edge leaves it.
    """

    nodes: Tensor
    hop: Hop
    importance: Tensor
    places: Tensor


Drawn = TypeVar("Drawn", bound=DrawnLayer)

Scales = tuple[Tensor | None, Tensor | None]
"""Squared factors of the rows and of the columns of Â, shape (N,) float64; None for ones."""


class LayerwiseSampler(Sampler):
    """A sampler that draws the sources of a layer together; a subclass implements :meth:`draw_layer`.

    All edges from a drawn node to a destination are kept, and no others: a destination is in the list of sources,
    as blocks promise, but sends nothing unless it was drawn. Its own row, under "sym", is exact.
    """

    default_batch_size = 512
    default_per_layer = 512

    def __init__(self, sizes: Sequence[int], norm: str) -> None:
        self.sizes = check_per_layer("sizes", sizes, "nodes", example=512)
        if norm not in NORMS:
            raise ValueError(f"norm={norm!r} is not known; use one of {', '.join(map(repr, NORMS))}")
        self.norm = norm
        self.num_layers = len(self.sizes)
        self._scales_of: tuple[CSC, Scales] | None = None

    def _scales(self, csc: CSC) -> Scales:
        """What :func:`squared_columns` takes, computed once a graph."""
        known = self._scales_of
        if known is None or known[0] is not csc.source:
            # At once, because several threads may draw from a graph that was not prepared.
            known = self._scales_of = (csc.source, squared_scales(csc.source, self.norm))
        rows, columns = (scale if scale is None else csc.beside(scale) for scale in known[1])
        return rows, columns

    def __repr__(self) -> str:
        shown = [f"sizes={self.sizes}", *self._options()]
        if self.norm != "sym":
            shown.append(f"norm={self.norm!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def _options(self) -> list[str]:
        """What ``repr`` shows besides the sizes."""
        return []

    def draw_layer(self, csc: CSC, destinations: Tensor, size: int, key: int) -> DrawnLayer:
        """Draw ``size`` sources for ``destinations``, shape (n,) int64, with the layer's own random key."""
        raise NotImplementedError(f"{type(self).__name__} has to implement draw_layer(csc, destinations, size, key)")

    def draw(self, csc: CSC, seeds: Tensor, key: int) -> Sample:
        layers = draw_outwards(partial(self.draw_layer, csc), seeds.to(csc.device), self.sizes, key)
        return Sample(layers[-1].nodes, as_adjacencies(csc, layers), all_train=True)


class FastGCNSampler(LayerwiseSampler):
    """A fixed number of nodes a layer, drawn from the whole graph (FastGCN, Chen et al., ICLR 2018).

    Each of the ``t`` draws of a layer is independent and takes node ``u`` with probability
    p_u = ‖Â[:, u]‖² / Σ_u' ‖Â[:, u']‖², the same in every layer and batch. A node drawn c_u times has the importance
    c_u / (t p_u), so that a linear aggregation under any normalisation is unbiased (eq. 10 of the paper). Nodes
    without an edge to the layer above are dropped, and many are where the batch is small and the graph is large:
    the variance is that of sampling blindly.

    The paper is followed. The authors' code draws *without* replacement, among the nodes that touch the batch, with
    ‖Â[:, u]‖ in the place of its square, and divides by ``t`` times the probability over the whole graph, which is
    biased; it also does without sampling in the input layer, whose sums it computes once.

    Parameters
    ----------
    sizes : sequence of int
        Draws, one number a layer, the input layer first.
    norm : {"sym", "mean", "sum", "both", "in", "left"}
        The Â that the probabilities come from, best that of the model; see :meth:`gnnscale.Layer.aggregate`. The
        node's own row under "sym" is exact and does not count, and parallel edges count one by one. The estimate is
        unbiased whichever is given.

    Raises
    ------
    ValueError
        If ``sizes`` is empty or holds anything but positive integers, or ``norm`` is not known.

    Examples
    --------
    >>> import gnnscale as gs
    >>> from gnnscale.samplers.layerwise import FastGCNSampler
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> loader = gs.DataLoader(data.graph, data.train_ids, FastGCNSampler([100, 50]), batch_size=64)
    >>> batch = next(iter(loader))
    >>> len(batch.input_nodes) <= 64 + 50 + 100
    True
    """

    draws_on_gpu = True

    def __init__(self, sizes: Sequence[int], *, norm: str = "sym") -> None:
        super().__init__(sizes, norm)
        self._prepared: tuple[CSC, Tensor, Tensor, Tensor] | None = None

    def prepare(self, graph: dgl.DGLGraph, indices: Tensor, batch_size: int) -> None:
        self._probabilities(CSC.of(graph))

    def _probabilities(self, csc: CSC) -> tuple[Tensor, Tensor, Tensor]:
        """p of all nodes and its cumulative sums, float64, and the guide to these, computed once a graph."""
        prepared = self._prepared
        if csc.host is not None:
            probability, cumulative, guide = map(csc.beside, self._probabilities(csc.host))
            return probability, cumulative, guide
        if prepared is None or prepared[0] is not csc:
            sources, sums = squared_columns(csc, csc.nodes, squared_scales(csc, self.norm), self.num_threads)
            columns = torch.zeros(csc.num_nodes, dtype=sums.dtype).index_copy_(0, sources, sums)
            cumulative = on_huge_pages(columns.cumsum(0))
            # At once, because several threads may draw from a graph that was not prepared.
            prepared = self._prepared = (csc, columns / columns.sum(), cumulative, guide_of(cumulative))
        return prepared[1:]

    def draw_layer(self, csc: CSC, destinations: Tensor, size: int, key: int) -> DrawnLayer:
        probability, cumulative, guide = self._probabilities(csc)
        drawn, counts = draw_with_replacement(cumulative, size, key=key, guide=guide)
        layer = keep_drawn(csc, destinations, drawn, counts, self.num_threads)
        # Of the few nodes that an edge leaves: the others' probabilities would be read at random for nothing.
        layer.importance = layer.importance / (size * probability[layer.nodes[layer.hop.indices]])
        return layer


class LADIESSampler(LayerwiseSampler):
    """A fixed number of nodes a layer, drawn from the neighbours of the layer above (LADIES, Zou et al. 2019).

    Among the sources u of the destinations v, p_u ∝ Σ_v Â_vu² (algorithm 1), and ``n`` distinct nodes are drawn one
    after the other, or all where there are fewer. As in the authors' code the weights w_vu / p_u are then normalised
    by row: they add up to the node's in-degree, so that "mean" gives a weighted mean of the neighbours drawn. The
    estimate is a ratio, and biased: 1 / p_u is not the inverse of the probability that u is among n nodes drawn
    without replacement, and a row with no drawn neighbour gets zeros. It does not become exact when every neighbour
    is drawn.

    With ``debias`` it is unbiased, by the method of Chen et al., "Calibrate and Debias Layer-wise Sampling for Graph
    Convolutional Networks" (TMLR 2023): p_u ∝ (Σ_v Â_vu²)^½, and the j-th of the nodes drawn (j = 0, 1, ...) gives
    an estimate by itself, (y_u, divided by its probability at that point, plus what came before: Des Raj 1956).
    Their mean with the paper's coefficients n / ((j + 1)(n - j)), n the number of candidates, gives each node its
    importance, which does not depend on the row. It is 1 where every candidate is drawn, and (number of candidates)
    / (number drawn) where all are equally likely.

    The authors put the batch's output nodes among the sources of every layer, with their edges; here no edge leaves
    a node that was not drawn. Their Â is the row-normalised A + I, and here the own row is never sampled.

    Parameters
    ----------
    sizes : sequence of int
        Nodes drawn, one number a layer, the input layer first.
    debias : bool, default False
        Whether to use the unbiased weights.
    norm : {"sym", "mean", "sum", "both", "in", "left"}
        The Â that the probabilities come from, best that of the model; see :meth:`gnnscale.Layer.aggregate`. The
        node's own row under "sym" is exact and does not count, and parallel edges count one by one.

    Raises
    ------
    ValueError
        If ``sizes`` is empty or holds anything but positive integers, ``debias`` is no bool, or ``norm`` is not
        known.

    Examples
    --------
    >>> import gnnscale as gs
    >>> from gnnscale.samplers.layerwise import LADIESSampler
    >>> LADIESSampler([512, 512], debias=True)
    LADIESSampler(sizes=[512, 512], debias=True)
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> loader = gs.DataLoader(data.graph, data.train_ids, LADIESSampler([100, 50]), batch_size=64)
    >>> batch = next(iter(loader))
    >>> len(batch.input_nodes) <= 64 + 50 + 100
    True
    """

    draws_on_gpu = True

    def __init__(self, sizes: Sequence[int], *, debias: bool = False, norm: str = "sym") -> None:
        super().__init__(sizes, norm)
        self.debias = check_flag("debias", debias)
        self.estimate = "unbiased" if debias else "ratio"

    def _options(self) -> list[str]:
        return ["debias=True"] if self.debias else []

    def draw_layer(self, csc: CSC, destinations: Tensor, size: int, key: int) -> DrawnLayer:
        candidates, chance = squared_columns(csc, destinations, self._scales(csc), self.num_threads)
        if self.debias:
            chance = chance.sqrt()
        drawn = draw_in_succession(chance, size, key=key)
        importance = succession_weights(chance, drawn) if self.debias else chance[drawn].reciprocal()
        layer = keep_drawn(csc, destinations, candidates[drawn], importance, self.num_threads)
        if not self.debias:
            layer.importance = full_rows(csc, destinations, layer)
        return layer


def draw_outwards(
    draw_layer: Callable[[Tensor, int, int], Drawn], seeds: Tensor, sizes: Sequence[int], key: int
) -> list[Drawn]:
    """The layers ``draw_layer(destinations, size, key)`` from the seeds' to the input's; ``sizes`` are input first."""
    layers: list[Drawn] = []
    destinations = seeds
    for number, size in enumerate(reversed(sizes)):
        layers.append(draw_layer(destinations, size, key_of(key, number)))
        destinations = layers[-1].nodes
    return layers


def as_adjacencies(csc: CSC, layers: Sequence[DrawnLayer]) -> list[Adjacency]:
    """The adjacencies of drawn layers, the input layer first."""
    return [
        Adjacency(layer.hop, layer.nodes.numel(), csc, layer.nodes, importance=layer.importance.float())
        for layer in reversed(layers)
    ]


def squared_scales(csc: CSC, norm: str) -> Scales:
    """What Â_vu² has of v and of u, beside the square of an edge's weight.

    A self-loop of A counts as any other edge, although "sym" makes no use of it: every edge that weighs anything
    has to have a chance, because the model's normalisation may be another one.
    """

    def inverse(degree: Tensor) -> Tensor:
        return on_huge_pages(degree.double().masked_fill(degree == 0, 1.0).reciprocal())

    if norm == "sym":
        others = csc.degree if csc.loops is None else csc.degree - csc.loops
        both = on_huge_pages((others.double() + 1).reciprocal())
        return both, both
    if norm == "sum":
        return None, None
    if norm == "mean":
        return inverse(csc.degree).square_(), None
    if norm == "left":
        return None, inverse(csc.out_degree).square_()
    return inverse(csc.degree), inverse(csc.out_degree if norm == "both" else csc.degree)


def squared_columns(csc: CSC, destinations: Tensor, scales: Scales, num_threads: int = 1) -> tuple[Tensor, Tensor]:
    """The sources of ``destinations``' in-edges, and Σ_v Â_vu² for each over those edges; float64."""
    rows, columns = scales
    return column_sums(
        csc.indptr, csc.indices, destinations, rows=rows, columns=columns, weight=csc.weight, num_threads=num_threads
    )


def keep_drawn(csc: CSC, destinations: Tensor, drawn: Tensor, importance: Tensor, num_threads: int) -> DrawnLayer:
    """The edges from ``drawn``, distinct nodes, to ``destinations``, with the importance of the nodes they leave.

    Nodes without such an edge are left out.
    """
    nodes, hop, origins, places = edges_from(csc.indptr, csc.indices, destinations, drawn, num_threads=num_threads)
    return DrawnLayer(nodes, hop, importance[origins], places)


def full_rows(csc: CSC, destinations: Tensor, layer: DrawnLayer) -> Tensor:
    """The importance, scaled so that the drawn weights of each row add up to its in-degree; shape (E,).

    A row whose drawn edges all weigh nothing gets nothing.
    """
    weight = None if csc.weight is None else csc.take(csc.weight, layer.hop.positions)
    return fill_rows(layer.hop.indptr, layer.importance, csc.degree[destinations], weight=weight)


def succession_weights(chance: Tensor, drawn: Tensor) -> Tensor:
    """Weights that make Σ_j weight_j y_j unbiased for Σ_u y_u, with nodes drawn in succession.

    ``drawn`` are positions as :func:`gnnscale.ops.layerwise.draw_in_succession` gives them for ``chance``.

    With r_j = (1 - P_j) / p_j, P_j what was drawn before j, the estimate T_j = Σ_{i<j} y_i + r_j y_j is unbiased.
    The mean T̄_j = (1 - a_j) T̄_{j-1} + a_j T_j with a_j = n / ((j + 1)(n - j)) multiplies out to the weights
    1 - b_j + a_j b_j r_j, where b_j = Π_{i>j} (1 - a_i) = (j + 1)(n - m) / (m (n - j - 1)) for m draws.
    """
    n, m = int(chance.count_nonzero()), drawn.numel()
    if m == n:
        return torch.ones_like(chance[drawn])
    own = chance[drawn]
    # In an order of its own, so that the number of torch's threads does not show.
    never = cumulative_sums(chance.index_fill(0, drawn, 0.0))[-1]
    # Added up from the end: 1 - P_j would cancel where little is left.
    left = cumulative_sums(own.flip(0)).flip(0) + never
    j = torch.arange(m, dtype=chance.dtype, device=chance.device)
    b = (j + 1) * (n - m) / (m * (n - j - 1))
    ab = n * (n - m) / (m * (n - j) * (n - j - 1))
    return 1 - b + ab * left / own
