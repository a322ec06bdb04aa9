"""Features of nodes in memory of any kind, read only, with the rows most in demand kept where they are used."""

from __future__ import annotations

import math
import os
import threading
import warnings
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnscale.checks import check_device
from gnnscale.history.encoding import decode, encode
from gnnscale.history.files import in_place_of
from gnnscale.history.kernels import Hot
from gnnscale.history.mapped import MappedMemory
from gnnscale.history.memory import Table, as_dtype, dtype_name
from gnnscale.history.placement import HEADER, check_fits, check_placement
from gnnscale.history.transfers import TorchTransfers, check_ids, transfers_for

_PLACEMENTS = ("host", "pinned", "device", "file")
_FLOATS = (torch.float32, torch.float16, torch.bfloat16)
_CHUNK = 1 << 24  # numbers that are converted together
_AHEAD = 1 << 17  # bytes


@dataclass(frozen=True)
class FeatureTraffic:
    """What was read from a :class:`FeatureStore` since it was last asked.

    Attributes
    ----------
    rows : int
        Rows read.
    hits : int
        Those of them that were in the cache.
    bytes_from_cache, bytes_from_store : int
        Bytes of rows as stored: a row of 64 columns has 256 in float32 and 68 in int8.
    """

    rows: int = 0
    hits: int = 0
    bytes_from_cache: int = 0
    bytes_from_store: int = 0

    @property
    def hit_rate(self) -> float:
        """The share of rows that were in the cache; NaN where none were read."""
        return self.hits / self.rows if self.rows else math.nan


class FeaturePull:
    """Rows on their way from a :class:`FeatureStore`."""

    def __init__(self, rows: Any, others: list[tuple[Tensor, Any]], empty: Callable[[], Tensor]) -> None:
        # The handle of all rows, if there is one, and those of rows that belong to other positions.
        self._handle, self._others, self._empty = rows, others, empty
        self._rows: Tensor | None = None

    @property
    def done(self) -> bool:
        """Whether :meth:`wait` would return at once."""
        handles = [self._handle, *(handle for _, handle in self._others)]
        return self._rows is not None or all(handle is None or handle.done() for handle in handles)

    def wait(self) -> Tensor:
        """The rows in the order of their ids, shape (n, width), float32, on the store's ``device``."""
        if self._rows is None:
            rows = self._empty() if self._handle is None else self._handle.wait()
            for positions, handle in self._others:
                _put(rows, positions, handle.wait())
            self._rows, self._handle, self._others = rows, None, []
        return self._rows


def _put(rows: Tensor, positions: Tensor, values: Tensor) -> None:
    if rows.device.type == "cpu":
        rows.numpy()[positions.numpy()] = values.numpy()  # in this thread, for the same reason as `_begin`
    else:
        rows.index_copy_(0, positions.to(rows.device, non_blocking=True), values)  # on the stream that waits


@dataclass(frozen=True)
class _Cache:
    """Copies of the hottest rows."""

    slots: np.ndarray  # (N,) int32: where a row is in the table, -1 if it is not
    table: Table
    view: Any  # the table as the transfers take it


class FeatureStore:
    """Features of every node, wherever they are, read row by row.

    Parameters
    ----------
    features : Tensor or numpy.ndarray
        Shape (N, width), floating point, in host memory. With ``placement="host"`` it is used in place where it is
        contiguous and of the dtype wanted, and must then not be changed.
    placement : {"host", "pinned", "device", "file"}
        ``"host"``: memory of this process. ``"pinned"``: host memory that a GPU can copy from by itself.
        ``"device"``: memory of the GPU. ``"file"``: the new file ``path``, which may be larger than memory.
    dtype : {torch.float32, torch.float16, torch.bfloat16, torch.int8} or its name, optional
        How rows are stored; that of ``features`` if it is one of these, else float32. int8 has a scale for each row.
    path : str or Path, optional
        For ``"file"``: where it is made. It must not exist yet; :meth:`open` opens one that does.
    device : torch.device or str, optional
        Where rows are wanted, the CPU by default.
    cache_rows : int, default 0
        How many rows are kept on ``device`` besides, so that they need not be fetched from a slower place. On the CPU
        that helps a file that is larger than memory.
    hot : Tensor or "access", optional
        Which rows: those of the highest scores, shape (N,), such as ``graph.out_degrees()``, which tells how often
        neighbour sampling asks for a node; or those read most often, which are counted from now on and taken by
        :meth:`recache`.
    num_threads : int, optional
        Threads that one read may use; torch's number by default.

    Attributes
    ----------
    width : int
        Columns of a row.
    dtype : torch.dtype
    placement : str
    device : torch.device
    cache_rows : int

    Raises
    ------
    MemoryError
        If there is no room for the features or the cache.
    ValueError
        If an argument is none of those, or there is a file at ``path``.

    Notes
    -----
    Any number of threads may read. The cache is PaGraph's (Lin et al., SoCC 2020): fixed while it is used, because
    changing it with every batch costs more than it saves.

    Examples
    --------
    >>> import torch
    >>> from gnnscale.history import FeatureStore
    >>> store = FeatureStore(torch.arange(8.0).view(4, 2), cache_rows=1, hot=torch.tensor([0, 5, 2, 1]))
    >>> store.pull(torch.tensor([3, 1])).wait().tolist()
    [[6.0, 7.0], [2.0, 3.0]]
    >>> store.statistics().hit_rate
    0.5
    """

    def __init__(
        self,
        features: Tensor | np.ndarray,
        *,
        placement: str = "host",
        dtype: torch.dtype | str | None = None,
        path: str | Path | None = None,
        device: torch.device | str | None = None,
        cache_rows: int = 0,
        hot: Tensor | str | None = None,
        num_threads: int | None = None,
    ) -> None:
        features = _as_matrix(features)
        stored = _dtype_of(features) if dtype is None else as_dtype(dtype)
        where = check_device(device)
        _check_placement(placement, path, where)
        memory = None
        if placement == "file":
            assert path is not None
            if Path(path).exists():
                raise ValueError(f"path={str(path)!r} exists; open it with FeatureStore.open, or delete it")
            self.write(path, features, dtype=stored)
            memory = MappedMemory.open(path, kind="features")
            table = memory.tables[0]
        elif placement == "host" and stored == features.dtype:
            table = Table(rows=features.contiguous())
        else:
            check_fits(len(features), features.shape[1:], stored, placement, device=where, kind="features")
            place = where if placement == "device" else _CPU
            table = _filled(features, stored, place, pin=placement == "pinned")
        self._adopt(table, memory, placement, where, cache_rows, hot, num_threads)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        device: torch.device | str | None = None,
        cache_rows: int = 0,
        hot: Tensor | str | None = None,
        num_threads: int | None = None,
    ) -> FeatureStore:
        """Open a file that :meth:`write` wrote; several processes may have it open.

        Raises
        ------
        FileNotFoundError
            If there is none.
        ValueError
            If the file is damaged, cut off or something else.
        """
        where = check_device(device)
        _check_placement("file", path, where)
        store = cls.__new__(cls)
        memory = MappedMemory.open(path, kind="features")
        store._adopt(memory.tables[0], memory, "file", where, cache_rows, hot, num_threads)
        return store

    @staticmethod
    def write(path: str | Path, features: Tensor | np.ndarray, *, dtype: torch.dtype | str | None = None) -> None:
        """Write features to a file for :meth:`open`; it appears whole or not at all, and replaces an older one.

        Parameters
        ----------
        path : str or Path
        features : Tensor or numpy.ndarray
            Shape (N, width), floating point. It is read piece by piece, so that a ``numpy.memmap`` may be larger
            than memory.
        dtype : {torch.float32, torch.float16, torch.bfloat16, torch.int8} or its name, optional
            As for the store.

        Raises
        ------
        MemoryError
            If there is no room on the disk.
        ValueError
            If the file there is being written by another process.
        """
        features = _as_matrix(features)
        stored = _dtype_of(features) if dtype is None else as_dtype(dtype)
        check_fits(len(features), features.shape[1:], stored, "file", path=path, kind="features")
        with in_place_of(path) as partial:
            memory = MappedMemory.create(len(features), stored, path=partial, kind="features")
            try:
                _fill(memory.add(features.shape[1]), features)
                memory.sync()
            finally:
                memory.close()

    def _adopt(
        self,
        table: Table,
        memory: MappedMemory | None,
        placement: str,
        device: torch.device,
        cache_rows: int,
        hot: Tensor | str | None,
        num_threads: int | None,
    ) -> None:
        self._table, self._memory, self.placement, self.device = table, memory, placement, device
        self.dtype, self.width, self.cache_rows = table.dtype, table.width, 0
        self.num_threads = num_threads or torch.get_num_threads()
        self._cache: _Cache | None = None
        self._rows = self._hits = self._hits_there = 0
        self._start()
        scores = _check_hot(hot, cache_rows, len(self))
        self.cache_rows = min(cache_rows, len(self))
        # A GPU's kernels that reach the rows look for copies as well, and count where they are.
        place = self.device if self._by_kernels else _CPU
        with self._beside():
            self._accesses = torch.zeros(len(self), dtype=torch.int32, device=place) if hot == "access" else None
            self._hot = self._none_hot() if self._by_kernels and cache_rows else None
        if scores is not None and cache_rows:
            self._keep(scores)

    def _start(self) -> None:
        """Start this process's transfers."""
        self._process, self._lock = os.getpid(), threading.Lock()
        self._transfers, self._view_of = transfers_for(self.device, self.placement, self.num_threads)
        self._view = self._view_of(self._table)
        if isinstance(self._transfers, TorchTransfers):
            self._transfers.wait_for_caller()  # who has moved the features
        self._by_kernels = isinstance(self._transfers, TorchTransfers) and self._transfers.reaches(self._table)
        self._stop = weakref.finalize(self, self._transfers.close)

    @property
    def nbytes(self) -> int:
        """Bytes that the features take, without the cache's copies."""
        return self._table.rows.nbytes + (0 if self._table.scales is None else self._table.scales.nbytes)

    @property
    def path(self) -> Path | None:
        """The file, for ``placement="file"``."""
        return None if self._memory is None else self._memory.path

    def __len__(self) -> int:
        """Number of rows."""
        return self._table.rows.shape[0]

    def pull(self, ids: Tensor) -> FeaturePull:
        """Read rows; this returns before they are there.

        Parameters
        ----------
        ids : Tensor
            Shape (n,), integer. With ``placement="device"`` or ``"pinned"`` and gnnscale's kernels, one of them reads
            all rows, copies or not, and ids on the GPU stay there, so that the host waits for nothing.

        Returns
        -------
        FeaturePull
            Its ``wait()`` gives the rows, float32 on the store's ``device``.

        Raises
        ------
        IndexError
            If an id is no row; one that stays on the GPU is not looked at.
        """
        if os.getpid() != self._process:
            # What is only read needs no order between processes: a forked one goes on with transfers of its own.
            self._stop.detach()
            self._start()
        if self._by_kernels:
            with self._lock:  # so that a row and its hit are counted together
                pull, _ = self._begin(ids)
                self._rows += ids.numel()
            return pull
        ids = ids.to("cpu", torch.int64).contiguous()
        pull, num_hits = self._begin(ids)
        with self._lock:
            self._rows += ids.numel()
            self._hits += num_hits
            if self._accesses is not None:
                self._accesses.index_add_(0, ids, torch.ones_like(ids, dtype=torch.int32))
        return pull

    def _begin(self, ids: Tensor) -> tuple[FeaturePull, int]:
        """The pull, and how many of its rows are in the cache, where that is counted here."""

        def empty() -> Tensor:
            return torch.empty(len(ids), self.width, device=self.device)

        if self._by_kernels:
            return FeaturePull(self._transfers.pull(self._view, ids, 0, self._hot), [], empty), 0
        cache = self._cache
        if cache is None:
            # The transfers check the ids.
            return FeaturePull(self._transfers.pull(self._view, ids, 0), [], empty), 0
        check_ids(ids, len(self))
        # In numpy, which works in this thread: torch shares such small work among its threads, and where cores are busy
        # waits for the last one many times as long.
        slots = cache.slots[ids.numpy()].astype(np.int64)
        is_hit = slots >= 0
        hits, misses = np.flatnonzero(is_hit), np.flatnonzero(~is_hit)
        if not len(misses):
            return FeaturePull(self._transfers.pull(cache.view, torch.from_numpy(slots), 0), [], empty), len(hits)
        if not len(hits):
            return FeaturePull(self._transfers.pull(self._view, ids, 0), [], empty), 0
        cached = self._sendable(hits), self._transfers.pull(cache.view, torch.from_numpy(slots[hits]), 0)
        if self.device.type == "cpu":
            # Any row in place of those that are cached: cheaper than putting all the others into their places.
            wanted = torch.from_numpy(np.where(is_hit, ids[misses[0]].item(), ids.numpy()))
            return FeaturePull(self._transfers.pull(self._view, wanted, 0), [cached], empty), len(hits)
        missed = self._sendable(misses), self._transfers.pull(self._view, ids[misses], 0)
        return FeaturePull(None, [cached, missed], empty), len(hits)

    def rows(self, start: int, stop: int) -> Tensor:
        """Rows ``start`` to ``stop - 1``, float32, on the store's ``device``, for who goes through all of them.

        They may be the store's own memory: do not change them. They do not count in :meth:`statistics`.
        """
        if self._memory is not None:
            # A file larger than memory is mapped for reads here and there: page by page, one after another would take
            # seven times as long. The system takes a piece of this size at a time.
            size = self._table.rows[:1].nbytes
            for offset in range(HEADER + start * size, HEADER + min(stop, len(self)) * size, _AHEAD):
                os.posix_fadvise(self._memory.fileno(), offset, _AHEAD, os.POSIX_FADV_WILLNEED)
        scales = None if self._table.scales is None else self._table.scales[start:stop].to(self.device)
        return decode(self._table.rows[start:stop].to(self.device), scales)

    def recache(self) -> None:
        """Keep the rows that have been read most often since the store was made.

        Raises
        ------
        ValueError
            If reads are not counted.
        """
        if self._accesses is None:
            raise ValueError("reads are not counted; make the store with hot='access'")
        with self._lock, self._beside():
            scores = self._accesses.to("cpu", copy=True)
        if self.cache_rows:
            self._keep(scores)

    def statistics(self) -> FeatureTraffic:
        """What was read since the last call of this method."""
        with self._lock:
            rows, hits = self._rows, self._hits
            self._rows = self._hits = 0
            if self._hot is not None:  # whose count goes on, so that none is lost between a look and a reset
                with self._beside():
                    before, self._hits_there = self._hits_there, int(self._hot.hits)
                hits += self._hits_there - before
        size = self.nbytes // max(len(self), 1)
        return FeatureTraffic(rows, hits, hits * size, (rows - hits) * size)

    def close(self) -> None:
        """End all reads; the store cannot be used any more."""
        self._stop()
        if self._memory is not None:
            self._memory.close()

    def _keep(self, scores: Tensor) -> None:
        # In the order of their ids, so that neighbours in the table are neighbours in the cache.
        place = "host" if self.device.type == "cpu" else "device"
        check_fits(self.cache_rows, [self.width], self.dtype, place, device=self.device, kind="features")
        ids = scores.topk(self.cache_rows).indices.sort().values
        slots = np.full(len(self), -1, dtype=np.int32)
        slots[ids.numpy()] = np.arange(len(ids), dtype=np.int32)
        # Pulls under way keep the copies that they began with.
        with self._beside():
            table = self._copied(ids)
            if self._hot is None:
                self._cache = _Cache(slots, table, self._view_of(table))
            else:
                self._hot = replace(self._hot, slots=torch.from_numpy(slots).to(self.device), copies=table)

    def _none_hot(self) -> Hot:
        slots = torch.full((len(self),), -1, dtype=torch.int32, device=self.device)
        hits = torch.zeros(1, dtype=torch.int64, device=self.device)
        return Hot(slots, self._copied(torch.empty(0, dtype=torch.int64)), hits, self._accesses)

    def _copied(self, ids: Tensor) -> Table:
        ids = ids.to(self._table.rows.device)
        scales = None if self._table.scales is None else self._table.scales[ids].to(self.device)
        return Table(rows=self._table.rows[ids].to(self.device), scales=scales)

    def _beside(self) -> AbstractContextManager[Any]:
        """Memory of a GPU that pulls read is made in their order: given back, it is theirs before it is another's."""
        return self._transfers.beside() if isinstance(self._transfers, TorchTransfers) else nullcontext()

    def _sendable(self, positions: np.ndarray) -> Tensor:
        found = torch.from_numpy(positions)
        return found if self.device.type == "cpu" else found.pin_memory()

    def __repr__(self) -> str:
        extra = "" if self.dtype == torch.float32 else f", dtype={dtype_name(self.dtype)!r}"
        extra += "" if self.placement == "host" else f", placement={self.placement!r}"
        extra += f", cache_rows={self.cache_rows}" if self.cache_rows else ""
        return f"FeatureStore({len(self)} rows, width={self.width}{extra})"


_CPU = torch.device("cpu")


def _as_matrix(features: Any) -> Tensor:
    if isinstance(features, np.ndarray):
        with warnings.catch_warnings():
            # Of a memmap opened for reading: nothing is written to it.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            features = torch.from_numpy(features)
    if not isinstance(features, Tensor):
        raise TypeError(f"features is of type {type(features).__name__}; pass a tensor or a numpy array")
    if features.dim() != 2 or not features.shape[1] or not features.is_floating_point():
        raise ValueError(
            f"features has shape {tuple(features.shape)} and dtype {dtype_name(features.dtype)}; pass floating-point "
            "rows of shape (nodes, columns), such as features.float()"
        )
    if features.device.type != "cpu":
        raise ValueError(f"features is on {features.device}; pass features.cpu()")
    return features.detach()


def _dtype_of(features: Tensor) -> torch.dtype:
    return features.dtype if features.dtype in _FLOATS else torch.float32


def _check_placement(placement: str, path: str | Path | None, device: torch.device) -> None:
    if placement not in _PLACEMENTS:
        raise ValueError(f"placement={placement!r} is unknown; choose one of {', '.join(_PLACEMENTS)}")
    check_placement(placement, path, device)


def _check_hot(hot: Any, cache_rows: Any, num_rows: int) -> Tensor | None:
    """The scores, if these say which rows to cache."""
    if isinstance(cache_rows, bool) or not isinstance(cache_rows, int) or cache_rows < 0:
        raise ValueError(f"cache_rows={cache_rows!r} has to be an integer of at least 0")
    if isinstance(hot, Tensor):
        if hot.shape != (num_rows,):
            raise ValueError(f"hot has shape {tuple(hot.shape)}; give one score a row, shape {(num_rows,)}")
        return hot.cpu()
    if hot not in (None, "access"):
        raise ValueError(f"hot={hot!r} is neither scores, such as graph.out_degrees(), nor 'access'")
    if hot is None and cache_rows:
        raise ValueError(
            f"cache_rows={cache_rows} does not say which rows; give scores, such as hot=graph.out_degrees(), or "
            "hot='access'"
        )
    return None


def _filled(features: Tensor, dtype: torch.dtype, device: torch.device, *, pin: bool) -> Table:
    """A table of the features."""
    table = Table(
        rows=torch.empty(features.shape, dtype=dtype, device=device, pin_memory=pin),
        scales=torch.empty(len(features), device=device, pin_memory=pin) if dtype == torch.int8 else None,
    )
    _fill(table, features)
    return table


def _fill(table: Table, features: Tensor) -> None:
    """Store features in a table, piece by piece."""
    size = max(_CHUNK // features.shape[1], 1)
    for start in range(0, len(features), size):
        part = slice(start, start + size)
        rows, scales = encode(features[part], table.dtype)
        table.rows[part] = rows
        if table.scales is not None and scales is not None:
            table.scales[part] = scales
