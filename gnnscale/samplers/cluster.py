"""Batches of clusters: what Cluster-GCN and GAS share, and Cluster-GCN."""

from __future__ import annotations

import math
from threading import Lock

import torch
from torch import Tensor

from gnnscale._dgl import dgl
from gnnscale.adjacency import Adjacency
from gnnscale.checks import check_num_layers
from gnnscale.csc import CSC
from gnnscale.ops import Hop
from gnnscale.ops.layerwise import row_sums
from gnnscale.samplers.base import Sample, Sampler, split
from gnnscale.samplers.edges import induced
from gnnscale.samplers.partition import check_partition, partition

# What is kept with an edge of a batch that comes again: the edge, its weight, and itself by source.
_BYTES_PER_EDGE = 40
_BYTES_PER_NODE = 40

_keeping = Lock()


class _Plan:
    """The batches that come again, by their parts; what was drawn for another plan is forgotten with it."""

    def __init__(self, batches: set[tuple[int, ...]]) -> None:
        self.batches = batches


class PartitionSampler(Sampler):
    """A sampler whose seeds are the parts of a partition; a subclass implements :meth:`draw_members`.

    After :meth:`prepare`, the nodes of part ``p`` are ``order[offsets[p]:offsets[p + 1]]``. The parts of a batch are in
    ascending order.

    Batches that come again (single parts, all parts, or the same groups of parts because nothing is shuffled) are made
    once and then kept beside the graph that they were drawn from, with the normalised weights and the transposed edges
    that models asked for, as long as all of them together fit into ``kept_bytes``.
    """

    draws_on_gpu = True
    default_batch_size = 10

    kept_bytes: int = 2**30
    """Most memory of batches that are kept, about; 0 keeps none."""

    def __init__(self, num_parts: int, partition: str, num_layers: int | None) -> None:
        self.num_parts, self.partition = check_partition(num_parts, partition)
        self.num_layers = check_num_layers(num_layers)
        self._prepared_for: CSC | None = None
        self._plan = _Plan(set())

    def __repr__(self) -> str:
        how = "" if self.partition == "metis" else f", partition={self.partition!r}"
        return f"{type(self).__name__}(num_parts={self.num_parts}{how})"

    def prepare(self, graph: dgl.DGLGraph, indices: Tensor, batch_size: int) -> None:
        csc = CSC.of(graph)
        if self._prepared_for is csc:
            return
        parts = partition(graph, self.num_parts, self.partition)
        self.order = torch.argsort(parts, stable=True)
        counts = torch.bincount(parts, minlength=self.num_parts)
        self.offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        self._nodes = self.order.split(counts.tolist())
        self._part_of = parts
        self._prepared_for = csc
        self._plan = _Plan(set())

    def batches(
        self, indices: Tensor, batch_size: int, shuffle: bool, drop_last: bool, generator: torch.Generator
    ) -> list[Tensor]:
        groups = split(torch.arange(self.num_parts), batch_size, shuffle, drop_last, generator)
        groups = [parts.sort().values for parts in groups]
        repeats = self.comes_again(batch_size, shuffle)
        plan = _Plan({tuple(parts.tolist()) for parts in groups} if repeats else set())
        if plan.batches != self._plan.batches:
            self._plan = plan
        # A batch without a training node has no loss: it is left out before it costs anything.
        has_train = torch.zeros(self.num_parts, dtype=torch.bool)
        has_train[self._part_of[indices]] = True
        return [parts for parts in groups if bool(has_train[parts].any())]

    def comes_again(self, batch_size: int, shuffle: bool) -> bool:
        return not shuffle or batch_size == 1 or batch_size >= self.num_parts

    def draw_members(self, csc: CSC, members: Tensor) -> Sample:
        """The batch of these nodes, shape (n,) int64; it depends on nothing else."""
        raise NotImplementedError(f"{type(self).__name__} has to implement draw_members(csc, members)")

    def draw(self, csc: CSC, seeds: Tensor, key: int) -> Sample:
        parts = tuple(seeds.tolist())
        if parts not in self._plan.batches or csc.source is not self._prepared_for:
            return self.draw_members(csc, self.members(seeds).to(csc.device))
        kept = csc.kept.setdefault(self._plan, {})
        sample = kept.get(parts)
        if sample is None:
            # The same object each time, so that what is kept beside it (its copy on the device, a CUDA graph) stays.
            sample = self.draw_members(csc, self.members(seeds).to(csc.device)).named_here()
            with _keeping:
                if sum(map(_bytes_of, kept.values())) + _bytes_of(sample) <= self.kept_bytes:
                    kept[parts] = sample
        return sample

    def members(self, parts: Tensor) -> Tensor:
        """The nodes of ``parts``, part after part."""
        chosen = parts.tolist()
        if chosen and not 0 <= min(chosen) <= max(chosen) < self.num_parts:
            raise ValueError(
                f"seeds of {type(self).__name__} are parts, 0 to {self.num_parts - 1}; "
                f"got values from {min(chosen)} to {max(chosen)}"
            )
        return torch.cat([self._nodes[part] for part in chosen]) if chosen else self.order[:0]


class ClusterGCNSampler(PartitionSampler):
    """The union of a few clusters and the edges inside it, renormalised there (Chiang et al. 2019).

    Edges between clusters of one batch are kept. The model normalises by the degrees inside the batch, as the
    authors' code does: D⁻¹A for the mean, D̃^-1/2 (A + I) D̃^-1/2 for a GCN. The clusters are those of the whole
    graph; the authors partition the training subgraph, which is the same where that is what you pass.

    With ``diag_lambda`` a layer computes Ã + λ diag(Ã) in the place of Â (diagonal enhancement, eq. 11), where Ã is
    A + I as the model normalises it: (D + I)⁻¹(A + I) for the mean, which is the paper's, D̃^-1/2 (A + I) D̃^-1/2 for
    a GCN, and A + I for the sum. Self-loops of the graph are replaced by that I, and D does not count them, as the
    authors strip them. Attention has no such weights and stays as it is, as do blocks.

    Parameters
    ----------
    num_parts : int, default 40
        Number of clusters. The loader's ``batch_size`` is the number of clusters a batch, by default 10.
    partition : {"metis", "random"}
        How clusters are made.
    diag_lambda : float, optional
        λ, at least 0; without it, no diagonal enhancement. The authors take 1 for PPI.
    num_layers : int, optional
        Number of blocks when a batch is unpacked the DGL way; gnnscale's models need none.

    Raises
    ------
    ValueError
        If an argument has a value that is not allowed.

    Examples
    --------
    >>> import gnnscale as gs
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> sampler = gs.samplers.ClusterGCNSampler(num_parts=8)
    >>> batch = next(iter(gs.DataLoader(data.graph, data.train_ids, sampler, batch_size=2)))
    >>> len(batch.output_nodes) == len(batch.input_nodes)
    True
    """

    estimate = "subgraph"

    def __init__(
        self,
        num_parts: int = 40,
        *,
        partition: str = "metis",
        diag_lambda: float | None = None,
        num_layers: int | None = None,
    ) -> None:
        super().__init__(num_parts, partition, num_layers)
        if diag_lambda is not None and (type(diag_lambda) not in (int, float) or not 0 <= diag_lambda < math.inf):
            raise ValueError(
                f"diag_lambda={diag_lambda!r} has to be a number of at least 0, or left out for no diagonal enhancement"
            )
        self.diag_lambda = diag_lambda
        if diag_lambda is not None:
            self.estimate = "other"

    def __repr__(self) -> str:
        return super().__repr__()[:-1] + ("" if self.diag_lambda is None else f", diag_lambda={self.diag_lambda}") + ")"

    def draw_members(self, csc: CSC, members: Tensor) -> Sample:
        hop = induced(csc, members, self.num_threads)
        degree = inside_degree(csc, hop)
        adjacency = Adjacency(hop, members.numel(), csc, members, degree=degree, diagonal=self.diag_lambda)
        return Sample(members, [adjacency], repeats=True)


def _bytes_of(sample: Sample) -> int:
    """About how much memory a batch takes once a model has used it."""
    num_edges = sum(adjacency.hop.indices.numel() for adjacency in sample.adjacencies)
    return _BYTES_PER_EDGE * num_edges + _BYTES_PER_NODE * sample.nodes.numel()


def inside_degree(csc: CSC, hop: Hop) -> Tensor:
    """Shape (num_dst,), float32: the degrees of the nodes in a subgraph."""
    counts = hop.indptr.diff()
    if csc.weight is None:
        return counts.float()
    return row_sums(hop.indptr, csc.take(csc.weight, hop.positions))
