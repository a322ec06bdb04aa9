"""How far GNNAutoScale's rows are from the exact ones, layer by layer, and how far they can be at most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gnnscale._dgl import dgl
from gnnscale.csc import CSC
from gnnscale.data.dataset import Dataset
from gnnscale.evaluation import CHUNK_EDGES, graph_of, infer
from gnnscale.from_history import run_from_history
from gnnscale.history import FeatureStore, HistoryStore
from gnnscale.nn.bounds import Lipschitz, lipschitz_constants
from gnnscale.samplers.full import whole_graph

_ROWS_AT_ONCE = 65536


@dataclass(frozen=True)
class LayerError:
    """How far the rows of one layer are from the exact ones.

    With h the exact row of a node, h̄ the history's, and h̃ what GNNAutoScale computes for the node from its
    in-neighbours' h̄, lengths are Euclidean norms; means and maxima are over all nodes.

    Attributes
    ----------
    layer : int
        From 1. The last one's rows are the outputs, and no history is kept of them.
    error_mean, error_max : float
        ‖h̃ - h‖. The outputs' is the error of :func:`gnnscale.infer_from_history`.
    relative : float
        The root mean square of ‖h̃ - h‖ as a share of that of ‖h‖.
    gap_mean, gap_max : float
        ‖h̄ - h̃‖, the paper's ε: what staleness adds in this layer. Over the nodes that have an out-neighbour, whose
        rows somebody reads; NaN for the outputs, as are the next two.
    staleness, staleness_max : float
        Steps since these rows were written.
    bound_mean, bound_max : float
        What ‖h̃ - h‖ is at most, by the Lipschitz constants of the layers, each node with its own neighbours; NaN
        where no constants are known.
    theorem : float
        The same with the largest ε and the largest row sum of Â in each layer, as in the paper's theorem 2.
    changed : float
        Outputs only, otherwise NaN: the share of nodes whose largest logit is another one (of several labels a node:
        of logits with another sign).
    """

    layer: int
    error_mean: float
    error_max: float
    relative: float
    gap_mean: float
    gap_max: float
    staleness: float
    staleness_max: float
    bound_mean: float
    bound_max: float
    theorem: float
    changed: float


def approximation_error(
    model: nn.Module,
    data: Dataset | dgl.DGLGraph,
    history: HistoryStore,
    *,
    constants: Sequence[Lipschitz] | None = None,
    chunk_edges: int = CHUNK_EDGES,
    features: FeatureStore | None = None,
) -> list[LayerError]:
    """Measure the error that a history's staleness makes, by layer, beside GNNAutoScale's bound.

    Each node's rows are computed from its in-neighbours' rows in the history, as if it were a batch by itself
    (:func:`gnnscale.infer_from_history`), and compared with the exact rows. In training a batch computes some of those
    in-neighbours as well, which can only make their rows fresher. The history is not changed.

    The bound is lemma 1 of the paper, applied to each node: with b = 0 for the features, ε_u = ‖h̄_u - h̃_u‖ in a layer
    and the layer's constants (:func:`gnnscale.nn.lipschitz_constants`),

        b'_v = own · b_v + neighbors · Σ_u Â_vu (b_u + ε_u),

    because ‖h̄_u - h_u‖ ≤ ε_u + ‖h̃_u - h_u‖. Taking the largest of everything in each layer gives theorem 2, with
    K = own + neighbors · max_v Σ_u Â_vu where the paper has α β |N(v)|: b' = K (b + ε).

    Parameters
    ----------
    model : nn.Module
        Called as ``model(batch, x)``; put into evaluation mode meanwhile.
    data : Dataset or DGLGraph
        The graph, with features in ``ndata["feat"]``.
    history : HistoryStore
        The input rows of the model's hidden layers.
    constants : sequence of Lipschitz, optional
        Of each of the model's layers, where :func:`gnnscale.nn.lipschitz_constants` knows none.
    chunk_edges : int, default 2,000,000
        As for :func:`gnnscale.infer`; two tables of rows for each layer are needed besides.
    features : FeatureStore, optional
        Where features are, instead of ``graph.ndata["feat"]``.

    Returns
    -------
    list of LayerError
        One a layer; ``pandas.DataFrame(errors)`` is a table.

    Raises
    ------
    TypeError, ValueError
        As :func:`gnnscale.infer_from_history`; or if there are not as many ``constants`` as layers.

    References
    ----------
    Fey et al. 2021, "GNNAutoScale: Scalable and Expressive Graph Neural Networks via Historical Embeddings", lemma 1
    and theorem 2.

    Examples
    --------
    >>> import gnnscale as gs
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> model = gs.nn.GCN(data.num_features, 16, data.num_classes)
    >>> history = gs.HistoryStore(data.num_nodes)
    >>> _ = gs.train(model, data, gs.samplers.GASSampler(8, refresh=False), epochs=2, batch_size=2, history=history)
    >>> hidden, outputs = gs.approximation_error(model, data, history)
    >>> hidden.error_max < 1e-5 < hidden.gap_mean  # the first layer reads features, which are never stale
    True
    >>> 0 < outputs.error_max <= outputs.bound_max <= outputs.theorem
    True
    """
    graph = graph_of(data)
    exact, computed = HistoryStore(graph.num_nodes()), HistoryStore(graph.num_nodes())
    outputs = run_from_history(model, graph, history, written=computed, chunk_edges=chunk_edges, features=features)
    exact_outputs = infer(model, graph, history=exact, chunk_edges=chunk_edges, features=features)
    num_hidden = len(exact.widths)
    csc = CSC.of(graph)
    bounds = _Bounds(csc, _constants(model, constants, num_hidden + 1))
    is_read = _read_by_others(csc)
    rows = []
    for table in range(num_hidden):
        error, size = _distances(computed, exact, table)
        gap, _ = _distances(history, computed, table)
        gap = torch.where(is_read, gap, 0.0)
        ages = history.staleness(table, csc.nodes)[is_read]
        rows.append(_row(table + 1, error, size, gap[is_read], ages, bounds, math.nan))
        bounds.advance(gap)
    error = (outputs - exact_outputs).double().norm(dim=1)
    changed = _changed(outputs, exact_outputs, graph)
    none = torch.empty(0)
    rows.append(_row(num_hidden + 1, error, exact_outputs.double().norm(dim=1), none, none, bounds, changed))
    return rows


class _Bounds:
    """What the error of each node's rows is at most, from layer to layer.

    The first rows that a history keeps are computed from the features, so they are exact and the first layer's
    constants do not matter.
    """

    def __init__(self, csc: CSC, constants: list[Lipschitz]) -> None:
        self._whole = whole_graph(csc).adjacencies[0]
        self._constants = constants
        self._layer = 0
        self.nodes = torch.zeros(csc.num_nodes, dtype=torch.float64)
        self.theorem = 0.0

    def advance(self, gap: Tensor) -> None:
        """Go on to the rows of the next layer, with ε of each node."""
        self._layer += 1
        constants = self._constants[self._layer]
        if math.isnan(constants.neighbors):
            self.nodes, self.theorem = torch.full_like(self.nodes, math.nan), math.nan
            return
        edges, own = self._whole.normalised(constants.norm)
        hop = self._whole.hop
        weights = torch.ones(hop.indices.numel(), dtype=torch.float64) if edges is None else edges.double()
        of_own = torch.zeros_like(self.nodes) if own is None else own.double()

        def total(rows: Tensor) -> Tensor:
            return torch.zeros_like(rows).index_add_(0, self._whole.destinations, weights * rows[hop.indices.long()])

        largest = float((total(torch.ones_like(self.nodes)) + of_own).max())
        self.theorem = (constants.own + constants.neighbors * largest) * (self.theorem + float(gap.max()))
        neighbors = total(self.nodes + gap) + of_own * self.nodes
        self.nodes = constants.own * self.nodes + constants.neighbors * neighbors


def _constants(model: nn.Module, given: Sequence[Lipschitz] | None, num_layers: int) -> list[Lipschitz]:
    constants = list(lipschitz_constants(model) if given is None else given)
    if not constants and given is None:
        return [Lipschitz(math.nan, math.nan, "", "a model that gnnscale does not know")] * num_layers
    if not all(isinstance(each, Lipschitz) for each in constants):
        kinds = ", ".join(sorted({type(each).__name__ for each in constants}))
        raise TypeError(f"constants holds {kinds}; give a gnnscale.nn.Lipschitz(own, neighbors, norm) for each layer")
    if len(constants) != num_layers:
        raise ValueError(f"constants has {len(constants)} entries and the model {num_layers} layers; give one for each")
    return constants


def _read_by_others(csc: CSC) -> Tensor:
    """Whether a node is an in-neighbour of another, shape (N,)."""
    destinations = torch.repeat_interleave(csc.nodes, csc.indptr.diff())
    sources = csc.indices.long()
    is_read = torch.zeros(csc.num_nodes, dtype=torch.bool)
    is_read[sources[sources != destinations]] = True
    return is_read


def _distances(one: HistoryStore, other: HistoryStore, table: int) -> tuple[Tensor, Tensor]:
    """How far each node's rows in two stores are from each other, and the length of the second, shape (N,) each."""
    parts = []
    for ids in torch.arange(one.num_rows).split(_ROWS_AT_ONCE):
        first, second = (store.pull(table, ids).wait().cpu().double() for store in (one, other))
        parts.append(torch.stack([(first - second).norm(dim=1), second.norm(dim=1)]))
    distance, size = torch.cat(parts, 1)
    return distance, size


def _row(
    layer: int, error: Tensor, size: Tensor, gap: Tensor, ages: Tensor, bounds: _Bounds, changed: float
) -> LayerError:
    return LayerError(
        layer=layer,
        error_mean=error.mean().item(),
        error_max=error.max().item(),
        relative=(error.square().sum() / size.square().sum()).sqrt().item() if error.any() else 0.0,
        gap_mean=gap.mean().item() if gap.numel() else math.nan,
        gap_max=gap.max().item() if gap.numel() else math.nan,
        staleness=ages.double().mean().item() if ages.numel() else math.nan,
        staleness_max=float(ages.max()) if ages.numel() else math.nan,
        bound_mean=bounds.nodes.mean().item(),
        bound_max=bounds.nodes.max().item(),
        theorem=bounds.theorem,
        changed=changed,
    )


def _changed(outputs: Tensor, exact: Tensor, graph: dgl.DGLGraph) -> float:
    """The share of decisions that differ."""
    labels = graph.ndata.get("label")
    if labels is not None and labels.dim() == 2:
        differ = (outputs > 0) != (exact > 0)
    else:
        differ = outputs.argmax(1) != exact.argmax(1)
    return differ.double().mean().item()
