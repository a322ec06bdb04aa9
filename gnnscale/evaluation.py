"""Exact evaluation: all neighbours, layer by layer, in bounded memory, for any model on the layer contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from greenlet import getcurrent, greenlet
from torch import Tensor, nn

from gnnscale._dgl import dgl
from gnnscale.adjacency import Adjacency
from gnnscale.batch import MiniBatch
from gnnscale.csc import CSC
from gnnscale.history import FeatureStore, HistoryStore
from gnnscale.layer import Layer
from gnnscale.metrics import score
from gnnscale.samplers.base import Sample
from gnnscale.samplers.edges import in_edges
from gnnscale.samplers.full import whole_graph
from gnnscale.samplers.gas import HistorySample

if TYPE_CHECKING:
    from gnnscale.data import Dataset

CHUNK_EDGES = 2_000_000


class _ChunkLayer(Layer):
    """Writes the chunk's rows, waits until every chunk has written, and reads the halo's."""

    def exchange(self, x: Tensor) -> Tensor:
        batch, num_own = self._batch, x.shape[0]
        chunk = cast(_Chunk, batch.sample)
        # The first layer has not been given the halo's features either: a paused chunk must not hold on to them.
        store, table = (chunk.hidden, self.index - 1) if self.index else (chunk.inputs, 0)
        store.push(table, batch.input_nodes[:num_own], x)
        if self.index and chunk.history is not None:
            chunk.history.push(table, batch.input_nodes[:num_own], x)
        chunk.pause()
        halo = store.pull(table, batch.input_nodes[num_own : self.num_src]).wait()
        return torch.cat([x, halo.to(x.device, x.dtype)])


@dataclass(eq=False, kw_only=True)
class _Chunk(Sample):
    inputs: HistoryStore
    hidden: HistoryStore
    history: HistoryStore | None  # to be written as well, where it is not itself exact
    pause: Callable[[], None]

    layer_class = _ChunkLayer


class Evaluator:
    """Exact outputs of a model on a graph, time after time.

    The graph is cut into chunks of consecutive nodes, each with all its in-neighbours as halo. All chunks go
    through the model in step: at each ``layer.exchange`` a chunk writes its rows to a table and waits until every
    chunk has written; then it reads its halo. That is GNNAutoScale with histories that are never stale, so a model
    needs no second method for inference, and writing to a given history refreshes it. The model has to call
    ``layer.exchange`` before every convolution, the first included, and outside of context managers such as
    ``torch.autocast``, because other chunks run while it waits.

    Parameters
    ----------
    graph : DGLGraph
        Homogeneous, on the CPU, features in ``ndata["feat"]``.
    device : torch.device, optional
        Where the model is.
    chunk_edges : int, default 2,000,000
        At most this many nodes and in-edges a chunk (a single node may have more). Memory is bounded by a table of
        float32 rows for each layer (of ``history``, if it is float32), the chunks' edges (together those of the
        graph), and the rows that one chunk reads, at most this many.
    diagonal : float, optional
        The diagonal enhancement that a model was trained with (``ClusterGCNSampler(diag_lambda=...)``).
    features : FeatureStore, optional
        Where features are, instead of ``graph.ndata["feat"]``.
    """

    def __init__(
        self,
        graph: dgl.DGLGraph,
        device: torch.device | None = None,
        *,
        chunk_edges: int = CHUNK_EDGES,
        diagonal: float | None = None,
        features: FeatureStore | None = None,
    ) -> None:
        if chunk_edges < 1:
            raise ValueError(f"chunk_edges={chunk_edges} has to be positive")
        if features is None and "feat" not in graph.ndata:
            raise ValueError("the graph has no node features; store them in graph.ndata['feat']")
        self._features = features
        self.graph = graph
        self.device = device or torch.device("cpu")
        self._csc = CSC.of(graph)
        self._diagonal = diagonal
        self._bounds = _chunks(self._csc, chunk_edges)
        # One chunk is the whole graph; its normalised weights are worth keeping from one evaluation to the next.
        self._whole: Sample | None = None
        if len(self._bounds) == 1:
            self._whole = whole_graph(self._csc, diagonal)
            self._whole_with_history = HistorySample(self._whole.nodes, self._whole.adjacencies, repeats=True)

    @torch.no_grad()
    def infer(self, model: nn.Module, *, history: HistoryStore | None = None) -> Tensor:
        """Outputs for every node.

        Parameters
        ----------
        model : nn.Module
            Called as ``model(batch, x)``; put into evaluation mode meanwhile.
        history : HistoryStore, optional
            Rewritten with the exact input rows of every hidden layer.

        Returns
        -------
        Tensor
            Shape (N, C), on the CPU.
        """
        with _evaluating(model):
            if self._whole is not None:
                sample = self._whole if history is None else self._whole_with_history
                batch = MiniBatch(self.graph, sample, device=self.device, history=history)
                return model(batch, self._inputs(0, self._csc.num_nodes)).cpu()
            return self._in_step(model, history)

    def _inputs(self, start: int, stop: int) -> Tensor:
        if self._features is not None:
            return self._features.rows(start, stop).to(self.device)
        return self.graph.ndata["feat"][start:stop].to(self.device)

    def _in_step(self, model: nn.Module, history: HistoryStore | None) -> Tensor:
        outputs: list[Tensor | None] = [None] * len(self._bounds)
        inputs = HistoryStore(self._csc.num_nodes)
        if history is not None and history.dtype == torch.float32:
            hidden, history = history, None
        else:
            hidden = HistoryStore(self._csc.num_nodes)

        def run(number: int, start: int, stop: int) -> None:
            nodes, hop = in_edges(self._csc, self._csc.nodes[start:stop], torch.get_num_threads())
            adjacency = Adjacency(hop, nodes.numel(), self._csc, nodes, diagonal=self._diagonal)
            pause = getcurrent().parent.switch
            sample = _Chunk(
                nodes, [adjacency], repeats=True, inputs=inputs, hidden=hidden, history=history, pause=pause
            )
            batch = MiniBatch(self.graph, sample, device=self.device)
            outputs[number] = model(batch, self._inputs(start, stop)).cpu()

        # A greenlet stops inside the model's forward, wherever its exchange stands, and goes on from there.
        waiting = []
        for number, (start, stop) in enumerate(self._bounds):
            task = greenlet(run)
            task.switch(number, start, stop)
            waiting.append(task)
        while any(not task.dead for task in waiting):
            for task in waiting:
                if not task.dead:
                    task.switch()
        return torch.cat([output for output in outputs if output is not None])


def infer(
    model: nn.Module,
    graph: dgl.DGLGraph,
    *,
    history: HistoryStore | None = None,
    chunk_edges: int = CHUNK_EDGES,
    diagonal: float | None = None,
    features: FeatureStore | None = None,
) -> Tensor:
    """Exact outputs of a model for every node, shape (N, C): all neighbours, layer by layer.

    See :class:`Evaluator` for the method and the parameters.

    Examples
    --------
    >>> import gnnscale as gs
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> model = gs.nn.GCN(data.num_features, 16, data.num_classes)
    >>> gs.infer(model, data.graph).shape
    torch.Size([1000, 10])
    """
    evaluator = Evaluator(graph, _device_of(model), chunk_edges=chunk_edges, diagonal=diagonal, features=features)
    return evaluator.infer(model, history=history)


def evaluate(
    model: nn.Module,
    data: Dataset,
    *,
    chunk_edges: int = CHUNK_EDGES,
    diagonal: float | None = None,
    features: FeatureStore | None = None,
) -> dict[str, float]:
    """The dataset's metric on its training, validation and test nodes, from exact outputs.

    Returns
    -------
    dict
        ``train``, ``val`` and ``test``, fractions.

    Examples
    --------
    >>> import gnnscale as gs
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> model = gs.nn.GCN(data.num_features, 16, data.num_classes)
    >>> sorted(gs.evaluate(model, data))
    ['test', 'train', 'val']
    """
    logits = infer(model, data.graph, chunk_edges=chunk_edges, diagonal=diagonal, features=features)
    return scores(data, logits)


def scores(data: Dataset, logits: Tensor) -> dict[str, float]:
    """The dataset's metric on each of its sets, from logits of shape (N, C)."""
    labels = data.graph.ndata["label"]
    ids = {"train": data.train_ids, "val": data.val_ids, "test": data.test_ids}
    return {name: score(data.metric, logits[nodes], labels[nodes]) for name, nodes in ids.items()}


def _chunks(csc: CSC, chunk_edges: int) -> list[tuple[int, int]]:
    """Bounds of runs of consecutive nodes whose nodes and in-edges together stay within ``chunk_edges``."""
    work = csc.indptr + torch.arange(csc.num_nodes + 1)  # before node v: v nodes and their edges
    bounds, start = [], 0
    while start < csc.num_nodes:
        reach = int(torch.searchsorted(work, work[start] + chunk_edges, right=True)) - 1
        stop = max(reach, start + 1)
        bounds.append((start, stop))
        start = stop
    return bounds


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _device_of(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))
