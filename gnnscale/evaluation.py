"""Exact evaluation: all neighbours, layer by layer, in bounded memory, for any model on the layer contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from greenlet import getcurrent, greenlet
from torch import Tensor, nn

from gnnscale._dgl import dgl
from gnnscale.adjacency import Adjacency
from gnnscale.batch import MiniBatch, logits_of
from gnnscale.csc import CSC
from gnnscale.data.dataset import Dataset
from gnnscale.history import FeatureStore, HistoryStore
from gnnscale.history.memory import has_room
from gnnscale.layer import Layer
from gnnscale.metrics import score
from gnnscale.on_device import on_device
from gnnscale.samplers.base import Sample
from gnnscale.samplers.edges import in_edges
from gnnscale.samplers.full import whole_graph
from gnnscale.samplers.gas import HistorySample
from gnnscale.sparse_features import SparseFeatures

CHUNK_EDGES = 2_000_000

# Of an edge and of a node on a GPU: what a chunk is made of, and its normalised weights.
_BYTES_ON_GPU = 40


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
    ``layer.exchange`` before every convolution, the first included. Other chunks run while it waits: of context
    managers that it is in meanwhile, ``torch.no_grad``, ``torch.inference_mode`` and ``torch.autocast`` are its own,
    and others would be theirs too.

    Parameters
    ----------
    graph : DGLGraph
        Homogeneous, on the CPU, features in ``ndata["feat"]``.
    device : torch.device, optional
        Where the model is.
    chunk_edges : int, default 2,000,000
        At most this many nodes and in-edges a chunk (a single node may have more). Memory is bounded by a table of
        float32 rows for each layer (of ``history``, if it is float32), the chunks' edges (together those of the
        graph), and the rows that one chunk reads, at most this many. On a GPU these tables have
        ``placement="auto"``, and features and the chunks' edges stay there from one evaluation to the next if they
        take at most a quarter of the memory that is free when they are first wanted.
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
        self._bounds = chunks(self._csc.indptr, chunk_edges)
        # One chunk is the whole graph, which is worth keeping from one evaluation to the next, on its device and with
        # its normalised weights.
        self._whole: Sample | None = None
        self._sparse: SparseFeatures | None = None
        self._rows: Tensor | None = None  # all features, on a GPU that has room for them
        self._chunks: dict[int, tuple[Tensor, Adjacency]] = {}
        self._keeps: dict[str, bool] = {}
        if len(self._bounds) == 1:
            self._whole = whole_graph(self._csc, diagonal).to(self.device)
            if features is None and self.device.type == "cpu":
                self._sparse = SparseFeatures.of(graph)
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
        with evaluating(model):
            if self._whole is not None:
                sample = self._whole if history is None else self._whole_with_history
                batch = MiniBatch(self.graph, sample, device=self.device, history=history)
                return logits_of(model, batch, self._inputs(0, self._csc.num_nodes)).cpu()
            return self._in_step(model, history)

    def _kept(self, what: str, size: int) -> bool:
        """Whether so many bytes stay on the device: decided once, when they are first wanted."""
        if what not in self._keeps:
            self._keeps[what] = self.device.type == "cuda" and has_room(self.device, size)
        return self._keeps[what]

    def _chunk(self, number: int) -> tuple[Tensor, Adjacency]:
        """The nodes of a chunk, its own first, and its edges."""
        if number in self._chunks:
            return self._chunks[number]
        start, stop = self._bounds[number]
        nodes, hop = in_edges(self._csc, self._csc.nodes[start:stop], torch.get_num_threads())
        chunk = nodes, Adjacency(hop, nodes.numel(), self._csc, nodes, diagonal=self._diagonal).to(self.device)
        if self._kept("edges", _BYTES_ON_GPU * (self._csc.indices.numel() + self._csc.num_nodes)):
            self._chunks[number] = chunk
        return chunk

    def _inputs(self, start: int, stop: int) -> Tensor:
        if self._sparse is not None:
            return self._sparse.rows()
        rows = self._all_inputs()
        if rows is not None:
            return rows[start:stop]
        if self._features is not None:
            return self._features.rows(start, stop).to(self.device)
        return self.graph.ndata["feat"][start:stop].to(self.device)

    def _all_inputs(self) -> Tensor | None:
        """All features on a GPU that has room for them; None where rows are fetched when they are wanted."""
        store = self._features
        if store is None:
            if self._kept("features", self.graph.ndata["feat"].nbytes):
                self._rows = on_device(self.graph, "feat", self.device)
        elif (
            self._rows is None and store.placement != "device" and self._kept("features", 4 * len(store) * store.width)
        ):
            self._rows = store.rows(0, len(store)).to(self.device)
        return self._rows

    def _in_step(self, model: nn.Module, history: HistoryStore | None) -> Tensor:
        outputs: list[Tensor | None] = [None] * len(self._bounds)
        inputs = HistoryStore(self._csc.num_nodes, device=self.device)
        if history is not None and history.dtype == torch.float32:
            hidden, history = history, None
        else:
            hidden = HistoryStore(self._csc.num_nodes, device=self.device)

        outside = _modes(self.device.type)

        def run(number: int, start: int, stop: int) -> None:
            nodes, adjacency = self._chunk(number)
            others = getcurrent().parent.switch

            def pause() -> None:
                with outside():  # what this chunk has entered is not for the others
                    others()

            sample = _Chunk(
                nodes, [adjacency], repeats=True, inputs=inputs, hidden=hidden, history=history, pause=pause
            )
            batch = MiniBatch(self.graph, sample, device=self.device)
            outputs[number] = logits_of(model, batch, self._inputs(start, stop)).cpu()

        # A greenlet stops inside the model's forward, wherever its exchange stands, and goes on from there.
        waiting = []
        try:
            for number, (start, stop) in enumerate(self._bounds):
                waiting.append(greenlet(run))
                waiting[-1].switch(number, start, stop)
            while any(not task.dead for task in waiting):
                for task in waiting:
                    if not task.dead:
                        task.switch()
        finally:
            # After a failure, those that wait leave their contexts here and not when they are collected.
            for task in waiting:
                if task:
                    task.throw()
        return torch.cat([output for output in outputs if output is not None])


def infer(
    model: nn.Module,
    data: Dataset | dgl.DGLGraph,
    *,
    history: HistoryStore | None = None,
    chunk_edges: int = CHUNK_EDGES,
    diagonal: float | None = None,
    features: FeatureStore | None = None,
) -> Tensor:
    """Exact outputs of a model for every node: all neighbours, layer by layer, in bounded memory.

    See :class:`Evaluator` for the method and the other parameters.

    Parameters
    ----------
    model : nn.Module
        Called as ``model(batch, x)``.
    data : Dataset or DGLGraph
        The graph, with features in ``ndata["feat"]``.
    history : HistoryStore, optional
        Rewritten with the exact input rows of every hidden layer.

    Returns
    -------
    Tensor
        Shape (N, C), on the CPU.

    Examples
    --------
    >>> import gnnscale as gs
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> model = gs.nn.GCN(data.num_features, 16, data.num_classes)
    >>> gs.infer(model, data).shape
    torch.Size([1000, 10])
    """
    evaluator = Evaluator(
        graph_of(data), device_of(model), chunk_edges=chunk_edges, diagonal=diagonal, features=features
    )
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
    if not isinstance(data, Dataset):
        raise TypeError(
            f"data is of type {type(data).__name__}; pass a gnnscale.Dataset, which says which nodes to score, or "
            "take the outputs of gnnscale.infer"
        )
    return scores(data, infer(model, data, chunk_edges=chunk_edges, diagonal=diagonal, features=features))


def scores(data: Dataset, logits: Tensor) -> dict[str, float]:
    """The dataset's metric on each of its sets, from logits of shape (N, C)."""
    labels = data.graph.ndata["label"]
    ids = {"train": data.train_ids, "val": data.val_ids, "test": data.test_ids}
    return {name: score(data.metric, logits[nodes], labels[nodes]) for name, nodes in ids.items()}


def graph_of(data: Dataset | dgl.DGLGraph) -> dgl.DGLGraph:
    """The graph of a dataset, or the graph itself."""
    graph = data.graph if isinstance(data, Dataset) else data
    if not isinstance(graph, dgl.DGLGraph):
        raise TypeError(f"data is of type {type(data).__name__}; pass a gnnscale.Dataset or a DGLGraph")
    return graph


def chunks(indptr: Tensor, chunk_edges: int) -> list[tuple[int, int]]:
    """Bounds of runs of consecutive rows that together with their edges stay within ``chunk_edges``.

    ``indptr``, shape (n + 1,), counts the edges before each row. A single row may have more.
    """
    num_rows = indptr.numel() - 1
    work = indptr + torch.arange(num_rows + 1)  # before row v: v rows and their edges
    bounds, start = [], 0
    while start < num_rows:
        reach = int(torch.searchsorted(work, work[start] + chunk_edges, right=True)) - 1
        stop = max(reach, start + 1)
        bounds.append((start, stop))
        start = stop
    return bounds


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _modes(device_type: str) -> Callable[[], AbstractContextManager]:
    """A context with torch's modes as they are now."""
    inference, grad = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    autocast = None
    if hasattr(torch, "get_autocast_dtype"):  # from torch 2.4 on
        autocast = torch.is_autocast_enabled(device_type), torch.get_autocast_dtype(device_type)

    @contextmanager
    def modes() -> Iterator[None]:
        with ExitStack() as stack:
            # Inference mode goes first: leaving it switches gradients on.
            stack.enter_context(torch.inference_mode(inference))
            stack.enter_context(torch.set_grad_enabled(grad))
            if autocast is not None:
                stack.enter_context(torch.autocast(device_type, enabled=autocast[0], dtype=autocast[1]))
            yield

    return modes
