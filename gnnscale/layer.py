"""One layer of a batch, as a model sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gnnscale.adjacency import Adjacency

if TYPE_CHECKING:
    from gnnscale.batch import MiniBatch

# An addition to a row somewhere in memory, in multiplications and additions of a dense product.
_COST_OF_SUM = 8


class Layer:
    """One layer of a batch, as a model sees it.

    A model calls :meth:`exchange` on its rows before each convolution (before dropout, as GNNAutoScale does), and
    :meth:`propagate` for the convolution itself; a convolution calls :meth:`aggregate` for its neighbours and
    :meth:`own` for the nodes' own rows. Samplers with histories have subclasses, which a model need not know.

    Attributes
    ----------
    index : int
        0 for the layer that reads the features.
    num_src, num_dst : int
        Rows that the layer reads and computes; the first ``num_dst`` of the sources are the destinations.
    """

    def __init__(self, index: int, adjacency: Adjacency, batch: MiniBatch) -> None:
        self.index = index
        self.num_src = adjacency.num_src
        self.num_dst = adjacency.num_dst
        self._adjacency = adjacency
        self._batch = batch

    def exchange(self, x: Tensor) -> Tensor:
        """Remember the batch's rows and append those of the halo.

        Parameters
        ----------
        x : Tensor
            Shape (n, F): the rows that the layer before computed.

        Returns
        -------
        Tensor
            Shape (num_src, F). ``x`` itself where no history is kept, and in the first layer, whose halo has features
            of its own. Appended rows carry no gradient.
        """
        return x

    @property
    def degree(self) -> Tensor:
        """In-degrees of the destinations, shape (num_dst,), float32: those of the whole graph, whatever was sampled.

        Sums of weights, if edges have weights; the sampler's own where it replaces them (Cluster-GCN).
        """
        return self._adjacency.degree[: self.num_dst]

    @property
    def num_nodes(self) -> int:
        """Nodes of the whole graph."""
        return self._batch.graph.num_nodes()

    @property
    def mean_log_degree(self) -> float:
        """The mean of log(d + 1) over the whole graph's in-degrees d (PNA's δ)."""
        return self._adjacency.mean_log_degree

    @property
    def num_edges(self) -> int:
        """Edges drawn."""
        return self._adjacency.hop.indices.numel()

    @property
    def edges(self) -> tuple[Tensor, Tensor]:
        """Source and destination of each drawn edge, rows of this layer, shape (E,) each, integers."""
        return self._adjacency.hop.indices, self._adjacency.destinations

    def propagate(self, conv: nn.Module, x: Tensor, *rows: Tensor) -> Tensor:
        """Apply a convolution: ``conv(layer, x, *rows)``.

        Parameters
        ----------
        conv : nn.Module
            Called with a layer, which may be another than this one.
        x : Tensor
            Shape (num_src, F).
        *rows : Tensor
            What else the convolution wants to know of the destinations (GCNII's first rows): at least num_dst rows
            each, in the order of the batch's nodes, of which it uses the first ``layer.num_dst``.

        Returns
        -------
        Tensor
            Shape (num_dst, F_out); some samplers add rows of their own.
        """
        return conv(self, x, *rows)

    def own(self, x: Tensor) -> Tensor:
        """The rows of the destinations themselves, from ``x`` of shape (num_src, F).

        A model adds them to what :meth:`propagate` gave for a residual connection, and a convolution to its sum; the
        result has as many rows as that, which is num_dst but for samplers that add rows of their own.
        """
        return x[: self.num_dst]

    def maps_first(self, in_size: int, out_size: int) -> bool:
        """Whether a linear map from ``in_size`` to ``out_size`` columns costs less before the sum over neighbours.

        Both orders give the same. Narrower rows are cheaper to add up; but a sampled layer may have many more sources
        than destinations, and after the sum only these are mapped.
        """
        before = self.num_src * in_size * out_size + _COST_OF_SUM * self.num_edges * out_size
        after = self.num_dst * in_size * out_size + _COST_OF_SUM * self.num_edges * in_size
        return before <= after

    def aggregate(self, x: Tensor, norm: str = "mean", *, dropout: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The sampler's estimate of Σ_u Â_vu x_u.

        Parameters
        ----------
        x : Tensor
            Shape (num_src, F).
        norm : {"sym", "mean", "sum", "both", "in", "left"}
            The model's normalisation Â, from the degrees of the whole graph: "sym" is D̃^-1/2 (A + I) D̃^-1/2 with
            D̃ the in-degree plus one (a self-loop of A is replaced), "mean" D⁻¹A, "sum" A. With the out-degree D' of
            a source, DGL's modules have three more: "both" is D^-1/2 A D'^-1/2, "in" D^-1/2 A D^-1/2, "left" A D'⁻¹.
        dropout : callable, optional
            Applied to the edges' weights, shape (E,); not to that of the own row under "sym".

        Returns
        -------
        Tensor
            Shape (num_dst, F). A node without neighbours gets zeros (and its own row under "sym").

        Raises
        ------
        ValueError
            If ``x`` does not have a row for each source.
        """
        self._check(x)
        return self._adjacency.aggregate(x, norm, dropout)

    def attend(
        self,
        x: Tensor,
        source_scores: Tensor,
        target_scores: Tensor,
        *,
        negative_slope: float = 0.2,
        dropout: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Attention over a node's in-neighbours and itself (Veličković et al. 2018, eq. 3 and 4).

        With e_vu = LeakyReLU(s_u + t_v), row v of a head is Σ_u m_vu exp(e_vu) x_u / Σ_u m_vu exp(e_vu). The sums
        run over the node itself, with m_vv = 1, always present and exact, which takes the place of any self-loop of
        the graph, and over the edges drawn, where m_vu is the importance of an edge times its weight: both say how
        many edges it stands for, so a weight of 2 is the same as two parallel edges. With all neighbours this is
        the exact attention; of a sample it is a ratio of two unbiased estimates (self-normalised importance
        sampling), whose bias goes to zero as the sample grows. Degrees do not matter.

        Parameters
        ----------
        x : Tensor
            Shape (num_src, H·D): D columns a head, head after head.
        source_scores : Tensor
            Shape (num_src, H): s.
        target_scores : Tensor
            Shape (num_dst, H): t.
        negative_slope : float, default 0.2
            Of the LeakyReLU.
        dropout : callable, optional
            Applied to the attention weights, edges and own row, after the softmax.

        Returns
        -------
        Tensor
            Shape (num_dst, H·D). A node without neighbours gets its own row.

        Raises
        ------
        ValueError
            If a shape does not fit the layer.

        Examples
        --------
        >>> import torch
        >>> import gnnscale as gs
        >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
        >>> batch = next(iter(gs.DataLoader(data.graph, data.train_ids, gs.samplers.FullSampler())))
        >>> (layer,) = batch.layers(1)
        >>> scores = torch.randn(1000, 4)
        >>> ones = layer.attend(torch.ones(1000, 8), scores, layer.own(scores))
        >>> bool((ones - 1).abs().max() < 1e-5)  # the weights of a row add up to 1
        True
        """
        self._check(x)
        num_heads = source_scores.shape[-1]
        for name, scores, rows in (("source", source_scores, self.num_src), ("target", target_scores, self.num_dst)):
            if scores.shape != (rows, num_heads):
                raise ValueError(
                    f"{name}_scores have the shape {tuple(scores.shape)}; in layer {self.index} it has to be "
                    f"({rows}, {num_heads})"
                )
        _check_heads(x, num_heads)
        dropout = dropout or nn.Identity()
        return self._adjacency.attend(x, source_scores, target_scores, negative_slope=negative_slope, dropout=dropout)

    def attend_edges(self, x: Tensor, scores: Tensor, *, dropout: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Attention over a node's in-edges, with scores of one's own (GATv2; DGL's attention modules).

        Row v of a head is Σ_u m_vu exp(e_vu) x_u / Σ_u m_vu exp(e_vu) over the edges drawn, with m as for
        :meth:`attend`. A self-loop is an edge like any other, and the node's own row does not take part without one.

        Parameters
        ----------
        x : Tensor
            Shape (num_src, H·D): D columns a head, head after head.
        scores : Tensor
            Shape (E, H): e, in the order of :attr:`edges`.
        dropout : callable, optional
            Applied to the attention weights after the softmax.

        Returns
        -------
        Tensor
            Shape (num_dst, H·D). A node without drawn edges gets zeros.

        Raises
        ------
        ValueError
            If a shape does not fit the layer.

        Examples
        --------
        >>> import torch
        >>> import gnnscale as gs
        >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
        >>> batch = next(iter(gs.DataLoader(data.graph, data.train_ids, gs.samplers.FullSampler())))
        >>> (layer,) = batch.layers(1)
        >>> source, destination = layer.edges
        >>> equal = torch.zeros(len(source), 1)
        >>> mean = layer.attend_edges(batch.x, equal)
        >>> bool((mean - layer.aggregate(batch.x, "mean")).abs().max() < 1e-5)
        True
        """
        self._check(x)
        num_edges = len(self._adjacency.hop.indices)
        if scores.dim() != 2 or len(scores) != num_edges:
            raise ValueError(
                f"scores have the shape {tuple(scores.shape)}; in layer {self.index} it has to be ({num_edges}, heads)"
            )
        _check_heads(x, scores.shape[1])
        return self._adjacency.attend_edges(scores, x, dropout=dropout or nn.Identity())

    def reduce(self, x: Tensor, reduction: str) -> Tensor:
        """The largest or smallest of the neighbours' rows, column by column, over the edges drawn.

        With all neighbours it is exact. Of a sample it is what was drawn and nothing more: no importance makes an
        extreme unbiased.

        Parameters
        ----------
        x : Tensor
            Shape (num_src, F).
        reduction : {"max", "min"}

        Returns
        -------
        Tensor
            Shape (num_dst, F). A node without drawn edges gets zeros. Where several rows share the extreme, its
            gradient is shared out equally.

        Raises
        ------
        ValueError
            If ``x`` does not have a row for each source, or the reduction is not known.
        """
        self._check(x)
        if reduction not in ("max", "min"):
            raise ValueError(f"reduction={reduction!r} is not known; use 'max' or 'min'")
        return self._adjacency.reduce(x, reduction)

    def add_penalty(self, penalty: Tensor) -> None:
        """Add a scalar to the batch's loss (a convolution's regulariser)."""
        self._batch.add_penalty(penalty)

    def _check(self, x: Tensor) -> None:
        if x.dim() != 2 or x.shape[0] != self.num_src:
            raise ValueError(
                f"x has the shape {tuple(x.shape)} and layer {self.index} reads {self.num_src} rows; pass "
                "layer.exchange(x), or batch.x in the first layer"
            )


def _check_heads(x: Tensor, num_heads: int) -> None:
    if not num_heads or x.shape[1] % num_heads:
        raise ValueError(f"x has {x.shape[1]} columns, which {num_heads} heads cannot share equally")


class HistoryLayer(Layer):
    """A layer whose halo comes from the history: pull the halo's rows, push the batch's (GNNAutoScale)."""

    def exchange(self, x: Tensor) -> Tensor:
        if not self.index:
            return x
        batch, table, num_own = self._batch, self.index - 1, x.shape[0]
        with batch.clock.stage("history"):
            # The halo's rows are none of the batch's own, so that the order of the two does not matter.
            halo = batch.pulled_rows(table, x) if num_own < self.num_src else []
            batch.history.push(table, batch.input_nodes[:num_own], x)
        return torch.cat([x, *halo]) if halo else x
