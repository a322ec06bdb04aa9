"""A small subgraph of its own for each root (shaDow-GNN)."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnscale.adjacency import Adjacency
from gnnscale.checks import check_count, check_num_layers, is_whole
from gnnscale.csc import CSC
from gnnscale.ops import Hop
from gnnscale.ops.positions import draw_positions, ranges
from gnnscale.ops.random import as_signed, fold, key_of
from gnnscale.ops.subgraph import append_nodes
from gnnscale.ops.walks import top_visits, walk_ends
from gnnscale.samplers.base import Sample, Sampler
from gnnscale.samplers.cluster import inside_degree
from gnnscale.samplers.edges import induced, row_pointers
from gnnscale.samplers.pinsage import check_teleport, rows_of


class ScopeSampler(Sampler):
    """A sampler that gives each root a subgraph; subclasses choose its nodes in :meth:`scope`."""

    draws_on_gpu = True
    default_batch_size = 128
    estimate = "subgraph"

    def scope(self, csc: CSC, roots: Tensor, key: int) -> tuple[Tensor, Tensor]:
        """Who is in whose subgraph: positions in ``roots`` and nodes, both (M,) int64.

        The roots come first, each in its own subgraph; no pair is there twice.
        """
        raise NotImplementedError

    def draw(self, csc: CSC, seeds: Tensor, key: int) -> Sample:
        owners, nodes = self.scope(csc, seeds.long().to(csc.device), key)
        hop = self._edges(csc, owners, nodes)
        degree = inside_degree(csc, hop)
        num_roots = seeds.numel()
        last = Hop(hop.indptr[: num_roots + 1], *(array[: int(hop.indptr[num_roots])] for array in hop[1:]))
        adjacencies = [Adjacency(each, nodes.numel(), csc, nodes, degree=degree) for each in (hop, last)]
        return Sample(nodes, adjacencies, repeats=True, all_train=True)

    def _edges(self, csc: CSC, owners: Tensor, nodes: Tensor) -> Hop:
        """All edges between members of the same subgraph."""
        # Most edges of a member lead out of every subgraph: they are sorted out once a node, not once a member.
        union, member = nodes.unique(return_inverse=True)
        inside = induced(csc, union, self.num_threads)
        starts, counts = inside.indptr.long()[member], inside.indptr.diff().long()[member]
        edges = ranges(starts, counts)
        rows = torch.arange(nodes.numel(), device=nodes.device).repeat_interleave(counts, output_size=edges.numel())
        known, order = (owners * union.numel() + member).sort()
        wanted = owners[rows] * union.numel() + inside.indices[edges]
        place = torch.searchsorted(known, wanted).clamp(max=known.numel() - 1)
        kept = known[place] == wanted
        indices = order[place[kept]].int()
        return Hop(row_pointers(rows[kept], nodes.numel()), indices, inside.positions[edges[kept]])


class ShaDowSampler(ScopeSampler):
    """Each root in a sampled neighbourhood of its own, however deep the model (Zeng et al., NeurIPS 2021).

    The nodes of a root's subgraph are those within ``depth`` hops along in-edges, where each node, when it is first
    reached, draws ``num_neighbors`` of its in-edges. It has all edges of the graph among them. A model of any number
    of layers runs on these subgraphs side by side, normalised by the degrees inside them, and its output is read at
    the roots. A node that is in several subgraphs is there, and is computed, several times.

    The authors' code draws with replacement, and draws again for a node that two hops reach; here neighbours are
    drawn without replacement, once, and uniformly whatever the edges weigh. Self-loops and parallel edges of the
    graph are kept.

    Parameters
    ----------
    depth : int, default 2
        Hops from the root. The paper's models have 3 or 5 layers.
    num_neighbors : int, default 10
        In-edges drawn by each node; -1 takes all.
    num_layers : int, optional
        Number of blocks when a batch is unpacked the DGL way; gnnscale's models need none.

    Raises
    ------
    ValueError
        If an argument is no positive integer (or -1, for ``num_neighbors``).

    Examples
    --------
    >>> import gnnscale as gs
    >>> from gnnscale.samplers.shadow import ShaDowSampler
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> batch = next(iter(gs.DataLoader(data.graph, data.train_ids, ShaDowSampler(2, 5), batch_size=20)))
    >>> model = gs.nn.GCN(data.num_features, 16, data.num_classes, num_layers=5)
    >>> len(model(batch, batch.x))  # the roots
    20
    """

    def __init__(self, depth: int = 2, num_neighbors: int = 10, *, num_layers: int | None = None) -> None:
        self.depth = check_count("depth", depth)
        if not is_whole(num_neighbors) or (num_neighbors < 1 and num_neighbors != -1):
            raise ValueError(f"num_neighbors={num_neighbors!r} has to be a positive integer, or -1 for all neighbours")
        self.num_neighbors = int(num_neighbors)
        self.num_layers = check_num_layers(num_layers)

    def __repr__(self) -> str:
        return f"ShaDowSampler(depth={self.depth}, num_neighbors={self.num_neighbors})"

    def scope(self, csc: CSC, roots: Tensor, key: int) -> tuple[Tensor, Tensor]:
        # Members are numbered owner · N + node, so that one list holds all subgraphs.
        members = torch.arange(roots.numel(), device=roots.device) * csc.num_nodes + roots
        state, reached = torch.tensor(as_signed(key)), 0
        for _ in range(self.depth):
            new = members[reached:]
            owners, nodes = new // csc.num_nodes, new % csc.num_nodes
            starts = csc.indptr[nodes]
            states = fold(fold(state, roots[owners]), nodes)
            counts, edges = draw_positions(starts, csc.indptr[nodes + 1] - starts, states, self.num_neighbors, False)
            found = owners.repeat_interleave(counts) * csc.num_nodes + csc.take(csc.indices, edges)
            reached = members.numel()
            members, _ = append_nodes(members, found, roots.numel() * csc.num_nodes)
        return members // csc.num_nodes, members % csc.num_nodes


class ShaDowPPRSampler(ScopeSampler):
    """Each root among the nodes of largest personalised PageRank (Zeng et al., NeurIPS 2021).

    As :class:`ShaDowSampler`, but for the nodes of a root's subgraph: these are the ``num_neighbors`` at which most of
    ``num_walks`` random walks from it ended, which estimates the score (:func:`gnnscale.samplers.pinsage.ppr_shares`;
    ties are broken at random). The authors approximate the scores by push, once for all epochs; here every batch has
    walks of its own.

    Parameters
    ----------
    num_neighbors : int, default 50
        Most nodes of a subgraph besides its root.
    num_walks : int, default 200
        Walks from each root.
    stop : float, default 0.15
        The teleport probability: a walk stops with it before each step.
    num_layers : int, optional
        Number of blocks when a batch is unpacked the DGL way; gnnscale's models need none.

    Raises
    ------
    ValueError
        If ``num_neighbors`` or ``num_walks`` is no positive integer, or ``stop`` is not between 0 and 1.

    Examples
    --------
    >>> from gnnscale.samplers.shadow import ShaDowPPRSampler
    >>> ShaDowPPRSampler(100)
    ShaDowPPRSampler(num_neighbors=100, num_walks=200, stop=0.15)
    """

    def __init__(
        self, num_neighbors: int = 50, *, num_walks: int = 200, stop: float = 0.15, num_layers: int | None = None
    ) -> None:
        self.num_neighbors = check_count("num_neighbors", num_neighbors)
        self.num_walks = check_count("num_walks", num_walks)
        self.stop = check_teleport(stop)
        self.num_layers = check_num_layers(num_layers)

    def __repr__(self) -> str:
        return f"ShaDowPPRSampler(num_neighbors={self.num_neighbors}, num_walks={self.num_walks}, stop={self.stop})"

    def scope(self, csc: CSC, roots: Tensor, key: int) -> tuple[Tensor, Tensor]:
        starts = roots.repeat_interleave(self.num_walks)
        ends = walk_ends(csc, starts, key=key_of(key, 0), stop=self.stop, num_threads=self.num_threads)
        ends = ends.view(roots.numel(), -1)
        indptr, nodes, _ = top_visits(
            ends, self.num_neighbors, key=key_of(key, 1), own=roots, num_threads=self.num_threads
        )
        owners = torch.arange(roots.numel(), device=roots.device)
        return torch.cat([owners, rows_of(indptr)]), torch.cat([roots, nodes])
