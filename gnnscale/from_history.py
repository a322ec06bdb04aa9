"""Outputs of some nodes from the last known rows of their neighbours: one hop, however deep the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from gnnscale._dgl import dgl
from gnnscale.adjacency import Adjacency
from gnnscale.batch import MiniBatch, logits_of
from gnnscale.checks import check_flag, check_ids
from gnnscale.csc import CSC
from gnnscale.data.dataset import Dataset
from gnnscale.evaluation import CHUNK_EDGES, chunks, device_of, evaluating, graph_of
from gnnscale.history import FeatureStore, HistoryStore
from gnnscale.layer import HistoryLayer
from gnnscale.ops import Hop
from gnnscale.samplers.edges import in_edges
from gnnscale.samplers.gas import HistorySample


def infer_from_history(
    model: nn.Module,
    data: Dataset | dgl.DGLGraph,
    history: HistoryStore,
    nodes: Tensor | None = None,
    *,
    refresh: bool = False,
    chunk_edges: int = CHUNK_EDGES,
    features: FeatureStore | None = None,
) -> Tensor:
    """Outputs of some nodes from the history's rows of their in-neighbours (GNNAutoScale's constant-time inference).

    Every layer reads the same in-neighbours and takes their rows from the history, so that the cost does not grow
    with the neighbourhood of the whole model: one hop for each layer, instead of all nodes that L hops reach. With
    fresh histories the outputs are exact; how far off they are with stale ones,
    :func:`gnnscale.approximation_error` measures.

    Parameters
    ----------
    model : nn.Module
        Called as ``model(batch, x)``; put into evaluation mode meanwhile.
    data : Dataset or DGLGraph
        The graph, with features in ``ndata["feat"]``.
    history : HistoryStore
        The input rows of the model's hidden layers, one row a node: what training under a sampler with histories
        left, or ``gs.infer(model, data, history=history)`` wrote.
    nodes : Tensor, optional
        Shape (n,), integer ids. Those asked for together are a batch of GNNAutoScale: they see one another's computed
        rows and take all others from the history. Without it, all nodes, each as if asked for by itself.
    refresh : bool, default False
        Whether the rows computed for ``nodes`` are written to the history, which otherwise stays as it is. New nodes,
        whose rows are zeros, become known to their neighbours that way.
    chunk_edges : int, default 2,000,000
        At most this many nodes and in-edges a batch (a single node may have more), which bounds the memory; ``nodes``
        with more are several batches.
    features : FeatureStore, optional
        Where features are, instead of ``graph.ndata["feat"]``.

    Returns
    -------
    Tensor
        Shape (n, C), on the CPU, in the order of ``nodes``.

    Raises
    ------
    TypeError
        If ``data`` or ``history`` is something else.
    ValueError
        If the history is not one of this graph and model, ``nodes`` are not ids of nodes, or ``refresh`` comes
        without ``nodes``.

    References
    ----------
    Fey et al. 2021, "GNNAutoScale: Scalable and Expressive Graph Neural Networks via Historical Embeddings", eq. 2.

    Examples
    --------
    >>> import torch
    >>> import gnnscale as gs
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> model = gs.nn.GCN(data.num_features, 16, data.num_classes, num_layers=4)
    >>> history = gs.HistoryStore(data.num_nodes)
    >>> exact = gs.infer(model, data, history=history)
    >>> some = torch.tensor([7, 3])
    >>> bool((gs.infer_from_history(model, data, history, some) - exact[some]).abs().max() < 1e-5)
    True
    """
    return run_from_history(
        model,
        data,
        history,
        nodes,
        written=history if check_flag("refresh", refresh) else None,
        chunk_edges=chunk_edges,
        features=features,
    )


@torch.no_grad()
def run_from_history(
    model: nn.Module,
    data: Dataset | dgl.DGLGraph,
    history: HistoryStore,
    nodes: Tensor | None = None,
    *,
    written: HistoryStore | None = None,
    chunk_edges: int = CHUNK_EDGES,
    features: FeatureStore | None = None,
) -> Tensor:
    """:func:`infer_from_history` with the rows that are computed written to any store."""
    graph = graph_of(data)
    _check(graph, history, features, chunk_edges)
    if written is history and nodes is None:
        raise ValueError(
            "refresh=True needs nodes; gnnscale.infer(model, data, history=history) rewrites the rows of all nodes"
        )
    csc, device, alone = CSC.of(graph), device_of(model), nodes is None
    # Each node once, in ascending order, whose rows lie near one another.
    distinct, place = (
        (csc.nodes, None) if nodes is None else check_ids("nodes", nodes, csc.num_nodes).unique(return_inverse=True)
    )
    degrees = csc.indptr[distinct + 1] - csc.indptr[distinct]
    outputs = []
    with evaluating(model):
        for start, stop in chunks(torch.cat([degrees.new_zeros(1), degrees.cumsum(0)]), chunk_edges):
            sample = _sample(csc, distinct[start:stop], alone, written)
            batch = MiniBatch(graph, sample, device=device, history=history)
            rows = graph.ndata["feat"][sample.nodes] if features is None else features.pull(sample.nodes).wait()
            outputs.append(logits_of(model, batch, rows.to(device)).cpu())
    if written is not None:
        written.flush()
    found = torch.cat(outputs)
    return found if place is None else found[place]


class _FromHistoryLayer(HistoryLayer):
    """Pulls the halo's rows from the history, and pushes the batch's where they are wanted."""

    def exchange(self, x: Tensor) -> Tensor:
        if not self.index:
            return x
        batch, table, num_own = self._batch, self.index - 1, x.shape[0]
        if table >= len(batch.history.widths):
            raise ValueError(
                f"history has {len(batch.history.widths)} tables and layer {self.index} of the model reads its own; "
                "train with a sampler that keeps histories, or fill it with gnnscale.infer(model, data, "
                "history=history)"
            )
        halo = batch.pulled_rows(table, x) if num_own < self.num_src else []
        written = cast(_FromHistory, batch.sample).written
        if written is not None:
            written.push(table, batch.input_nodes[:num_own], x)
        return torch.cat([x, *halo]) if halo else x


@dataclass(eq=False, kw_only=True)
class _FromHistory(HistorySample):
    written: HistoryStore | None  # for the rows that are computed

    layer_class = _FromHistoryLayer


def _sample(csc: CSC, members: Tensor, alone: bool, written: HistoryStore | None) -> _FromHistory:
    nodes, hop = in_edges(csc, members, torch.get_num_threads())
    if alone:
        nodes, hop = _apart(members, nodes, hop)
    return _FromHistory(nodes, [Adjacency(hop, nodes.numel(), csc, nodes)], repeats=True, written=written)


def _apart(members: Tensor, nodes: Tensor, hop: Hop) -> tuple[Tensor, Hop]:
    """The same edges, with every in-neighbour in the halo, also those that are members; loops stay with their node."""
    destinations = torch.repeat_interleave(torch.arange(members.numel()), hop.indptr.diff().long())
    is_other = hop.indices != destinations
    halo, place = nodes[hop.indices[is_other].long()].unique(return_inverse=True)
    indices = hop.indices.clone()
    indices[is_other] = (members.numel() + place).to(indices.dtype)
    return torch.cat([members, halo]), Hop(hop.indptr, indices, hop.positions)


def _check(graph: dgl.DGLGraph, history: Any, features: FeatureStore | None, chunk_edges: int) -> None:
    if not isinstance(history, HistoryStore):
        raise TypeError(f"history is of type {type(history).__name__}; pass the gnnscale.HistoryStore of the training")
    num_nodes = graph.num_nodes()
    if history.num_rows != num_nodes:
        advice = f"; call history.grow({num_nodes}) for new nodes" if history.num_rows < num_nodes else ""
        raise ValueError(f"history has {history.num_rows} rows and the graph {num_nodes} nodes{advice}")
    if features is None and "feat" not in graph.ndata:
        raise ValueError("the graph has no node features; store them in graph.ndata['feat']")
    if chunk_edges < 1:
        raise ValueError(f"chunk_edges={chunk_edges} has to be positive")
