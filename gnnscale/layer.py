"""One layer of a batch, as a model sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gnnscale.adjacency import Adjacency

if TYPE_CHECKING:
    from gnnscale.batch import MiniBatch


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

    def propagate(self, conv: nn.Module, x: Tensor) -> Tensor:
        """Apply a convolution: ``conv(layer, x)``, shape (num_dst, F_out), from ``x`` of shape (num_src, F_in)."""
        return conv(self, x)

    def own(self, x: Tensor) -> Tensor:
        """The rows of the destinations themselves, shape (num_dst, F), from ``x`` of shape (num_src, F)."""
        return x[: self.num_dst]

    def aggregate(self, x: Tensor, norm: str = "mean") -> Tensor:
        """The sampler's estimate of Σ_u Â_vu x_u.

        Parameters
        ----------
        x : Tensor
            Shape (num_src, F).
        norm : {"sym", "mean", "sum"}
            The model's normalisation Â, from the degrees of the whole graph: "sym" is D̃^-1/2 (A + I) D̃^-1/2 with
            D̃ the in-degree plus one (a self-loop of A is replaced), "mean" D⁻¹A, "sum" A.

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
        return self._adjacency.aggregate(x, norm)

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
        if not num_heads or x.shape[1] % num_heads:
            raise ValueError(f"x has {x.shape[1]} columns, which {num_heads} heads cannot share equally")
        dropout = dropout or nn.Identity()
        return self._adjacency.attend(x, source_scores, target_scores, negative_slope=negative_slope, dropout=dropout)

    def _check(self, x: Tensor) -> None:
        if x.dim() != 2 or x.shape[0] != self.num_src:
            raise ValueError(
                f"x has the shape {tuple(x.shape)} and layer {self.index} reads {self.num_src} rows; pass "
                "layer.exchange(x), or batch.x in the first layer"
            )


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
