"""GraphSAINT: batches are random subgraphs, and counts of earlier ones say how much each edge and node stands for."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

from gnnscale._dgl import dgl
from gnnscale.adjacency import Adjacency
from gnnscale.blocks import to_blocks
from gnnscale.checks import check_count, check_num_layers
from gnnscale.csc import CSC
from gnnscale.ops.random import key_of
from gnnscale.ops.subgraph import distinct_nodes
from gnnscale.ops.walks import random_walks
from gnnscale.samplers.base import Sample, Sampler
from gnnscale.samplers.edges import induced

MODES = ("walk", "node", "edge")

_ONE = torch.ones(1, dtype=torch.int32)

_COUNTING = key_of(0x5A117)
"""Of the subgraphs that are counted, so that the same graph always gets the same normalisation."""


class SAINTSampler(Sampler):
    """Random subgraphs with normalised aggregation and loss (GraphSAINT, Zeng et al. 2020, algorithms 1 and 2).

    A batch is a set V_s of nodes and all edges among them. Which nodes: those on random walks from uniformly drawn
    training nodes ("walk"); those drawn with p_v ∝ d_v ("node"); or the ends of edges drawn with
    p_uv ∝ 1/d_u + 1/d_v ("edge"); all draws are with replacement. d_v is the number of edges at v, in both
    directions and whatever their weights, which on an undirected graph is proportional to the paper's degree.
    Walks go along in-edges, in proportion to weights where there are any, because that is where messages come from.

    Given that v is in the batch, the edge u → v is with probability α_uv = C_uv / C_v, so 1 / α_uv is its importance
    (aggregator normalisation, proposition 3.1); the loss is Σ_v ℓ_v / λ_v over the batch's training nodes with
    λ_v = |V_train| C_v / N (loss normalisation). C_v and C_uv count how many of N subgraphs, drawn before training,
    have v and u → v. The estimate of a layer and the loss are then unbiased, but for the error of the counts.

    Paper and authors' code, and what is done here:

    - Each count and N are taken one larger, as if the batch at hand were counted too: for a binomial count with
      probability p, (C_v + 1) / (C_uv + 1) has the mean (1 - (1 - p)^(C_v + 1)) / p, while C_v / C_uv overshoots and
      is infinite for an edge that was never counted (the authors cut it off at 10⁴, and take 0.1 counts for a node).
    - The authors use the counted subgraphs as the first batches; here all batches are drawn afresh.
    - Coverage is counted over the nodes of the graph that is given. The authors give the training subgraph.
    - The authors' epoch has |V_train| / (number of draws) batches, as if nodes were never drawn twice; here it has as
      many as hold |V_train| training nodes in expectation, by the counted subgraphs.
    - An isolated node has d_v = 1 in mode "node", or its loss would never be seen. Mode "edge" never draws one, so
      that an isolated training node has no part in the loss.

    An edge u → v that no batch can have together with v (in mode "walk", if v is no training node and only the last
    node of walks) is missing from the estimate of v's row.

    Parameters
    ----------
    mode : {"walk", "node", "edge"}
        How nodes are drawn. The loader's ``batch_size`` is the number of walks, nodes or edges drawn, by default
        2000, and at most the number of training nodes, nodes or edges there are.
    walk_length : int, default 2
        Steps of a walk.
    coverage : float, default 50
        Subgraphs are counted until they have more than this many times the graph's nodes.
    num_layers : int, optional
        Number of blocks when a batch is unpacked the DGL way; gnnscale's models need none.

    Raises
    ------
    ValueError
        If an argument has a value that is not allowed; on preparation, if edges are to be drawn and there are none,
        or no subgraph has a training node.

    Examples
    --------
    >>> import gnnscale as gs
    >>> from gnnscale.samplers.saint import SAINTSampler
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> sampler = SAINTSampler("walk", walk_length=3, coverage=5)
    >>> batch = next(iter(gs.DataLoader(data.graph, data.train_ids, sampler, batch_size=50)))
    >>> len(batch.output_nodes) == len(batch.input_nodes)
    True
    """

    draws_on_gpu = True
    default_batch_size = 2000

    def __init__(
        self, mode: str = "walk", *, walk_length: int = 2, coverage: float = 50, num_layers: int | None = None
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode={mode!r} is not known; use one of {', '.join(map(repr, MODES))}")
        self.walk_length = check_count("walk_length", walk_length)
        if type(coverage) not in (int, float) or not 0 < coverage < math.inf:
            raise ValueError(f"coverage={coverage!r} has to be a positive number")
        self.mode = mode
        self.coverage = coverage
        self.num_layers = check_num_layers(num_layers)
        self.estimated_from = float(coverage)
        self._prepared_for: tuple[CSC, Tensor, int] | None = None

    def __repr__(self) -> str:
        length = f", walk_length={self.walk_length}" if self.mode == "walk" else ""
        return f"SAINTSampler(mode={self.mode!r}{length}{'' if self.coverage == 50 else f', coverage={self.coverage}'})"

    def prepare(self, graph: dgl.DGLGraph, indices: Tensor, batch_size: int) -> None:
        csc = CSC.of(graph)
        if self._prepared_for is not None:
            known, roots, size = self._prepared_for
            if known is csc and size == batch_size and torch.equal(roots, indices):
                return
        odds = self._odds(csc, indices)
        if not odds.numel():
            raise ValueError("mode='edge' draws edges, and the graph has none; use mode='node'")
        self._cumulative_odds = odds.double().cumsum(0)
        self._roots = indices
        self._num_draws = min(batch_size, odds.numel())
        self._count(csc)
        self._prepared_for = csc, indices, batch_size

    def _odds(self, csc: CSC, indices: Tensor) -> Tensor:
        """How likely each training node, node, or edge of the CSC arrays is drawn, up to a factor."""
        if self.mode == "walk":
            return torch.ones(indices.numel())
        sources, destinations = csc.indices.long(), _destinations(csc)
        degree = torch.bincount(torch.cat([sources, destinations]), minlength=csc.num_nodes)
        if self.mode == "node":
            return degree.clamp(min=1)
        return 1 / degree[sources] + 1 / degree[destinations]

    def _count(self, csc: CSC) -> None:
        """Draw subgraphs and make the importance of edges and the loss weight of nodes from their counts."""
        of_node = torch.zeros(csc.num_nodes, dtype=torch.int64)
        of_edge = torch.zeros(csc.indices.numel(), dtype=torch.int32)
        number = drawn = 0
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for nodes, edges in _in_flight(pool, self._subgraphs(csc)):
                of_node[nodes] += 1
                of_edge.index_add_(0, edges, _ONE.expand(edges.numel()))
                number, drawn = number + 1, drawn + nodes.numel()
                if drawn > self.coverage * csc.num_nodes:
                    break
        num_train = self._roots.numel()
        of_train = int(of_node[self._roots].sum())
        if not of_train:
            raise ValueError(f"none of {number} subgraphs had a training node; raise batch_size, or use mode='walk'")
        self._num_batches = math.ceil(num_train * number / of_train)
        self._importance = ((of_node[_destinations(csc)] + 1) / (of_edge + 1)).float()
        self._loss_weight = ((number + 1) / ((of_node + 1) * num_train)).float()

    def _subgraphs(self, csc: CSC) -> Iterator[Callable[[], tuple[Tensor, Tensor]]]:
        """Without end: what draws a subgraph's nodes and edges (positions in the CSC arrays)."""
        generator = torch.Generator().manual_seed(_COUNTING)

        def draw(seeds: Tensor, number: int) -> tuple[Tensor, Tensor]:
            nodes = self._members(csc, seeds, key_of(_COUNTING, number))
            return nodes, induced(csc, nodes).positions

        for number in itertools.count():
            yield partial(draw, self._draw_seeds(generator), number)

    def batches(
        self, indices: Tensor, batch_size: int, shuffle: bool, drop_last: bool, generator: torch.Generator
    ) -> list[Tensor]:
        """The seeds of each batch of one epoch: roots, nodes or edges (positions in the CSC arrays), drawn anew.

        All batches are full, and random whether or not ``shuffle`` is set.
        """
        return [self._draw_seeds(generator) for _ in range(self._num_batches)]

    def _draw_seeds(self, generator: torch.Generator) -> Tensor:
        odds = self._cumulative_odds
        draws = torch.rand(self._num_draws, dtype=torch.float64, generator=generator) * odds[-1]
        seeds = torch.searchsorted(odds, draws, right=True)
        return self._roots[seeds] if self.mode == "walk" else seeds

    def _members(self, csc: CSC, seeds: Tensor, key: int) -> Tensor:
        """The nodes of the subgraph that grows from ``seeds``, in ascending order."""
        if self.mode == "walk":
            visited = random_walks(csc, seeds, self.walk_length, key=key, num_threads=self.num_threads)
            return distinct_nodes(visited.view(-1), csc.num_nodes)
        if self.mode == "edge":
            sources = csc.take(csc.indices, seeds).long()
            seeds = torch.cat([sources, torch.searchsorted(csc.indptr, seeds, right=True) - 1])
        return distinct_nodes(seeds, csc.num_nodes)

    def draw(self, csc: CSC, seeds: Tensor, key: int) -> Sample:
        nodes = self._members(csc, seeds.to(csc.device), key)
        hop = induced(csc, nodes, self.num_threads)
        importance = csc.take(csc.beside(self._importance), hop.positions, self.num_threads)
        loss_weight = csc.take(csc.beside(self._loss_weight), nodes, self.num_threads)
        adjacency = Adjacency(hop, nodes.numel(), csc, nodes, importance=importance)
        return Sample(nodes, [adjacency], repeats=True, loss_weight=loss_weight)

    def sample_blocks(
        self,
        g: dgl.DGLGraph,
        seeds: Tensor,
        exclude_eids: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor, list[dgl.DGLGraph]]:
        """DGL's interface. As with DGL's ``SAINTSampler``, ``seeds`` only say that a batch is due, and it is random.

        Call :meth:`prepare` before, with the training nodes and the batch size; else the first call does, with all
        nodes of the graph and the number of its seeds.
        """
        if exclude_eids is not None:
            raise ValueError("exclude_eids is not supported by SAINTSampler; remove those edges with dgl.remove_edges")
        csc = CSC.of(g)
        if self._prepared_for is None or self._prepared_for[0] is not csc:
            self.prepare(g, csc.nodes, len(seeds))
        # Without a generator torch's own decides, as in DGL.
        key = int(torch.randint(2**62, (), generator=generator))
        sample = self.draw(csc, self._draw_seeds(torch.Generator().manual_seed(key)), key)
        return sample.nodes, sample.output_nodes, to_blocks(g, sample, self.num_layers)


def _in_flight(
    pool: ThreadPoolExecutor, jobs: Iterator[Callable[[], tuple[Tensor, Tensor]]], ahead: int = 8
) -> Iterator[tuple[Tensor, Tensor]]:
    """The results of jobs in their order, a few of which are under way."""
    pending = deque(pool.submit(job) for job in itertools.islice(jobs, ahead))
    try:
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(job) for job in itertools.islice(jobs, 1))
    finally:
        for future in pending:
            future.cancel()


def _destinations(csc: CSC) -> Tensor:
    """Shape (E,), int64: the destination of each edge."""
    return torch.repeat_interleave(csc.nodes, csc.indptr.diff())
