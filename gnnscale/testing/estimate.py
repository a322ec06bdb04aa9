"""Checks of what a batch computes: the declared estimate against brute force."""

from __future__ import annotations

import math
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn

from gnnscale._dgl import dgl
from gnnscale.layer import Layer
from gnnscale.loader import DataLoader
from gnnscale.testing.graphs import GRAPHS, NUM_NODES, dense_normalised, normalise, plain, train_ids
from gnnscale.testing.subject import ESTIMATES, Subject, blocks_of, layers_of, require, weights_of

MAX_Z = 6.0
"""Standard errors: a right estimate is further off in one of some 10^8 comparisons, and a check makes thousands."""

_LEAST_COUNT = 20
_RARE_DRAWS = 10
_FEW = 20
_FLOAT32 = 1e-4


def check_estimate(subject: Subject, graph_name: str) -> None:
    """A layer computes what the sampler declares, compared with the full sum by brute force."""
    estimate, graph = subject.estimate, GRAPHS[graph_name]()
    require(
        estimate in ESTIMATES,
        f"estimate={estimate!r} is not known, so nobody can tell what a layer is meant to compute; declare one of "
        f"{', '.join(map(repr, ESTIMATES))}",
    )
    # All training nodes in one batch tell most a draw; halos are there only where a batch lacks something.
    batch_size = len(train_ids()) if estimate == "unbiased" else None
    loader, where = subject.loader(graph, batch_size=batch_size), f"on the {graph_name} graph"
    with torch.no_grad():
        if estimate == "unbiased" and loader.history is not None:
            _unbiased_outputs(subject, loader, where)
        else:
            _CHECKS[estimate](subject, loader, where)


class _Means:
    """The mean over batches of an estimate's deviation, for each node and column, under one norm.

    Parameters
    ----------
    exact, largest_term : Tensor
        Shape (N, F), float64: the full sums, and the largest absolute value among the terms of each.
    what : str
        What is estimated.
    """

    def __init__(self, exact: Tensor, largest_term: Tensor, what: str) -> None:
        self.exact, self.largest_term, self.what = exact, largest_term, what
        self.count = torch.zeros(len(exact), 1, dtype=torch.float64)
        self.total, self.squares = torch.zeros_like(exact), torch.zeros_like(exact)
        self.largest_importance = 1.0
        self.shares: list[float] = []

    def add(self, nodes: Tensor, rows: Tensor, importance: Tensor | None) -> None:
        exact = self.exact[nodes]
        deviation = rows.double() - exact
        if len(nodes):
            self.shares.append(float((deviation * exact).sum() / exact.square().sum().clamp(min=1e-30)))
        self.count.index_add_(0, nodes, torch.ones(len(nodes), 1, dtype=torch.float64))
        self.total.index_add_(0, nodes, deviation)
        self.squares.index_add_(0, nodes, deviation.square())
        if importance is not None and importance.numel():
            self.largest_importance = max(self.largest_importance, float(importance.max()))

    def check(self, estimated_from: float) -> None:
        """Two z-tests; ``estimated_from`` says how many draws the importance is known from."""
        require(bool(self.shares), f"{self.what}: no batch has a destination; there would be nothing to train on")
        self._check_scale(estimated_from)
        if float(self.count.max()) >= _LEAST_COUNT:
            self._check_nodes(estimated_from)

    def _check_scale(self, estimated_from: float) -> None:
        """Whether the estimates of all nodes together are once the full sums."""
        shares = torch.tensor(self.shares, dtype=torch.float64)
        variance = float(shares.var(correction=0))
        error = math.sqrt(variance * (1 / len(shares) + 1 / estimated_from))
        mean = float(shares.mean())
        require(
            abs(mean) <= MAX_Z * error + _FLOAT32,
            f"{self.what}: over {len(shares)} batches the estimates are on average {1 + mean:.2f} times the full sums, "
            f"{_away(mean, error)}; {_ADVICE}",
        )

    def _check_nodes(self, estimated_from: float) -> None:
        """Whether the mean estimate of each node and column is the full sum."""
        seen = self.count.squeeze(1) >= _LEAST_COUNT
        count, exact = self.count[seen], self.exact[seen]
        mean = self.total[seen] / count
        variance = (self.squares[seen] / count - mean.square()).clamp(min=0)
        # A node whose rare edges were not drawn looks more certain than it is. So no node is taken for more certain
        # than all are on average, and one edge more or less, drawn a few times too often or too seldom, is no news.
        error = (variance.clamp(min=variance.mean().item()) * (1 / count + 1 / estimated_from)).sqrt()
        allowed = _RARE_DRAWS * self.largest_importance * self.largest_term[seen] / count
        allowed += _FLOAT32 * (1 + exact.abs().max())
        z = (mean.abs() - allowed) / (error + 1e-30)
        row, column = divmod(int(z.nan_to_num(math.inf).argmax()), z.shape[1])
        require(
            float(z[row, column]) <= MAX_Z,
            f"{self.what}: the mean of {int(count[row])} estimates of node {int(seen.nonzero()[row])} is "
            f"{float((mean + exact)[row, column]):.3g} and the full sum is {float(exact[row, column]):.3g}, "
            f"{_away(float(mean[row, column]), float(error[row, column]))}; {_ADVICE}",
        )


def _away(distance: float, error: float) -> str:
    # Of an estimate that hardly varies, nobody wants to hear of 10^12 standard errors.
    errors = abs(distance) / error if error else math.inf
    return f"{errors:.0f} standard errors away" if errors < 1e4 else "and hardly varies"


# The other norms are these with another number for each node.
_NORMS = ("sym", "mean", "sum")

_ADVICE = (
    "a model trained on it fits other sums than those it is evaluated on. Give each edge "
    'edata["importance"] = 1 / (probability that it is drawn), with degrees of the whole graph, or declare what else '
    "is computed in the class attribute estimate"
)


def _unbiased_layers(subject: Subject, loader: DataLoader, where: str) -> None:
    """The mean of each layer's estimates is the full sum, for rows that stand still."""
    graph, means = loader.graph, {}
    features = graph.ndata["feat"].double()
    for batch, norm in zip(subject.batches(loader), cycle(_NORMS), strict=False):
        layers = layers_of(batch)
        for layer, adjacency in zip(layers, batch.sample.spread(len(layers)), strict=True):
            if (layer.index, norm) not in means:
                matrix = dense_normalised(graph, norm)
                what = f"layer {layer.index} under norm {norm!r} {where}"
                means[layer.index, norm] = _Means(matrix @ features, _largest_terms(matrix, features), what)
            sources, destinations = batch.input_nodes[: layer.num_src], batch.input_nodes[: layer.num_dst]
            rows = layer.aggregate(features[sources].float(), norm)
            means[layer.index, norm].add(destinations, rows, adjacency.importance)
    for each in means.values():
        each.check(_estimated_from(loader.sampler))


def _unbiased_outputs(subject: Subject, loader: DataLoader, where: str) -> None:
    """The mean of a linear model's outputs is the exact one, whatever the histories hold."""
    graph, num_layers = loader.graph, len(layers_of(next(iter(loader))))
    generator = torch.Generator().manual_seed(5)
    history = [torch.randn(NUM_NODES, 4, generator=generator) for _ in range(num_layers - 1)]
    means = {}
    for norm in _NORMS:
        tables = _exact_rows(graph, norm, num_layers)
        change = tables[-2].abs() + (history[-1].abs() if history else 0.0)
        what = f"the output of a linear model under norm {norm!r} {where}"
        means[norm] = _Means(tables[-1], _largest_terms(dense_normalised(graph, norm), change), what)
    for batch, norm in zip(subject.batches(loader), cycle(_NORMS), strict=False):
        _fill(loader, history)
        rows = batch.x
        for layer in layers_of(batch):
            rows = layer.propagate(_Linear(norm), layer.exchange(rows))
        means[norm].add(batch.output_nodes, rows, batch.sample.adjacencies[-1].importance)
    for each in means.values():
        each.check(_estimated_from(loader.sampler))


def _largest_terms(matrix: Tensor, rows: Tensor) -> Tensor:
    """The largest |Â_vu x_u| of each node v and column, shape (N, F)."""
    return (matrix.abs()[:, :, None] * rows.abs()[None, :, :]).amax(1)


def _exact(subject: Subject, loader: DataLoader, where: str) -> None:
    """Given exact rows, and histories that are fresh, each layer's rows of the output nodes are exact."""
    for norm in _NORMS:
        for batch, _ in zip(subject.batches(loader), range(_FEW), strict=False):
            layers, nodes, num_rows = layers_of(batch), batch.input_nodes, len(batch.input_nodes)
            tables = _exact_rows(loader.graph, norm, len(layers))
            _fill(loader, tables[1:-1])
            for layer in layers:
                given = layer.exchange(tables[layer.index][nodes[:num_rows]].float())
                require(
                    _close(given, tables[layer.index][nodes[: layer.num_src]]),
                    f"layer {layer.index} {where} reads other rows of absent nodes than the history has; the model "
                    "learns from the rows of other nodes, or zeros",
                )
                rows = layer.propagate(_Linear(norm), given)
                # With histories, rows of other nodes may be makeshift; they are corrected before they are read.
                num_exact = len(rows) if loader.history is None else len(batch.output_nodes)
                require(
                    _close(rows[:num_exact], tables[layer.index + 1][nodes[:num_exact]]),
                    f"layer {layer.index} under norm {norm!r} {where} does not give the full sums, which "
                    "estimate='exact' promises; take all in-edges, each with the weight that it has in the whole graph",
                )
                num_rows = len(rows)


def _ratio(subject: Subject, loader: DataLoader, where: str) -> None:
    """The weights of the drawn edges are not negative and add up to those of all edges."""
    degree = dense_normalised(loader.graph, "sum").sum(1)
    for batch, _ in zip(subject.batches(loader), range(_FEW), strict=False):
        for layer in layers_of(batch):
            for norm, expected in (("sum", degree[batch.input_nodes[: layer.num_dst]]), ("mean", torch.ones(1))):
                weights = weights_of(layer, norm).double()
                total = weights.sum(1)
                require(
                    float(weights.min()) >= -_FLOAT32 and _close(total, torch.where(total == 0, 0.0, expected)),
                    f"in layer {layer.index} {where} the weights of a node's drawn edges under norm {norm!r} do not "
                    "add up to those of all its edges (or some are negative), which estimate='ratio' promises; rows "
                    "of a model would be too large or too small by as much",
                )


def _subgraph(subject: Subject, loader: DataLoader, where: str) -> None:
    """A layer is the full sum of the subgraph whose edges the blocks have, with its degrees."""
    graph = loader.graph
    for batch, _ in zip(subject.batches(loader), range(_FEW), strict=False):
        layers, blocks = layers_of(batch), blocks_of(loader, batch)
        block = blocks[0]
        require(
            block.num_src_nodes() == block.num_dst_nodes(),
            "the first block has sources that are no destinations; estimate='subgraph' promises a subgraph, in which "
            "all nodes are both, and degrees inside it",
        )
        source, destination = block.edges()
        ids = block.edata[dgl.EID].long() if dgl.EID in block.edata else None
        weight = torch.ones(len(source), dtype=torch.float64)
        if "weight" in graph.edata and ids is not None:
            weight = graph.edata["weight"][ids].double()
        adjacency = torch.zeros(block.num_dst_nodes(), block.num_src_nodes(), dtype=torch.float64)
        adjacency.index_put_((destination.long(), source.long()), weight, accumulate=True)
        for layer in layers:
            for norm in _NORMS:
                expected = normalise(adjacency, norm)[: layer.num_dst, : layer.num_src]
                require(
                    _close(weights_of(layer, norm), expected),
                    f"layer {layer.index} under norm {norm!r} {where} is not the full sum inside the batch's subgraph, "
                    "which estimate='subgraph' promises: degrees are not those inside it, or an importance is left; "
                    'give srcdata["degree"] and dstdata["degree"], the sums of weights inside',
                )


def _replaced(subject: Subject, loader: DataLoader, where: str) -> None:
    """The weights of a node's edges, which are the sampler's own, are not negative and add up to 1."""
    for batch, _ in zip(subject.batches(loader), range(_FEW), strict=False):
        for layer in layers_of(batch):
            weights = weights_of(layer, "mean").double()
            total = weights.sum(1)
            require(
                float(weights.min()) >= -_FLOAT32 and _close(total, (total != 0).double()),
                f"in layer {layer.index} {where} the weights of a node's edges are negative or do not add up to 1, "
                "which estimate='replaced' promises; rows would grow or shrink from layer to layer",
            )


def _other(subject: Subject, loader: DataLoader, where: str) -> None:
    """Nothing is promised that a check knows."""


_CHECKS = {
    "unbiased": _unbiased_layers,
    "exact": _exact,
    "ratio": _ratio,
    "subgraph": _subgraph,
    "replaced": _replaced,
    "other": _other,
}


def check_loss(subject: Subject) -> None:
    """Weighted losses of batches are the mean loss of all training nodes in expectation."""
    graph, indices = plain(), train_ids()
    loader = subject.loader(graph)
    generator = torch.Generator().manual_seed(6)
    logits = 3 * torch.randn(NUM_NODES, 3, generator=generator)
    exact = float(nn.functional.cross_entropy(logits[indices], graph.ndata["label"][indices]))
    epochs, weighted, left = [], False, subject.draws
    while left > 0:
        # Batches of one epoch may have to do with each other; epochs have not.
        losses = []
        for batch in loader:
            weighted |= batch.sample.loss_weight is not None
            losses.append(float(batch.loss(logits[batch.output_nodes])))
        if not weighted or not losses:
            return
        epochs.append(sum(losses) / len(losses))
        left -= len(losses)
    values = torch.tensor(epochs, dtype=torch.float64)
    variance = float(values.var(correction=0))
    error = math.sqrt(variance * (1 / len(values) + 1 / _estimated_from(loader.sampler))) + _FLOAT32 * abs(exact)
    mean = float(values.mean())
    require(
        abs(mean - exact) / error <= MAX_Z,
        f"the mean loss of {len(values)} epochs is {mean:.3g} and that of all training nodes {exact:.3g}, "
        f"{abs(mean - exact) / error:.0f} standard errors away; some nodes count for more than others in training: "
        "give loss_weight = 1 / (number of training nodes · probability that the node is in the batch)",
    )


def _exact_rows(graph: dgl.DGLGraph, norm: str, num_layers: int) -> list[Tensor]:
    """The features, and the rows after each layer of a linear model, shape (N, 4), float64."""
    tables = [graph.ndata["feat"].double()]
    matrix = dense_normalised(graph, norm)
    for _ in range(num_layers):
        tables.append(matrix @ tables[-1])
    return tables


def _fill(loader: DataLoader, tables: list[Tensor]) -> None:
    if loader.history is not None:
        for layer, table in enumerate(tables):
            loader.history.push(layer, torch.arange(NUM_NODES), table)


def _close(got: Tensor, expected: Tensor) -> bool:
    if got.shape[0] != expected.shape[0] and expected.numel() != 1:
        return False
    scale = float(expected.abs().max()) if expected.numel() else 1.0
    return bool(torch.isfinite(got).all()) and bool(((got - expected).abs() <= _FLOAT32 * (1 + scale)).all())


def _estimated_from(sampler: Any) -> float:
    return getattr(sampler, "estimated_from", None) or math.inf


class _Linear(nn.Module):
    """The plainest convolution: the sum over neighbours alone."""

    def __init__(self, norm: str) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, layer: Layer, x: Tensor) -> Tensor:
        return layer.aggregate(x, self.norm)
