"""GraphFM-OB: GAS whose halo rows move towards what the batch computes for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from gnnscale.checks import check_share
from gnnscale.csc import CSC
from gnnscale.samplers.base import Sample
from gnnscale.samplers.edges import in_edges, induced, select
from gnnscale.samplers.gas import GASSampler, HaloLayer, HaloSample, halo_adjacencies


class GraphFMSampler(GASSampler):
    """GAS with feature momentum for out-of-batch nodes (GraphFM-OB; Yu et al. 2022).

    As under GAS, a batch is a few clusters with all their in-edges, and the halo's hidden rows come from the history.
    In addition each convolution computes rows of the halo, without a gradient, from the edges that come out of the
    batch; before each hidden layer the halo's rows become (1 − β) h̄ + β h, which the batch reads and which are
    written back to the history. So histories are brought up to date more often, with rows that lack the neighbours
    outside the batch. With β = 0 it is GAS.

    The edges between halo nodes are left out, and the normalisation is that of the whole graph, as in the authors'
    code. It computes the halo's sums with the transpose of the weights into the batch, the same for the symmetric
    normalisation of an undirected graph; here they are the weights of the edges into the halo. It also leaves out
    the halo nodes' own rows, which here are where the convolution puts them, read from the history. Its batch
    normalisation uses running statistics for the halo; between gnnscale's convolutions it sees all rows.

    Parameters
    ----------
    num_parts : int, default 40
        Number of parts. The loader's ``batch_size`` is the number of parts a batch, by default 10.
    partition : {"metis", "random"}
        How parts are made.
    beta : float, default 0.3
        In [0, 1]; the momentum of the fresh rows (the authors' gamma). Their configurations for GCN have 0.1 (Flickr,
        ogbn-arxiv), 0.3 (Yelp) and 0.5 (Reddit, ogbn-products).
    refresh : bool, default True
        Whether each evaluation during :func:`gnnscale.train` rewrites all histories with exact, dropout-free rows,
        as the authors' code does; its time then counts as history time.
    num_layers : int, optional
        Number of blocks when a batch is unpacked the DGL way; gnnscale's models need none.

    Raises
    ------
    ValueError
        If an argument is not one of those.

    Examples
    --------
    >>> import gnnscale as gs
    >>> from gnnscale.samplers.graphfm import GraphFMSampler
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> model = gs.nn.GCN(data.num_features, 16, data.num_classes)
    >>> result = gs.train(model, data, GraphFMSampler(num_parts=8), epochs=10, batch_size=2)
    >>> result.points[-1].loss < result.points[0].loss
    True
    """

    def __init__(
        self,
        num_parts: int = 40,
        *,
        partition: str = "metis",
        beta: float = 0.3,
        refresh: bool = True,
        num_layers: int | None = None,
    ) -> None:
        super().__init__(num_parts, partition=partition, refresh=refresh, num_layers=num_layers)
        self.beta = float(check_share("beta", beta, "a number from 0 to 1", zero=True, one=True))

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, beta={self.beta})"

    def draw_members(self, csc: CSC, members: Tensor) -> Sample:
        nodes, _ = in_edges(csc, members, self.num_threads)
        hop, num_own = induced(csc, nodes, self.num_threads), members.numel()
        into_batch = torch.arange(hop.indices.numel(), device=nodes.device) < hop.indptr[num_own]
        hop = select(hop, into_batch | (hop.indices < num_own))
        adjacencies, halo = halo_adjacencies(csc, nodes, hop, num_own)
        return GraphFMSample(nodes, adjacencies, repeats=True, halo=halo, beta=self.beta)


class GraphFMLayer(HaloLayer):
    """A layer whose halo comes from the history, which it moves towards the batch's rows."""

    def exchange(self, x: Tensor) -> Tensor:
        self._check(x)
        if not self.index:
            return x
        batch, table, num_own = self._batch, self.index - 1, self._sample.num_own
        own, fresh = x[:num_own], x[num_own:].detach()
        outside = batch.input_nodes[num_own:]
        with batch.clock.stage("history"):
            (known,) = batch.pulled_rows(table, x)
            halo = torch.lerp(known, fresh, self._momentum)
            batch.history.push(table, batch.input_nodes[:num_own], own)
            batch.history.push(table, outside, halo)
        return torch.cat([own, halo])

    def propagate(self, conv: nn.Module, x: Tensor, *rows: Tensor) -> Tensor:
        self._check(x)
        own = conv(self._own_layer(), x, *rows)
        if self._is_last or not self._sample.halo.num_dst:
            return own
        with torch.no_grad():
            halo = conv(*self._halo_layer(x, *rows))
        return torch.cat([own, halo])

    @property
    def _momentum(self) -> float:
        return cast(GraphFMSample, self._batch.sample).beta


@dataclass(eq=False, kw_only=True)
class GraphFMSample(HaloSample):
    """Clusters, their halo, and the momentum of fresh halo rows."""

    beta: float

    layer_class = GraphFMLayer
