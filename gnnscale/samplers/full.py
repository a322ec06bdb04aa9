"""The whole graph in every step."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnscale.adjacency import Adjacency
from gnnscale.checks import check_num_layers
from gnnscale.csc import CSC
from gnnscale.ops import Hop
from gnnscale.samplers.base import Sample, Sampler


class FullSampler(Sampler):
    """Full batch: one step an epoch, over all nodes and edges.

    Parameters
    ----------
    num_layers : int, optional
        Number of blocks when a batch is unpacked the DGL way; gnnscale's models need none.

    Examples
    --------
    >>> import gnnscale as gs
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> len(gs.DataLoader(data.graph, data.train_ids, gs.samplers.FullSampler()))
    1
    """

    estimate = "exact"

    def __init__(self, num_layers: int | None = None) -> None:
        self.num_layers = check_num_layers(num_layers)
        self._drawn: tuple[CSC, Sample] | None = None

    def __repr__(self) -> str:
        return "FullSampler()"

    def batches(
        self, indices: Tensor, batch_size: int, shuffle: bool, drop_last: bool, generator: torch.Generator
    ) -> list[Tensor]:
        return [indices]

    def comes_again(self, batch_size: int, shuffle: bool) -> bool:
        return True

    def draw(self, csc: CSC, seeds: Tensor, key: int) -> Sample:
        # The same sample each time, so that its normalised weights are computed once.
        if self._drawn is None or self._drawn[0] is not csc:
            self._drawn = (csc, whole_graph(csc))
        return self._drawn[1]


def whole_graph(csc: CSC, diagonal: float | None = None) -> Sample:
    """All nodes and edges as one sample; ``diagonal`` as for :class:`Adjacency`."""
    dtype = torch.int32 if csc.indices.numel() <= torch.iinfo(torch.int32).max else torch.int64
    positions = torch.arange(csc.indices.numel())
    hop = Hop(csc.indptr.to(dtype), csc.indices.to(dtype), positions)
    return Sample(csc.nodes, [Adjacency(hop, csc.num_nodes, csc, csc.nodes, diagonal=diagonal)], repeats=True)
