"""Batches in order, with prefetch threads that work ahead of the model."""

from __future__ import annotations

import inspect
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from difflib import get_close_matches
from functools import partial
from time import perf_counter
from typing import Any
from weakref import WeakKeyDictionary, finalize

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter

from gnnscale._dgl import dgl
from gnnscale.batch import MiniBatch
from gnnscale.blocks import from_blocks
from gnnscale.checks import check_at_least, check_device, check_ids
from gnnscale.clock import Clock
from gnnscale.csc import CSC
from gnnscale.history import FeatureStore, HistoryStore
from gnnscale.history.streams import Lane, lane_of
from gnnscale.on_device import on_device
from gnnscale.ops import cuda_reason, gather_rows
from gnnscale.ops._backend import cuda_kernels
from gnnscale.ops.random import key_of
from gnnscale.parcel import Parcel, Rows
from gnnscale.samplers.base import Sample, Sampler, split
from gnnscale.sparse_features import SparseFeatures

# Keyword arguments that DGL hands to torch's loader and that only tune its worker processes.
_TUNING = ("persistent_workers", "prefetch_factor", "pin_memory", "multiprocessing_context", "timeout")


_numbers = itertools.count()


class DataLoader:
    """Mini-batches of a sampler, the same way for every sampler.

    It takes the arguments of ``dgl.dataloading.DataLoader`` in their order, so that a DGL training script changes
    one import. A batch depends on ``seed``, the epoch and its number alone: not on ``num_workers``, and not on
    timing.

    Parameters
    ----------
    graph : DGLGraph
        Homogeneous, on the CPU; features in ``ndata["feat"]`` and labels in ``ndata["label"]``, weights of edges, if
        any, in ``edata["weight"]``.
    indices : Tensor
        Shape (n,), integer: the training nodes.
    graph_sampler : Sampler or object with ``sample_blocks(g, seeds)``
        One of :mod:`gnnscale.samplers`, any ``dgl.dataloading.BlockSampler``, or your own. If ``sample_blocks``
        takes a keyword ``generator``, it gets a ``torch.Generator`` seeded for the batch and runs in the prefetch
        threads. Otherwise it runs in the caller's thread, with the generators of torch and NumPy seeded for the
        batch and put back afterwards, and DGL's seeded.
    device : str or torch.device, optional
        Where features, labels and the layers' arrays go; the CPU by default.
    use_ddp : bool, default False
        Whether the processes of ``torch.distributed`` share each epoch's batches: process r of n takes every n-th,
        from the r-th. All need the same ``seed``. Some may get one batch more than others: train inside
        ``with ddp_model.join():``.
    ddp_seed, use_uva, gpu_cache
        Of DGL's loader; the first has no effect (``seed`` decides), the others are refused where they ask for
        something.
    batch_size : int, default 1
        Seeds a batch: nodes, or parts for the samplers that work on clusters.
    drop_last : bool, default False
        Whether to leave out a last batch that is not full.
    shuffle : bool, default False
        Whether to draw the order anew each epoch.
    use_prefetch_thread, use_alternate_streams, pin_prefetcher
        Of DGL's loader; they tune what ``num_workers`` decides here, and have no effect.
    num_workers : int, default 0
        Prefetch threads; with 0, batches are made in the caller's thread.
    seed : int, default 0
        Of all the loader's randomness.
    history : HistoryStore, optional
        Where a sampler with histories keeps them (others leave it alone); made by the loader if absent: float32, in
        memory of the GPU ``device`` as far as it has room, otherwise of the host (``placement="auto"``).
    features : FeatureStore, optional
        Where features are, instead of ``graph.ndata["feat"]``.
    history_ahead : bool, default True
        Whether to ask for the next batch's history rows as soon as the model has gone forward (``batch.loss`` was
        called), so that they arrive during the backward pass. It changes no number, only the time: rows that were
        pushed meanwhile are asked for again. The next batch is then drawn one step earlier.
    graph_placement : {"host", "device", "pinned"}
        Where the graph's edges are when batches are drawn. From ``"device"``, the memory of the GPU ``device``, and
        from ``"pinned"``, memory of the host that the GPU reads by itself, the GPU draws, and draws the same batches.
        For samplers with ``draws_on_gpu``: all but the full batch, AS-GCN, Ripple and those of others.

    Attributes
    ----------
    epoch : int
        Number of the next pass, from 0. Set it to repeat or to resume.
    history : HistoryStore or None
        The store in use.
    gradients : HistoryStore or None
        The store of gradients, for samplers that keep them.
    prepare_seconds : float
        Time of one-off preparation: the graph's arrays and the sampler's own (partitions).

    Raises
    ------
    TypeError, ValueError
        One sentence that names the argument, what was got, and what is allowed.

    Examples
    --------
    >>> import gnnscale as gs
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> sampler = gs.samplers.NeighborSampler([5, 5])
    >>> loader = gs.DataLoader(data.graph, data.train_ids, sampler, batch_size=50, shuffle=True)
    >>> for input_nodes, output_nodes, blocks in loader:
    ...     pass
    >>> len(blocks)
    2
    """

    def __init__(
        self,
        graph: dgl.DGLGraph,
        indices: Tensor,
        graph_sampler: Any,
        device: str | torch.device | None = None,
        use_ddp: bool = False,
        ddp_seed: int = 0,
        batch_size: int = 1,
        drop_last: bool = False,
        shuffle: bool = False,
        use_prefetch_thread: bool | None = None,
        use_alternate_streams: bool | None = None,
        pin_prefetcher: bool | None = None,
        use_uva: bool = False,
        gpu_cache: Any = None,
        *,
        num_workers: int = 0,
        seed: int = 0,
        history: HistoryStore | None = None,
        history_ahead: bool = True,
        features: FeatureStore | None = None,
        graph_placement: str = "host",
        **tuning: Any,
    ) -> None:
        if not isinstance(graph, dgl.DGLGraph):
            raise TypeError(f"graph is of type {type(graph).__name__}; pass a DGLGraph, such as gs.load('cora').graph")
        flags = {"shuffle": shuffle, "drop_last": drop_last, "history_ahead": history_ahead, "use_ddp": use_ddp}
        for name, flag in flags.items():
            if not isinstance(flag, bool):
                raise ValueError(f"{name}={flag!r} has to be True or False")
        _refuse(use_uva=use_uva, gpu_cache=gpu_cache)
        if use_ddp and not dist.is_initialized():
            raise ValueError(
                "use_ddp=True needs torch.distributed; call torch.distributed.init_process_group first, under torchrun"
            )
        self._rank, self._num_ranks = (dist.get_rank(), dist.get_world_size()) if use_ddp else (0, 1)
        _check_tuning(tuning)
        self.graph = graph
        self.sampler = graph_sampler
        self.device = check_device(device)
        self.batch_size = check_at_least("batch_size", batch_size, 1)
        self.num_workers = check_at_least("num_workers", num_workers, 0)
        self.drop_last, self.shuffle, self.seed = drop_last, shuffle, seed
        self.epoch = 0
        self._draws = _check_sampler(graph_sampler)
        self._number = next(_numbers)
        start = perf_counter()
        self._csc = CSC.of(graph)
        self.indices = _check_indices(indices, graph.num_nodes())
        self._prepare()
        self.prepare_seconds = perf_counter() - start
        given = _checked("history", history, HistoryStore, graph.num_nodes())
        self.features = _checked("features", features, FeatureStore, graph.num_nodes())
        self.history = self.gradients = None
        self.history_ahead = history_ahead
        if getattr(graph_sampler, "keeps_history", False):
            self.history = given or HistoryStore(graph.num_nodes(), device=self.device)
            if getattr(graph_sampler, "keeps_gradients", False):
                self.gradients = self.history.another("gradients")
        # Row by row in memory: rows are what is gathered.
        self._columns = {key: graph.ndata[key].contiguous() for key in ("feat", "label") if key in graph.ndata}
        self._sparse = SparseFeatures.of(graph) if self.features is None and self.device.type == "cpu" else None
        self._is_train = torch.zeros(graph.num_nodes(), dtype=torch.bool)
        self._is_train[self.indices] = True
        self._takes_generator = not self._draws and "generator" in _parameters(graph_sampler.sample_blocks)
        self._lane = lane_of(self.device) if self.device.type == "cuda" else None
        self._sent: WeakKeyDictionary[Sample, tuple[Sample, Parcel]] = WeakKeyDictionary()
        self._whole: dict[str, Tensor] = {}
        self._graph = self._placed(graph_placement)
        if self._graph is not self._csc:
            # It holds batches that hold it.
            finalize(self, self._graph.kept.clear).atexit = False
        ahead = graph_sampler.draws_ahead if self._draws else self._takes_generator
        self._threads = self.num_workers if ahead else 0
        if isinstance(graph_sampler, Sampler):
            graph_sampler.num_threads = 1 if self._threads else torch.get_num_threads()

    def _placed(self, placement: str) -> CSC:
        """The graph where batches are drawn from it."""
        if placement not in ("host", "device", "pinned"):
            raise ValueError(f"graph_placement={placement!r} has to be 'host', 'device' or 'pinned'")
        if placement == "host":
            return self._csc
        if self.device.type != "cuda" or cuda_kernels(self.device) is None:
            reason = cuda_reason() if self.device.type == "cuda" else "Pass device='cuda'."
            raise ValueError(f"graph_placement={placement!r} is for a GPU and gnnscale's kernels on it. {reason}")
        if not (self._draws and getattr(self.sampler, "draws_on_gpu", False)):
            raise ValueError(
                f"graph_placement={placement!r} is for samplers that a GPU can draw, and {self.sampler!r} is drawn by "
                "the CPU; leave graph_placement out"
            )
        return self._csc.on(self.device, pinned=placement == "pinned")

    def parameters(self) -> list[Parameter]:
        """The sampler's parameters, to be trained together with the model's; most samplers have none."""
        return self.sampler.parameters() if isinstance(self.sampler, Sampler) else []

    def _prepare(self) -> None:
        if isinstance(self.sampler, Sampler):
            self.sampler.prepare(self.graph, self.indices, self.batch_size)
            self.sampler.prepared_by = self._number
        elif hasattr(self.sampler, "prepare"):
            self.sampler.prepare(self.graph)

    def _is_prepared(self) -> bool:
        """Whether no other loader has prepared the sampler for itself meanwhile."""
        return not isinstance(self.sampler, Sampler) or self.sampler.prepared_by == self._number

    def __len__(self) -> int:
        """Batches of the coming epoch, in this process."""
        return len(self._seeds(self.epoch)[self._rank :: self._num_ranks])

    def set_epoch(self, epoch: int) -> None:
        """Number the next pass, as DGL's loader does."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[MiniBatch]:
        epoch = self.epoch
        self.epoch += 1
        jobs = [(seeds, key_of(self.seed, epoch, number)) for number, seeds in enumerate(self._seeds(epoch))]
        jobs = jobs[self._rank :: self._num_ranks]
        batches = self._prefetched(jobs) if self._threads else (self._make(*job) for job in jobs)
        if self.history is not None:
            batches = self._in_steps(batches, self.history)
        return batches if self._lane is None else _arrived(batches)

    def _in_steps(self, batches: Iterator[MiniBatch], history: HistoryStore) -> Iterator[MiniBatch]:
        """Ask for the next batch's history rows ahead, and count the steps by which histories age."""
        following = next(batches, None)
        while following is not None:
            batch = following
            if self.history_ahead:
                # Drawn now, so that its rows can be asked for while this batch computes.
                following = next(batches, None)
                # The first batch's, those of a loop that does not call batch.loss, and those changed meanwhile.
                batch.ask_ahead(history.step)
                if following is not None:
                    batch.after_forward = partial(following.ask_ahead, history.step + 1)
            yield batch
            # One step has been made when the next batch is asked for.
            for store in (self.history, self.gradients):
                if store is not None:
                    store.step += 1
            if not self.history_ahead:
                following = next(batches, None)

    def _seeds(self, epoch: int) -> list[Tensor]:
        if not self._is_prepared():
            self._prepare()
        generator = torch.Generator().manual_seed(key_of(self.seed, epoch))
        group = getattr(self.sampler, "batches", split)
        return group(self.indices, self.batch_size, self.shuffle, self.drop_last, generator)

    def _prefetched(self, jobs: list[tuple[Tensor, int]]) -> Iterator[MiniBatch]:
        # Two batches a thread: one that is being made, and one that waits for the model.
        ahead = 2 * self._threads
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="gnnscale-prefetch")
        pending: deque[Future[MiniBatch]] = deque()
        try:
            for job in jobs:
                if len(pending) == ahead:
                    yield pending.popleft().result()
                pending.append(pool.submit(self._make, *job))
            while pending:
                yield pending.popleft().result()
        finally:
            # Also when the caller leaves the loop early: nothing goes on in the background.
            pool.shutdown(wait=True, cancel_futures=True)

    def _make(self, seeds: Tensor, key: int) -> MiniBatch:
        """One batch, in whichever thread."""
        if not self._is_prepared():
            raise ValueError(
                f"another DataLoader took over this {type(self.sampler).__name__} in the middle of an epoch; make a "
                "sampler for each of the loaders that run at the same time"
            )
        clock, blocks = Clock(), None
        with clock.stage("sample"):
            if self._graph.host is not None and self._lane is not None:
                with self._lane.aside():
                    sample = self.sampler.draw(self._graph, seeds, key).named_here()
            elif self._draws:
                sample = self.sampler.draw(self._csc, seeds, key)
            else:
                sample, blocks = self._sample_blocks(seeds, key)
            targets = None
            if not sample.all_train:
                is_train = self._is_train[sample.output_nodes]
                targets = None if bool(is_train.all()) else is_train.nonzero().squeeze(1)
        arrive: Callable[[MiniBatch], None] | None = None
        if self._lane is None:
            with clock.stage("gather"):
                x, y = self._features_of(sample.nodes), self._rows("label", sample.output_nodes)
        else:
            sample, x, y, targets, arrive = self._sent_off(self._lane, sample, targets, clock)
        return MiniBatch(
            self.graph,
            sample,
            blocks=blocks,
            num_blocks=getattr(self.sampler, "num_layers", None),
            x=x,
            y=y,
            targets=targets,
            device=self.device,
            history=self.history,
            gradients=self.gradients,
            clock=clock,
            feedback=self.sampler.feedback if self._draws else None,
            arrive=arrive,
        )

    def _sent_off(
        self, lane: Lane, sample: Sample, targets: Tensor | None, clock: Clock
    ) -> tuple[Sample, Tensor | None, Tensor | None, Tensor | None, Callable[[MiniBatch], None]]:
        """The sample, features, labels and targets as they will be on the device, and what waits for them."""
        parcel, threads = Parcel(lane, self.device), 1 if self._threads else torch.get_num_threads()
        pulled = None
        with clock.stage("gather"):
            parts: dict[str, Tensor | Rows] = {}
            for key, nodes in (("feat", sample.nodes), ("label", sample.output_nodes)):
                if key in self._columns and nodes is not self._csc.nodes:
                    parts[key] = Rows(self._columns[key], nodes, threads)
            if self.features is not None:
                pulled = self.features.pull(sample.nodes)
                parts.pop("feat", None)
                if self.features.device.type == "cpu":
                    parts["feat"], pulled = pulled.wait(), None
            if targets is not None:
                parts["targets"] = targets
            for part in parts.values():
                parcel.put(part)
            # What a sampler keeps, the device keeps as well.
            known = self._sent.get(sample)
            if known is None:
                with lane.aside():  # where a GPU has drawn it, degrees are looked up there
                    sample.moved(parcel.put)
            parcel.pack()
        with clock.stage("transfer"):
            parcel.send()
        if known is None:
            known = self._sent[sample] = sample.moved(parcel.get), parcel
        moved, carrier = known

        def arrive(batch: MiniBatch) -> None:
            for each in (carrier, parcel):
                each.arrive()
            if pulled is not None:
                batch.x = pulled.wait()

        x, y = (parcel.get(parts[key]) if key in parts else self._all_rows(key) for key in ("feat", "label"))
        return moved, x, y, parcel.get(parts["targets"]) if "targets" in parts else None, arrive

    def _all_rows(self, key: str) -> Tensor | None:
        """Of the whole graph, moved to the device once."""
        if key in self._columns and key not in self._whole and (key == "label" or self.features is None):
            self._whole[key] = on_device(self.graph, key, self.device)
        return self._whole.get(key)

    def _sample_blocks(self, seeds: Tensor, key: int) -> tuple[Sample, list[dgl.DGLGraph]]:
        name = type(self.sampler).__name__
        seeds = seeds.to(self.graph.idtype)
        if self._takes_generator:
            generator = torch.Generator().manual_seed(key)
            result = self.sampler.sample_blocks(self.graph, seeds, generator=generator)
        else:
            if hasattr(self.sampler, "set_seed"):  # DGL's LABOR has a generator of its own
                self.sampler.set_seed(key % 2**31)
            numpy_state = np.random.get_state()
            try:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(key)
                    np.random.seed(key % 2**32)
                    dgl.seed(key % 2**31)
                    result = self.sampler.sample_blocks(self.graph, seeds)
            finally:
                np.random.set_state(numpy_state)
        return from_blocks(self.graph, result, name), result[2]

    def _features_of(self, nodes: Tensor) -> Tensor | None:
        if self.features is not None:
            return self.features.pull(nodes).wait()
        if self._sparse is not None:
            return self._sparse.rows(None if nodes is self._csc.nodes else nodes)
        return self._rows("feat", nodes)

    def _rows(self, key: str, nodes: Tensor) -> Tensor | None:
        values = self._columns.get(key)
        if values is None or nodes is self._csc.nodes:
            return values
        return gather_rows(values, nodes, num_threads=1 if self._threads else torch.get_num_threads())


def _arrived(batches: Iterator[MiniBatch]) -> Iterator[MiniBatch]:
    """The batches, each waited for by the device's current stream, not by the host, when its turn has come."""
    for batch in batches:
        if batch.arrive is not None:
            batch.arrive(batch)
        yield batch


def _checked(name: str, store: Any, kind: type[Any], num_nodes: int) -> Any:
    """A store of the user's, if it is one for this graph."""
    if store is None:
        return None
    if not isinstance(store, kind):
        raise TypeError(f"{name} is of type {type(store).__name__}; pass a gnnscale.{kind.__name__}, or leave it out")
    num_rows = len(store) if kind is FeatureStore else store.num_rows
    if num_rows != num_nodes:
        raise ValueError(f"{name} has {num_rows} rows and the graph {num_nodes} nodes; it needs one for each")
    return store


def _refuse(**arguments: Any) -> None:
    """DGL's arguments that would silently do nothing here."""
    for name, value in arguments.items():
        if value:
            raise ValueError(f"{name}={value!r} of DGL's loader is not supported by gnnscale.DataLoader; leave it out")


def _check_tuning(tuning: dict[str, Any]) -> None:
    known = [name for name in inspect.signature(DataLoader).parameters if name != "tuning"]
    for name in tuning:
        if name not in _TUNING:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known)}"
            raise TypeError(f"DataLoader has no argument {name!r}; {hint}")


def _check_indices(indices: Tensor, num_nodes: int) -> Tensor:
    indices = check_ids("indices", indices, num_nodes)
    repeated = indices.numel() - indices.unique().numel()
    if repeated:
        raise ValueError(f"indices names {repeated} nodes more than once; pass each training node once")
    return indices


def _check_sampler(sampler: Any) -> bool:
    """Whether the sampler draws gnnscale's own way; otherwise it has ``sample_blocks``."""
    if isinstance(sampler, type):
        raise TypeError(f"graph_sampler is the class {sampler.__name__}; pass an instance: {sampler.__name__}(...)")
    if isinstance(sampler, Sampler) and type(sampler).draw is not Sampler.draw:
        return True
    if not callable(getattr(sampler, "sample_blocks", None)):
        raise TypeError(
            f"graph_sampler is a {type(sampler).__name__} without sample_blocks(g, seeds); pass a sampler of "
            "gnnscale.samplers, a dgl.dataloading.BlockSampler, or an object with that method"
        )
    return False


def _parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)
