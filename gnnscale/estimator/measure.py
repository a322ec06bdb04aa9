"""Measures the estimate of a sampler: layer outputs and the parameter gradient, for a model that stands still."""

from __future__ import annotations

import copy
import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from gnnscale.batch import MiniBatch
from gnnscale.clock import now
from gnnscale.data import Dataset
from gnnscale.estimator.moments import Moments
from gnnscale.evaluation import infer
from gnnscale.history import HistoryStore
from gnnscale.loader import DataLoader
from gnnscale.samplers import FullSampler
from gnnscale.training import default_batch_size


@dataclass(frozen=True)
class Measurement:
    """How far one quantity is from its exact value under a sampler, and what a batch costs.

    Attributes
    ----------
    staleness : int or None
        Optimiser steps since the histories were written; None for samplers without.
    quantity : str
        "layer 1" to "layer L", the outputs of a layer; "gradient", that of a batch's loss in all parameters, as a step
        uses it; "epoch gradient", the mean of an epoch's gradients, each batch counting by its training nodes. In the
        first of the two gradients the choice of training nodes is part of the spread; in the second hardly so.
    bias, std, error : float
        As shares of the exact value's root mean square; error² = bias² + std².
    nodes, edges : float
        Rows that a batch reads and edges that it adds up, the mean over batches.
    sample_ms, step_ms : float
        Milliseconds to make a batch, and for the whole step with forward and backward: medians.
    draws : int
        Batches measured.
    """

    staleness: int | None
    quantity: str
    bias: float
    std: float
    error: float
    nodes: float
    edges: float
    sample_ms: float
    step_ms: float
    draws: int


class Trajectory:
    """A model in training, full batch, that remembers the parameters of its last steps.

    Parameters
    ----------
    model : nn.Module
        Trained in place.
    data : Dataset
        Graph and training nodes.
    steps : int
        Number of steps of Adam.
    remembered : int
        How many steps back :meth:`at` can go.
    lr, weight_decay : float
        Of Adam.
    device : str or torch.device
        Where the model computes, here and when samplers are measured.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Dataset,
        steps: int,
        remembered: int,
        *,
        lr: float,
        weight_decay: float,
        device: str | torch.device = "cpu",
    ) -> None:
        loader = DataLoader(data.graph, data.train_ids, FullSampler(), device)
        self.model, self.data, self.device = model.to(loader.device), data, loader.device
        self._states: list[dict[str, Tensor]] = []
        optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay)
        model.train()
        for step in range(steps + 1):
            if step >= steps - remembered:
                self._states.append(copy.deepcopy(model.state_dict()))
            if step < steps:
                (batch,) = loader
                optimizer.zero_grad()
                batch.loss(model(batch, batch.x)).backward()
                optimizer.step()
        # Dropout is off from here on: what differs between draws is the sample alone.
        model.eval()

    def at(self, steps_back: int) -> nn.Module:
        """The model as it was ``steps_back`` steps before the end."""
        self.model.load_state_dict(self._states[-1 - steps_back])
        return self.model


class _Frozen(HistoryStore):
    """A history that draws read and do not change."""

    frozen = False

    def push(self, layer: int, ids: Tensor, rows: Tensor) -> None:
        if not self.frozen:
            super().push(layer, ids, rows)


def measure(
    trajectory: Trajectory,
    sampler: Any,
    *,
    num_layers: int,
    batch_size: int | None = None,
    draws: int = 200,
    staleness: Sequence[int] = (0,),
    seed: int = 0,
    on_draw: Callable[[], None] | None = None,
) -> list[Measurement]:
    """Compare a sampler's batches with the whole graph, the model standing still and dropout off.

    Each batch goes forward and backward as in training. The outputs of every layer are compared with the exact ones of
    the same nodes, and the gradient of the batch's loss with that of the loss over all training nodes.

    Parameters
    ----------
    trajectory : Trajectory
        The model, at the end of its steps.
    sampler : Sampler or object with ``sample_blocks``
        As for :class:`gnnscale.DataLoader`.
    num_layers : int
        Layers of the model.
    batch_size : int, optional
        Seeds a batch; the sampler's default, or 512.
    draws : int
        Batches to draw.
    staleness : sequence of int
        For samplers with histories: the ages at which to measure, in steps. The histories are those that the
        model had so many steps before. Other samplers are measured once.
    seed : int
        Of the batches.
    on_draw : callable, optional
        Called after each batch.

    Returns
    -------
    list of Measurement
        For each age, one a layer and one for each kind of gradient.

    Examples
    --------
    >>> import gnnscale as gs
    >>> from gnnscale.estimator.measure import Trajectory, measure
    >>> data = gs.load("synthetic", num_nodes=500, num_edges=3_000)
    >>> model = gs.nn.GCN(data.num_features, 8, data.num_classes)
    >>> trajectory = Trajectory(model, data, 3, 0, lr=0.01, weight_decay=0.0)
    >>> rows = measure(trajectory, gs.samplers.FullSampler(), num_layers=2, draws=2)
    >>> [(row.quantity, row.error < 1e-6) for row in rows]
    [('layer 1', True), ('layer 2', True), ('gradient', True), ('epoch gradient', True)]
    """
    data = trajectory.data
    if batch_size is None:
        batch_size = default_batch_size(sampler) or data.train_ids.numel()
    keeps = bool(getattr(sampler, "keeps_history", False))
    loader = DataLoader(
        data.graph, data.train_ids, sampler, trajectory.device, batch_size=batch_size, shuffle=True, seed=seed,
        history=_Frozen(data.graph.num_nodes(), device=trajectory.device) if keeps else None,
    )  # fmt: skip
    if loader.gradients is not None:
        loader.gradients = _Frozen(data.graph.num_nodes(), device=trajectory.device)
    outputs, gradient = _exact(trajectory.at(0), data, num_layers, trajectory.device)
    measurements = []
    for age in staleness if keeps else [None]:
        if age is not None:
            _fill(loader, trajectory.at(age), num_layers)
        model = trajectory.at(0)
        layers = [Moments(rows) for rows in outputs]
        steps, epochs = _Gradient(gradient), _Gradient(gradient)
        costs = []
        for batch, sample_seconds, ends_epoch in _batches(loader, draws):
            start = now(loader.device)
            rows = _step(model, batch)
            seconds = sample_seconds + now(loader.device) - start
            for moments, layer, adjacency in zip(layers, rows, batch.sample.spread(num_layers), strict=True):
                ids = batch.input_nodes[: batch.sample.own_rows(adjacency)]
                moments.add(ids, layer[: len(ids)].cpu())
            row = _gradient(model)
            steps.add(row)
            # A weighted sum stands for the whole loss already; a mean stands for its own training nodes.
            mean_of = len(batch.output_nodes) if batch.targets is None else len(batch.targets)
            epochs.gather(row, mean_of if batch.sample.loss_weight is None else 1, ends_epoch)
            costs.append((*batch.sample.touched(num_layers), 1e3 * sample_seconds, 1e3 * seconds))
            if on_draw is not None:
                on_draw()
        nodes, edges, sample_ms, step_ms = zip(*costs, strict=True)
        cost = {
            "nodes": statistics.mean(nodes), "edges": statistics.mean(edges),
            "sample_ms": statistics.median(sample_ms), "step_ms": statistics.median(step_ms), "draws": draws,
        }  # fmt: skip
        names = [*(f"layer {number}" for number in range(1, num_layers + 1)), "gradient", "epoch gradient"]
        for name, moments in zip(names, [*layers, steps, epochs], strict=True):
            bias, std, error = moments.summary()
            measurements.append(Measurement(age, name, bias, std, error, **cost))
    return measurements


class _Gradient(Moments):
    """Moments of a single row, which may be put together from several weighted ones."""

    def __init__(self, exact: Tensor) -> None:
        super().__init__(exact[None])
        self._sum, self._weight = torch.zeros_like(exact), 0

    def add(self, row: Tensor) -> None:  # type: ignore[override]
        super().add(torch.zeros(1, dtype=torch.int64), row[None])

    def gather(self, row: Tensor, weight: int, is_last: bool) -> None:
        self._sum += weight * row
        self._weight += weight
        if is_last:
            self.add(self._sum / max(self._weight, 1))
            self._sum, self._weight = torch.zeros_like(self._sum), 0


def _batches(loader: DataLoader, count: int) -> Iterator[tuple[MiniBatch, float, bool]]:
    """So many batches, over as many epochs as it takes: the seconds that making each took, and which end an epoch."""
    while True:
        epoch, last = iter(loader), len(loader) - 1
        for number in itertools.count():
            start = perf_counter()
            batch = next(epoch, None)
            if batch is None:
                break
            yield batch, perf_counter() - start, number == last
            count -= 1
            if not count:
                return


def _exact(model: nn.Module, data: Dataset, num_layers: int, device: torch.device) -> tuple[list[Tensor], Tensor]:
    """The outputs of each layer for all nodes, and the gradient of the loss over all training nodes; on the CPU."""
    (batch,) = DataLoader(data.graph, data.train_ids, FullSampler(), device)
    rows = _step(model, batch)
    if len(rows) != num_layers:
        raise ValueError(f"the model has {len(rows)} layers; num_layers={num_layers} was said")
    return [row.cpu() for row in rows], _gradient(model)


def _step(model: nn.Module, batch: MiniBatch) -> list[Tensor]:
    """Go forward and backward, and give the rows that each layer put out."""
    rows: list[Tensor] = []
    make_layers = batch.layers

    def watched(num_layers: int) -> list[Any]:
        layers = make_layers(num_layers)
        for layer in layers:
            layer.propagate = _watched(layer.propagate, rows)  # type: ignore[method-assign]
        return layers

    batch.layers = watched  # type: ignore[method-assign]
    model.zero_grad()
    batch.loss(model(batch, batch.x)).backward()
    return rows


def _watched(propagate: Callable[..., Tensor], rows: list[Tensor]) -> Callable[..., Tensor]:
    def watch(conv: nn.Module, x: Tensor) -> Tensor:
        out = propagate(conv, x)
        rows.append(out.detach())
        return out

    return watch


def _gradient(model: nn.Module) -> Tensor:
    """All parameters' gradients as one row, on the CPU; zeros where a parameter has none."""
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return torch.cat([grad.flatten() for grad in grads]).cpu()


def _fill(loader: DataLoader, model: nn.Module, num_layers: int) -> None:
    """Write the histories that a model gives, and stop there."""
    stores = [store for store in (loader.history, loader.gradients) if isinstance(store, _Frozen)]
    for store in stores:
        store.frozen = False
    infer(model, loader.graph, history=loader.history)
    if loader.gradients is not None:
        # Each pass makes the gradients of one more layer right, from the output inwards.
        for _ in range(num_layers):
            for batch in loader:
                _step(model, batch)
        infer(model, loader.graph, history=loader.history)
    for store in stores:
        store.frozen = True
