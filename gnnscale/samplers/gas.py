"""GNNAutoScale: exact one-hop neighbourhoods, the halo's hidden rows from a history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

from torch import Tensor

from gnnscale.adjacency import Adjacency
from gnnscale.checks import check_flag
from gnnscale.csc import CSC
from gnnscale.layer import HistoryLayer, Layer
from gnnscale.ops import Hop
from gnnscale.samplers.base import Sample
from gnnscale.samplers.cluster import PartitionSampler
from gnnscale.samplers.edges import in_edges


class GASSampler(PartitionSampler):
    """A few clusters with all their in-edges; rows of outside neighbours come from histories (Fey et al. 2021).

    No edge into a node of the batch is lost, and the normalisation is that of the whole graph. Before each hidden
    layer the batch's rows are pushed to the history, and those of the halo pulled from it, without a gradient.
    The first layer reads the halo's features.

    As in the authors' code (PyGAS), the whole adjacency is normalised before it is cut, rows are pushed after the
    activation and before dropout, and :func:`gnnscale.train` fills the histories by an exact pass before the first
    epoch (in a loop of your own they start at zero; :func:`gnnscale.infer` with ``history=`` fills them). What differs:
    parts come from another build of METIS, and tables stay in the order of node ids. The authors' Lipschitz
    regularisation, which only their GIN example has, is ``gs.nn.GIN(lipschitz=...)``.

    Parameters
    ----------
    num_parts : int, default 40
        Number of parts. The loader's ``batch_size`` is the number of parts a batch, by default 10.
    partition : {"metis", "random"}
        How parts are made.
    refresh : bool, default True
        Whether each evaluation during :func:`gnnscale.train` rewrites all histories with exact, dropout-free rows,
        as the authors' code does; its time then counts as history time. Without it, rows are as old as the last
        step that computed them.
    num_layers : int, optional
        Number of blocks when a batch is unpacked the DGL way; gnnscale's models need none.

    Raises
    ------
    ValueError
        If an argument is not one of those.

    Examples
    --------
    >>> import gnnscale as gs
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> sampler = gs.samplers.GASSampler(num_parts=8)
    >>> batch = next(iter(gs.DataLoader(data.graph, data.train_ids, sampler, batch_size=2)))
    >>> len(batch.output_nodes) < len(batch.input_nodes)  # the halo
    True
    """

    estimate = "exact"
    keeps_history = True

    def __init__(
        self,
        num_parts: int = 40,
        *,
        partition: str = "metis",
        refresh: bool = True,
        num_layers: int | None = None,
    ) -> None:
        super().__init__(num_parts, partition, num_layers)
        self.refresh = check_flag("refresh", refresh)

    def __repr__(self) -> str:
        return super().__repr__()[:-1] + ("" if self.refresh else ", refresh=False") + ")"

    def draw_members(self, csc: CSC, members: Tensor) -> Sample:
        return with_halo(csc, members, self.num_threads)


@dataclass(eq=False)
class HistorySample(Sample):
    """A sample whose halo comes from the history."""

    layer_class = HistoryLayer

    def history_reads(self, table: int) -> list[Tensor]:
        return [self.nodes[self.adjacencies[-1].num_dst :]]


def with_halo(csc: CSC, members: Tensor, num_threads: int) -> HistorySample:
    """``members`` with all their in-edges; every layer has the same members and the same halo."""
    nodes, hop = in_edges(csc, members, num_threads)
    return HistorySample(nodes, [Adjacency(hop, nodes.numel(), csc, nodes)], repeats=True)


@dataclass(eq=False, kw_only=True)
class HaloSample(Sample):
    """A sample that computes rows of its halo too, from the edges at hand (LMC, GraphFM).

    Its first adjacency holds all of these edges, its last one those into the batch's own nodes.

    Attributes
    ----------
    halo : Adjacency
        The edges into the halo. Its nodes are the halo's, and after them the batch's own.
    """

    halo: Adjacency

    @property
    def num_own(self) -> int:
        """Nodes of the batch; those after them are the halo."""
        return self.adjacencies[-1].num_dst

    def own_rows(self, adjacency: Adjacency) -> int:
        return self.num_own

    def history_reads(self, table: int) -> list[Tensor]:
        return [self.nodes[self.num_own :]]

    def moved(self, move: Callable[[Tensor], Tensor]) -> HaloSample:
        return replace(cast(HaloSample, super().moved(move)), halo=self.halo.moved(move))


class HaloLayer(Layer):
    """A layer whose convolution runs for the batch's own rows and for those of the halo apart."""

    @property
    def _sample(self) -> HaloSample:
        return cast(HaloSample, self._batch.sample)

    @property
    def _is_last(self) -> bool:
        return self._adjacency is self._sample.adjacencies[-1]

    def _own_layer(self) -> Layer:
        return Layer(self.index, self._sample.adjacencies[-1], self._batch)

    def _halo_layer(self, *rows: Tensor) -> tuple[Any, ...]:
        """What the convolution for the halo's rows sees: the halo's first, those of the batch after them."""
        return Layer(self.index, self._sample.halo, self._batch), *(r.roll(-self._sample.num_own, 0) for r in rows)


def halo_adjacencies(csc: CSC, nodes: Tensor, hop: Hop, num_own: int) -> tuple[list[Adjacency], Adjacency]:
    """The adjacencies of a :class:`HaloSample`, and its ``halo``.

    Parameters
    ----------
    csc : CSC
        The graph.
    nodes : Tensor
        Shape (n,), int64: the batch's own ``num_own`` nodes, then the halo.
    hop : Hop
        Edges into all of ``nodes``, among themselves.
    num_own : int
        Nodes of the batch.
    """
    num_nodes, num_edges = nodes.numel(), int(hop.indptr[num_own])
    own = Hop(hop.indptr[: num_own + 1], hop.indices[:num_edges], hop.positions[:num_edges])
    halo = Hop(
        hop.indptr[num_own:] - num_edges,
        (hop.indices[num_edges:] - num_own) % num_nodes,
        hop.positions[num_edges:],
    )
    adjacencies = [Adjacency(hop, num_nodes, csc, nodes), Adjacency(own, num_nodes, csc, nodes)]
    return adjacencies, Adjacency(halo, num_nodes, csc, nodes.roll(-num_own))
