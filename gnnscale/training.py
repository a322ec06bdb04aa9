"""The training loop that all comparisons share: the same lines for every sampler, and an honest clock."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gnnscale.checkpoint import SavedRun
from gnnscale.checks import check_device, check_flag, check_number
from gnnscale.clock import Clock, now
from gnnscale.data.dataset import Dataset
from gnnscale.evaluation import Evaluator, scores
from gnnscale.freed_memory import keep_freed_memory
from gnnscale.graphed import GraphedStep, Step, check_graphs
from gnnscale.history import FeatureStore, HistoryStore, Traffic
from gnnscale.loader import DataLoader
from gnnscale.stopping import StopRules


def default_batch_size(sampler: Any) -> int | None:
    """Seeds a batch where the user names none: 512 for samplers of others that do not say; None for all seeds."""
    return getattr(sampler, "default_batch_size", 512)


def parameter_groups(model: nn.Module, weight_decay: float, rest_weight_decay: float = 0.0) -> list[dict[str, Any]]:
    """A model's parameters in groups for an optimiser, each with its weight decay.

    The model's own method ``parameter_groups(weight_decay, rest_weight_decay)`` gives them where it has one;
    otherwise all parameters have ``weight_decay``.

    Raises
    ------
    ValueError
        If ``rest_weight_decay`` is not 0 and the model has no such method.
    """
    groups = getattr(model, "parameter_groups", None)
    if groups is not None:
        return groups(weight_decay, rest_weight_decay)
    if rest_weight_decay:
        raise ValueError(
            f"rest_weight_decay={rest_weight_decay} is for parameters that have no weight_decay, and all of "
            f"{type(model).__name__}'s have it; leave it out, or give the model a method parameter_groups"
        )
    return [{"params": list(model.parameters()), "weight_decay": weight_decay}]


@dataclass(frozen=True)
class Point:
    """One point of a training curve. Seconds are cumulative since the start of training.

    Attributes
    ----------
    epoch : int
        From 1.
    train_seconds : float
        Wall-clock time of training; evaluation and preparation are not in it.
    sample_seconds, gather_seconds, transfer_seconds : float
        Making batches: drawing them, collecting features and labels, moving them to the device; added over the
        prefetch threads, so that with these the stages may exceed ``train_seconds``.
    history_seconds : float
        Issuing pushes and pulls of histories and waiting for them, and the evaluations that refresh them.
    compute_seconds : float
        Forward, backward and optimiser, without history.
    wait_seconds : float
        Time in which training waited for a batch; all of sample, gather and transfer without prefetch threads.
    loss : float
        Mean over the epoch's batches.
    val, test : float
        The dataset's metric, exact.
    staleness : float
        Steps since the rows that were read from histories were written, the mean over the epoch; NaN where none
        were read.
    staleness_max : float
        The largest of them.
    staleness_histogram : tuple of int
        Rows read in the epoch by staleness: 0, 1, 2 to 3, 4 to 7, and so on.
    history_wait_seconds : float
        The part of ``history_seconds`` in which training waited for rows.
    history_bytes_pulled, history_bytes_pushed : int
        Bytes of rows read from histories and written to them in training steps, as stored, cumulative.
    steps : int
        Optimiser steps, cumulative.
    edges : int
        Edges that the layers of training added up, cumulative: the work.
    evaluation_seconds : float
        Exact evaluation, which is not in ``train_seconds``, cumulative.
    """

    epoch: int
    train_seconds: float
    sample_seconds: float
    gather_seconds: float
    transfer_seconds: float
    history_seconds: float
    compute_seconds: float
    wait_seconds: float
    loss: float
    val: float
    test: float
    staleness: float = math.nan
    staleness_max: float = math.nan
    staleness_histogram: tuple[int, ...] = ()
    history_wait_seconds: float = 0.0
    history_bytes_pulled: int = 0
    history_bytes_pushed: int = 0
    steps: int = 0
    edges: int = 0
    evaluation_seconds: float = 0.0


@dataclass
class TrainingResult:
    """What a training run gave.

    Attributes
    ----------
    points : list of Point
        One an epoch.
    prepare_seconds : float
        One-off preparation: graph arrays, partitions, the first fill of histories.
    stopped : str
        What ended the run: ``"epochs"``, ``"seconds"``, ``"patience"`` or ``"target"``.
    """

    points: list[Point] = field(default_factory=list)
    prepare_seconds: float = 0.0
    stopped: str = ""

    @property
    def best(self) -> Point:
        """The first point with the best validation metric."""
        if not self.points:
            raise ValueError("there is no point yet: the run had no epoch")
        return max(self.points, key=lambda point: point.val if not math.isnan(point.val) else -math.inf)


def train(
    model: nn.Module,
    data: Dataset,
    sampler: Any,
    *,
    epochs: int,
    max_seconds: float | None = None,
    patience: int | None = None,
    target: float | None = None,
    batch_size: int | None = None,
    lr: float = 0.01,
    weight_decay: float = 5e-4,
    rest_weight_decay: float = 0.0,
    clip_norm: float | None = None,
    inductive: bool = False,
    seed: int = 0,
    num_workers: int = 0,
    device: str | torch.device = "cpu",
    amp: str = "none",
    history: HistoryStore | None = None,
    history_ahead: bool = True,
    features: FeatureStore | None = None,
    graph_placement: str = "host",
    cuda_graph: bool = False,
    checkpoint: str | Path | None = None,
    on_point: Callable[[Point], None] | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> TrainingResult:
    """Train with Adam and evaluate exactly after each epoch, in this process alone.

    For several processes see ``experiments/two_processes``. Memory that is freed stays with the process
    (:func:`gnnscale.keep_freed_memory`).

    Parameters
    ----------
    model : nn.Module
        Called as ``model(batch, x)``. ``model.parameter_groups(weight_decay, rest_weight_decay)`` gives the groups
        for the optimiser, where it exists; otherwise all parameters have ``weight_decay``.
    data : Dataset
        Graph, ids and metric.
    sampler : Sampler
        As for :class:`gnnscale.DataLoader`.
    epochs : int
        Passes over the training nodes, the most that there are.
    max_seconds : float, optional
        Ends the run after the epoch in which ``train_seconds`` reach it.
    patience : int, optional
        Ends the run after so many epochs in a row without a strictly better validation metric.
    target : float, optional
        Ends the run when the validation metric, a fraction, reaches it.
    batch_size : int, optional
        Seeds a batch; the sampler's ``default_batch_size``, or 512 where it has none.
    lr, weight_decay : float
        Of Adam.
    rest_weight_decay : float
        Weight decay of the parameters that the model's ``parameter_groups`` leaves out of ``weight_decay``, such as
        the last convolution of a GCN.
    clip_norm : float, optional
        Largest norm of the gradient over the model's parameters.
    inductive : bool
        Whether training sees the training nodes and the edges between them alone
        (:meth:`gnnscale.data.Dataset.training_subgraph`), as in GraphSAGE and GraphSAINT; evaluation is on the whole
        graph in any case. Histories are then of the training nodes, and what fills and refreshes them runs on these.
    seed : int
        Of the batches. Seed torch yourself for the model's initial weights and its dropout.
    num_workers : int
        Prefetch threads.
    device : str or torch.device
        Where the model is trained.
    history : HistoryStore, optional
        Where a sampler with histories keeps them; float32 with ``placement="auto"`` by default.
    amp : {"none", "bf16"}
        Mixed precision: with ``"bf16"``, linear maps and the rows between them are bfloat16 while training goes forward
        (``torch.autocast``); sums, softmaxes, the loss, the parameters and the evaluation are float32.
    history_ahead : bool
        As for :class:`gnnscale.DataLoader`.
    features : FeatureStore, optional
        Where features are, instead of ``data.graph.ndata["feat"]``. Not together with ``inductive``.
    graph_placement : {"host", "device", "pinned"}
        As for :class:`gnnscale.DataLoader`: where the graph's edges are when batches are drawn.
    cuda_graph : bool, default False
        Whether a step whose batch has come a few times is replayed as a CUDA graph, which spares the host the launches
        of its kernels, one by one. For a GPU and batches that are the same in each epoch: ``FullSampler``, and
        ``ClusterGCNSampler`` with one part or all parts a batch. Dropout draws anew in each step, but other numbers
        than without it. The forward must not look at numbers on the GPU. Not yet measured.
    checkpoint : str or Path, optional
        A file that is rewritten after each epoch and from which the same call goes on after a kill, with the same
        curve as if nothing had happened: it holds the model, the optimiser, torch's random numbers, the points so
        far and the histories. The rows of a store with ``placement="file"`` are not copied: pass the store as
        ``HistoryStore.open(path)`` when going on; its rows are then those of the moment of the kill, at most an
        epoch newer than the model's.
    on_point : callable, optional
        Called with each point as it comes.
    on_stage : callable, optional
        Called with ``"training"`` before each epoch and ``"evaluating"`` before its evaluation, outside the clock.

    Raises
    ------
    FloatingPointError
        If the loss is not finite; the points so far have been given to ``on_point``.
    ValueError
        As :class:`gnnscale.DataLoader`, and as :func:`parameter_groups`.

    Examples
    --------
    >>> import gnnscale as gs
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> model = gs.nn.GCN(data.num_features, 16, data.num_classes)
    >>> result = gs.train(model, data, gs.samplers.GASSampler(num_parts=8), epochs=2)
    >>> [point.epoch for point in result.points]
    [1, 2]
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is of type {type(model).__name__}; pass a torch.nn.Module, such as gs.nn.GCN(...)")
    if not isinstance(data, Dataset):
        raise TypeError(f"data is of type {type(data).__name__}; pass a gnnscale.Dataset, such as gs.load('cora')")
    rules = StopRules(epochs, max_seconds, patience, target)
    check_number("lr", lr)
    check_number("weight_decay", weight_decay)
    check_number("rest_weight_decay", rest_weight_decay)
    if clip_norm is not None:
        check_number("clip_norm", clip_norm)
    if amp not in ("none", "bf16"):
        raise ValueError(f"amp={amp!r} has to be 'none' or 'bf16'")
    if check_flag("inductive", inductive) and features is not None:
        raise ValueError(
            "features= holds rows of the whole graph, and inductive=True trains on a part of it; store the features in "
            'data.graph.ndata["feat"], or leave inductive out'
        )
    start = now()
    seen = data.training_subgraph() if inductive else data
    subgraph_seconds = now() - start
    if batch_size is None:
        batch_size = default_batch_size(sampler) or seen.train_ids.numel()
    if check_flag("cuda_graph", cuda_graph):
        check_graphs(sampler, check_device(device), batch_size, shuffle=True)
    loader = DataLoader(
        seen.graph,
        seen.train_ids,
        sampler,
        device,
        batch_size=batch_size,
        shuffle=True,
        num_workers=num_workers,
        seed=seed,
        history=history,
        history_ahead=history_ahead,
        features=features,
        graph_placement=graph_placement,
    )
    model = model.to(loader.device)
    parameters = parameter_groups(model, weight_decay, rest_weight_decay)
    if loader.parameters():
        parameters = [*parameters, {"params": loader.parameters(), "weight_decay": 0.0}]
    optimizer = _adam(parameters, lr)
    settings_of_step = model, optimizer, clip_norm, amp
    step = GraphedStep(loader.device, *settings_of_step) if cuda_graph else Step(*settings_of_step)
    keep_freed_memory()
    diagonal = getattr(sampler, "diag_lambda", None)
    evaluator = Evaluator(data.graph, loader.device, diagonal=diagonal, features=features)
    # What writes histories goes over the nodes that have them.
    refresher = Evaluator(seen.graph, loader.device, diagonal=diagonal) if inductive else evaluator
    result = TrainingResult(prepare_seconds=subgraph_seconds + loader.prepare_seconds)
    clock = Clock(loader.device)
    saved = None
    if checkpoint is not None:
        settings = {
            # Without the address, which is another one in each process.
            "sampler": re.sub(r" at 0x[0-9a-f]+", "", repr(sampler)),
            "seed": seed, "batch_size": batch_size, "lr": lr, "weight_decay": weight_decay,
            "rest_weight_decay": rest_weight_decay, "clip_norm": clip_norm, "amp": amp,
            "inductive": inductive, "num_nodes": data.num_nodes, "num_train": data.train_ids.numel(),
        }  # fmt: skip
        saved = SavedRun(checkpoint, settings, model, optimizer, loader)
    if saved is not None and (progress := saved.restore()) is not None:
        clock.seconds.update(progress["seconds"])
        result.prepare_seconds = progress["prepare_seconds"]
        result.points.extend(Point(**point) for point in progress["points"])
        if on_point is not None:
            for point in result.points:
                on_point(point)
    elif loader.history is not None:
        start = now(loader.device)
        refresher.infer(model, history=loader.history)
        loader.history.flush()
        result.prepare_seconds += now(loader.device) - start
    refreshed = loader.history if getattr(sampler, "refresh", False) else None
    last = result.points[-1] if result.points else None
    train_seconds = last.train_seconds if last else 0.0
    wait_seconds = last.wait_seconds if last else 0.0
    evaluation_seconds = last.evaluation_seconds if last else 0.0
    steps, edges = (last.steps, last.edges) if last else (0, 0)
    traffic = _Traffic(loader, last)
    while (stopped := rules.met(result.points)) is None:
        epoch = len(result.points) + 1
        traffic.leave_out()
        if on_stage is not None:
            on_stage("training")
        seconds, waited, loss, made, summed = _epoch(model, loader, step, clock)
        train_seconds, wait_seconds = train_seconds + seconds, wait_seconds + waited
        steps, edges = steps + made, edges + summed
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss became {loss} in epoch {epoch}; try a smaller lr or clip_norm=1.0")
        columns = traffic.columns()
        logits = None
        if on_stage is not None:
            on_stage("evaluating")
        if refreshed is not None:
            # Part of the method, not only a look at it: without it the histories would be older.
            start = now(loader.device)
            logits = refresher.infer(model, history=refreshed)
            refreshed.flush()
            clock.seconds["history"] += now(loader.device) - start
            train_seconds += now(loader.device) - start
        start = now(loader.device)
        if logits is None or inductive:
            logits = evaluator.infer(model)
        measured = scores(data, logits)
        evaluation_seconds += now(loader.device) - start
        point = Point(
            epoch=epoch,
            train_seconds=train_seconds,
            sample_seconds=clock.seconds["sample"],
            gather_seconds=clock.seconds["gather"],
            transfer_seconds=clock.seconds["transfer"],
            history_seconds=clock.seconds["history"],
            compute_seconds=train_seconds - wait_seconds - clock.seconds["history"],
            wait_seconds=wait_seconds,
            loss=loss,
            val=measured["val"],
            test=measured["test"],
            **columns,
            steps=steps,
            edges=edges,
            evaluation_seconds=evaluation_seconds,
        )
        result.points.append(point)
        if saved is not None:
            points = [asdict(point) for point in result.points]
            saved.write({"seconds": clock.seconds, "prepare_seconds": result.prepare_seconds, "points": points})
        if on_point is not None:
            on_point(point)
    result.stopped = stopped
    return result


def _adam(groups: list[dict[str, Any]], lr: float) -> torch.optim.Adam:
    """Adam in one pass over each parameter: of a small model on the CPU, a fifth of a step otherwise."""
    every = [parameter for group in groups for parameter in group["params"]]
    fused = all(parameter.is_floating_point() and parameter.device.type in ("cpu", "cuda") for parameter in every)
    try:
        return torch.optim.Adam(groups, lr=lr, fused=fused or None)
    except RuntimeError:  # torch before 2.4
        return torch.optim.Adam(groups, lr=lr)


class _Traffic:
    """What went through a loader's history stores in training steps, as the columns of a point."""

    def __init__(self, loader: DataLoader, last: Point | None) -> None:
        self._stores = [store for store in (loader.history, loader.gradients) if store is not None]
        self._waited = last.history_wait_seconds if last else 0.0
        self._pulled = last.history_bytes_pulled if last else 0
        self._pushed = last.history_bytes_pushed if last else 0

    def leave_out(self) -> None:
        """Forget what went through until now: evaluation uses histories too, and does not count."""
        for store in self._stores:
            store.take_traffic()

    def columns(self) -> dict[str, Any]:
        each = [store.take_traffic() for store in self._stores]
        self._waited += sum(traffic.wait_seconds for traffic in each)
        self._pulled += sum(traffic.bytes_pulled for traffic in each)
        self._pushed += sum(traffic.bytes_pushed for traffic in each)
        rows = each[0] if each else Traffic()
        return {
            "staleness": rows.staleness,
            "staleness_max": rows.staleness_max,
            "staleness_histogram": rows.staleness_histogram,
            "history_wait_seconds": self._waited,
            "history_bytes_pulled": self._pulled,
            "history_bytes_pushed": self._pushed,
        }


def _epoch(model: nn.Module, loader: DataLoader, step: Step, clock: Clock) -> tuple[float, float, float, int, int]:
    """One pass: its seconds, those that it waited for batches, its mean loss, its steps and the edges summed."""
    model.train()
    edges = 0
    losses: list[Tensor] = []
    waited = 0.0
    start = now(loader.device)
    with step.on_its_stream():
        batches = iter(loader)
        while True:
            asked = now()
            batch = next(batches, None)
            waited += now() - asked
            if batch is None:
                break
            loss, summed = step(batch)
            losses.append(loss)
            edges += summed
            clock.add(batch.clock)
        mean = torch.stack(losses).mean() if losses else None
    # What is still on its way is part of the epoch.
    for store in (loader.history, loader.gradients):
        if store is not None:
            with clock.stage("history"):
                store.flush()
    if mean is None:
        raise ValueError("the epoch had no batch; lower batch_size, or do not drop the last batch")
    seconds = now(loader.device) - start
    return seconds, waited, mean.item(), len(losses), edges
