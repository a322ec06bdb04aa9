"""The history store: one table of rows a hidden layer, wherever it lives."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from gnnscale.checks import check_at_least, check_device
from gnnscale.history.encoding import decode, encode
from gnnscale.history.mapped import MappedMemory, save
from gnnscale.history.memory import LocalMemory, Table, as_dtype, dtype_name, has_room
from gnnscale.history.placement import Estimate, check_fits, check_placement, estimate, footprint
from gnnscale.history.sharing import share
from gnnscale.history.traffic import Traffic
from gnnscale.history.transfers import TorchTransfers, check_ids, transfers_for
from gnnscale.ops import backend_reason
from gnnscale.ops._backend import native

# Rows that are converted or written together where a whole table is.
_ROWS_AT_ONCE = 65536


class Pull:
    """Rows on their way from a table."""

    def __init__(self, handle: Any, store: HistoryStore, layer: int) -> None:
        self._handle, self._store, self._layer = handle, store, layer
        self._changes = store._changes[layer]
        self._rows: Tensor | None = None

    @property
    def done(self) -> bool:
        """Whether :meth:`wait` would return at once."""
        return self._rows is not None or self._handle.done()

    @property
    def is_current(self) -> bool:
        """Whether a pull issued now would give the same: this process has not changed the table since."""
        return self._changes == self._store._changes[self._layer]

    def wait(self) -> Tensor:
        """The rows, shape (n, width), float32, without a gradient, on the store's ``device``."""
        if self._rows is None:
            start = perf_counter()
            self._rows = self._handle.wait()
            self._handle = None
            self._store._waited += perf_counter() - start
        return self._rows


class HistoryStore:
    """The last known input row of every node, for each hidden layer.

    Each table has a width of its own; its rows start at zero. Reads and writes are asynchronous, and take effect in
    the order in which they were issued: a pull sees every push that came before it, and the last of several pushes
    of a row stays. Each row knows the step at which it was written.

    Parameters
    ----------
    num_rows : int
        Number of nodes.
    widths : sequence of int, default ()
        Columns of each table. A table that is pushed to before it exists is made with the width of the pushed rows,
        so that a model's widths need not be known beforehand.
    dtype : {torch.float32, torch.float16, torch.bfloat16, torch.int8} or its name
        How rows are stored; int8 with a scale for each row. Pushed rows are converted on the way in, pulled ones to
        float32 on the way out.
    placement : {"auto", "host", "shared", "file", "pinned", "device"}
        ``"auto"``: with a GPU for ``device``, each table in its memory if it takes at most a quarter of what is free
        there when it is made, otherwise as ``"pinned"``; on the CPU ``"host"``. ``"host"``: memory of this process.
        ``"shared"``: memory that several processes on one machine read and write; where ``torch.distributed`` is
        initialised, all its processes have to make the store, and those on one machine get the same one; otherwise
        hand it to processes that you start with ``multiprocessing``. ``"file"``: the same in the file ``path``, which
        may be larger than memory and outlives the process. ``"pinned"``: host memory that a GPU can copy from by
        itself. ``"device"``: memory of the GPU.
    path : str or Path, optional
        For ``"file"``: where it is made. It must not exist yet; :meth:`open` opens one that does.
    device : torch.device or str, optional
        Where pulled rows are wanted, the CPU by default.
    num_threads : int, optional
        Threads that one operation may use; torch's number by default.

    Attributes
    ----------
    num_rows : int
    dtype : torch.dtype
    placement : str
        ``"host"`` for ``"auto"`` on the CPU.
    device : torch.device

    Raises
    ------
    MemoryError
        If the tables would not fit; the sentence says where they would.
    ValueError
        If an argument is none of those.

    Notes
    -----
    In a shared or file store, a row that another process writes meanwhile is read either old or new, never mixed,
    also if that process is killed in the middle. To order processes among each other, call :meth:`flush` and then
    a barrier. Steps are counted by each process for itself.

    A file survives the end of its process, also by a kill; to survive that of the machine, call :meth:`sync`.

    Examples
    --------
    >>> import torch
    >>> from gnnscale.history import HistoryStore
    >>> store = HistoryStore(4, [2], dtype="int8")
    >>> store.push(0, torch.tensor([1, 3]), torch.ones(2, 2))
    >>> store.pull(0, torch.tensor([0, 3])).wait().tolist()
    [[0.0, 0.0], [1.0, 1.0]]
    """

    def __init__(
        self,
        num_rows: int,
        widths: Sequence[int] = (),
        *,
        dtype: torch.dtype | str = torch.float32,
        placement: str = "auto",
        path: str | Path | None = None,
        device: torch.device | str | None = None,
        num_threads: int | None = None,
    ) -> None:
        num_rows, widths = _check_sizes(num_rows, widths)
        stored, where = as_dtype(dtype), check_device(device)
        if placement == "auto" and where.type == "cpu":
            placement = "host"
        check_placement("host" if placement == "auto" else placement, path, where)
        memory: LocalMemory | MappedMemory
        if placement in ("shared", "file"):
            if native is None:
                raise ValueError(f"placement={placement!r} needs the native operations; use 'host'. {backend_reason()}")

            def create() -> MappedMemory:
                # One process of a machine asks, and its answer is that of all.
                check_fits(num_rows, widths, stored, placement, path=path, device=where)
                return MappedMemory.create(num_rows, stored, path=path)

            what = (
                f"HistoryStore({num_rows}, {widths}, dtype={dtype_name(stored)}, placement={placement!r}, path={path})"
            )
            memory = share(create, what)
        else:
            if placement != "auto":
                check_fits(num_rows, widths, stored, placement, path=path, device=where)
            memory = LocalMemory(
                num_rows,
                stored,
                device=where if placement in ("device", "auto") else "cpu",
                pin=placement in ("pinned", "auto"),
            )
        self._adopt(memory, placement, where, num_threads)
        for layer, width in enumerate(widths):
            self.ensure(layer, width)

    def _adopt(
        self, memory: LocalMemory | MappedMemory, placement: str, device: torch.device, num_threads: int | None
    ) -> None:
        self._memory, self.placement, self.device = memory, placement, device
        self.dtype, self.num_rows = memory.dtype, memory.num_rows
        self.num_threads = (
            torch.get_num_threads() if num_threads is None else check_at_least("num_threads", num_threads, 1)
        )
        self._closed = self._is_old = False  # old: of a file that an earlier run has made
        self._changes: list[int] = []
        self._waited = 0.0
        self._start()

    def _start(self) -> None:
        """Start this process's transfers."""
        self._process = os.getpid()
        # Issuing and changing tables take turns, so that the order of operations is that of the calls.
        self._lock = threading.RLock()
        self._views: list[Any] = []
        self._transfers, self._view_of = transfers_for(self.device, self.placement, self.num_threads)
        self._stop = weakref.finalize(self, self._transfers.close)

    def _here(self) -> threading.RLock:
        """The lock of this process, which a forked child does not share with its parent."""
        if self._closed:
            raise ValueError("this HistoryStore is closed; make or open another")
        if os.getpid() != self._process:
            if not isinstance(self._memory, MappedMemory):
                raise RuntimeError(
                    f"this HistoryStore belongs to process {self._process}, and memory of placement="
                    f"{self.placement!r} is not shared with forked ones; use placement='shared'"
                )
            self._stop.detach()
            self._start()
        return self._lock

    @classmethod
    def open(
        cls, path: str | Path, *, device: torch.device | str | None = None, num_threads: int | None = None
    ) -> HistoryStore:
        """Open the file of a store with ``placement="file"``, or one that :meth:`save` wrote.

        Rows that a killed process was writing are completed first. As when a store is made, all processes of
        ``torch.distributed`` have to take part where it is initialised.

        Raises
        ------
        FileNotFoundError
            If there is none.
        ValueError
            If the file is damaged, cut off, something else, or in use by another job.
        """
        store = cls.__new__(cls)
        memory = share(lambda: MappedMemory.open(path), f"HistoryStore.open({str(path)!r})")
        store._adopt(memory, "file", check_device(device), num_threads)
        store._is_old = True
        return store

    @classmethod
    def load(cls, path: str | Path, /, **arguments: Any) -> HistoryStore:
        """Read a file that :meth:`save` wrote, or that of a store, into a new store.

        Parameters
        ----------
        path : str or Path
            The file; it is not changed.
        **arguments
            ``placement``, ``dtype``, ``path`` (of a new file), ``device`` and ``num_threads`` of the new store; the
            dtype is the file's if not given.
        """
        memory = MappedMemory.open(path, read_only=True)
        try:
            store = cls(memory.num_rows, **{"dtype": memory.dtype, **arguments})
            store._copy_from(memory.tables, memory.step)
        finally:
            memory.close()
        return store

    @staticmethod
    def estimate(
        num_rows: int,
        widths: Sequence[int],
        *,
        dtype: torch.dtype | str = torch.float32,
        placement: str = "host",
        path: str | Path | None = None,
        device: torch.device | str | None = None,
    ) -> Estimate:
        """The bytes that a store would take, and where it would fit; nothing is allocated.

        ``placement="auto"`` is what it begins with: ``"device"`` for a GPU, ``"host"`` otherwise.

        Examples
        --------
        >>> HistoryStore.estimate(2_400_000, [256, 256], dtype="bfloat16").bytes
        2476800000
        """
        num_rows, widths = _check_sizes(num_rows, widths)
        where = torch.device(device or "cpu")
        if placement == "auto":
            placement = "host" if where.type == "cpu" else "device"
        return estimate(num_rows, widths, as_dtype(dtype), placement, path=path, device=where)

    @property
    def step(self) -> int:
        """The current step, from 0; the loader counts it up after each batch."""
        return self._memory.step

    @step.setter
    def step(self, step: int) -> None:
        if check_at_least("step", step, 0) >= 2**31:
            raise ValueError(f"step={step!r} has to be below 2147483648")
        self._memory.step = int(step)

    @property
    def widths(self) -> list[int]:
        """Columns of each table."""
        return [table.width for table in self._memory.tables]

    @property
    def nbytes(self) -> int:
        """Bytes that the tables take, with the steps of their rows."""
        return sum(table.nbytes for table in self._memory.tables)

    @property
    def path(self) -> Path | None:
        """The file of a store with ``placement="file"``."""
        return getattr(self._memory, "path", None)

    def ensure(self, layer: int, width: int) -> None:
        """Make the table of a layer, if it is not there yet.

        Raises
        ------
        MemoryError
            If it would not fit.
        ValueError
            If the table has another width, or one before it is missing.
        """
        check_at_least("width", width, 1)
        with self._here():
            if layer == self._count():
                self._check_fits(self.num_rows, [width])
                self._memory.add(width, layer)
                self._was_written()
            have = self._table(layer).width
        if width != have:
            raise ValueError(
                f"rows have {width} columns and the history of layer {layer} has {have}; use one store for one model"
            )

    def push(self, layer: int, ids: Tensor, rows: Tensor) -> None:
        """Overwrite the rows ``ids`` of a layer's table, as of the current step.

        It returns before the rows are written; ``ids`` and ``rows`` may be changed at once.

        Parameters
        ----------
        layer : int
            The table, from 0.
        ids : Tensor
            Shape (n,), integer. Where an id is repeated, its last row stays.
        rows : Tensor
            Shape (n, width), floating point, of any device.

        Raises
        ------
        IndexError
            If an id is no row.
        ValueError
            If the shapes do not fit, or a layer in between has not been pushed to yet.
        """
        ids = _as_ids(ids)
        if not isinstance(rows, Tensor) or not rows.is_floating_point():
            got = rows.dtype if isinstance(rows, Tensor) else type(rows).__name__
            raise TypeError(f"rows are of {got}; pass a floating point tensor")
        if rows.dim() != 2 or rows.shape[0] != ids.numel():
            raise ValueError(f"rows of shape {tuple(rows.shape)} do not fit {ids.numel()} ids; need (n, width)")
        self.ensure(layer, rows.shape[1])
        with self._here():
            self._changes[layer] += 1
            self._transfers.push(self._view(layer), ids, self._as_rows(rows), self.step)

    def pull(self, layer: int, ids: Tensor, *, step: int | None = None) -> Pull:
        """Read the rows ``ids`` of a layer's table.

        Parameters
        ----------
        layer : int
            The table, from 0.
        ids : Tensor
            Shape (n,), integer.
        step : int, optional
            The step at which the rows will be used, to which their staleness is counted; the current one if absent.

        Returns
        -------
        Pull
            Its ``wait()`` gives the rows, float32 on the store's ``device``, without a gradient.

        Raises
        ------
        IndexError
            If an id is no row.
        ValueError
            If the layer has no table.
        """
        with self._here():
            view = self._view(layer)
            handle = self._transfers.pull(view, _as_ids(ids), self.step if step is None else step)
            return Pull(handle, self, layer)

    def flush(self) -> None:
        """Wait until everything issued so far has been done."""
        with self._here():
            self._transfers.flush()

    def sync(self) -> None:
        """:meth:`flush`, and for a file wait until the disk has it, so that it survives the machine."""
        self.flush()
        if isinstance(self._memory, MappedMemory):
            self._memory.sync()

    def staleness(self, layer: int, ids: Tensor) -> Tensor:
        """Steps since each of the rows ``ids`` was written, shape (n,) int32; since the start if it never was."""
        with self._here():
            written = self._table(layer).written
            self._transfers.flush()
            assert written is not None
            ids = _as_ids(ids)
            check_ids(ids, self.num_rows)
            return (self.step - written[ids.to(written.device)].cpu()).clamp(min=0)

    def take_traffic(self) -> Traffic:
        """What went through this process's end of the store since the last call of this method."""
        with self._here():
            self._transfers.flush()
            rows, age, oldest, histogram, pulled, pushed = self._transfers.statistics()
            waited, self._waited = self._waited, 0.0
        while histogram and not histogram[-1]:
            histogram = histogram[:-1]
        return Traffic(
            rows,
            pulled,
            pushed,
            waited,
            age / rows if rows else math.nan,
            float(oldest) if rows else math.nan,
            tuple(histogram),
        )

    def reset(self) -> None:
        """Set every row to zero, as of the current step."""
        with self._here():
            self._clear(range(self._count()))

    def grow(self, num_rows: int) -> None:
        """Append rows of zeros, for new nodes.

        Raises
        ------
        MemoryError
            If the larger tables would not fit beside the present ones.
        ValueError
            If that is fewer rows than there are, or other processes use the store.
        """
        check_at_least("num_rows", num_rows, self.num_rows)
        with self._here():
            self.flush()
            self._check_fits(num_rows, self.widths)
            self._memory = self._memory.grown(num_rows)
            self._was_written()
            self.num_rows = num_rows
            self._views.clear()

    def state_dict(self) -> dict[str, Any]:
        """All rows as of now, in plain tensors and numbers that ``torch.load(..., weights_only=True)`` can read.

        Every push issued before the call is in it, and none that another thread issues meanwhile. Of other
        processes' pushes under way, each row has all or nothing.

        Returns
        -------
        dict
            ``num_rows``, ``dtype`` (a name), ``step``, and ``tables``: for each layer ``rows`` as stored, ``written``
            and, for int8, ``scales``.
        """
        with self._here():
            self.flush()
            tables = [self._table(layer).copied() for layer in range(self._count())]
            parts = [{name: part.cpu() for name, part in vars(table).items() if part is not None} for table in tables]
            return {"num_rows": self.num_rows, "dtype": dtype_name(self.dtype), "step": self.step, "tables": parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the rows, their steps and the current step that :meth:`state_dict` gave.

        Tables that were made since are set to zero.

        Of processes that share the store, one loads it, and the others wait at a barrier meanwhile.

        Raises
        ------
        ValueError
            If they are of another number of rows, dtype or width.
        """
        if not isinstance(state, dict) or not {"num_rows", "dtype", "step", "tables"} <= state.keys():
            raise ValueError("the state is not one that HistoryStore.state_dict gave")
        if state["num_rows"] != self.num_rows or state["dtype"] != dtype_name(self.dtype):
            raise ValueError(
                f"the state has {state['num_rows']} rows of {state['dtype']} and the store {self.num_rows} of "
                f"{dtype_name(self.dtype)}; make the store with the state's num_rows and dtype"
            )
        tables = [Table(**parts) for parts in state["tables"]]
        for layer, table in enumerate(tables):
            if table.num_rows != self.num_rows or table.dtype != self.dtype or table.written is None:
                raise ValueError(
                    f"table {layer} of the state is not one of {self.num_rows} rows of {dtype_name(self.dtype)}"
                )
            if (table.scales is None) == (self.dtype == torch.int8):
                raise ValueError(f"table {layer} of the state has to have scales if, and only if, its dtype is int8")
        check_at_least("step", state["step"], 0)
        with self._here():
            self._copy_from(tables, state["step"])
            self._clear(range(len(tables), self._count()))

    def save(self, path: str | Path) -> None:
        """Write all rows to a file for :meth:`load` and :meth:`open`; it appears whole or not at all.

        What is in it is what :meth:`state_dict` would give.

        Raises
        ------
        OSError
            If the disk is full.
        """
        with self._here():
            self.flush()
            self._count()
            save(self._memory, path)

    def another(self, name: str) -> HistoryStore:
        """A store of the same kind (rows, dtype, placement, device) for something else; a file's is beside it.

        It is empty, unless this one was opened from a file that has such a file beside it: then that is opened too.
        """
        path = None if self.path is None else self.path.with_name(f"{self.path.name}.{name}")
        if path is not None and self._is_old and path.exists():
            return HistoryStore.open(path, device=self.device, num_threads=self.num_threads)
        return HistoryStore(
            self.num_rows,
            dtype=self.dtype,
            placement=self.placement,
            path=path,
            device=self.device,
            num_threads=self.num_threads,
        )

    def close(self) -> None:
        """End all transfers and give the memory back; the store cannot be used any more."""
        if not self._closed:
            with self._here():
                self._closed = True
                self._stop()
                self._views.clear()
                self._memory.close()

    def _copy_from(self, tables: Sequence[Table], step: int) -> None:
        with self._here():
            for layer, table in enumerate(tables):
                self.ensure(layer, table.width)
            self.flush()
            for layer, table in enumerate(tables):
                mine = self._table(layer)
                for start in range(0, self.num_rows, _ROWS_AT_ONCE):
                    part = slice(start, start + _ROWS_AT_ONCE)
                    if table.dtype == mine.dtype:
                        rows, scales = table.rows[part], None if table.scales is None else table.scales[part]
                    else:
                        values = decode(table.rows[part], None if table.scales is None else table.scales[part])
                        rows, scales = encode(values, mine.dtype)
                    mine.rows[part] = rows.to(mine.rows.device)
                    if mine.scales is not None and scales is not None:
                        mine.scales[part] = scales.to(mine.rows.device)
                if mine.written is not None and table.written is not None:
                    mine.written.copy_(table.written)
                self._changes[layer] += 1
            self._was_written()
            self.step = step

    def _clear(self, layers: Iterable[int]) -> None:
        for layer in layers:
            for start in range(0, self.num_rows, _ROWS_AT_ONCE):
                ids = torch.arange(start, min(start + _ROWS_AT_ONCE, self.num_rows))
                self.push(layer, ids, torch.zeros(len(ids), self._table(layer).width))

    def _check_fits(self, num_rows: int, widths: list[int]) -> None:
        place = self.placement
        if place == "auto":  # of each table what the memory makes of it
            place = "pinned"
            widths = [
                width
                for width in widths
                if not has_room(self.device, footprint(num_rows, [width], self.dtype, "device"))
            ]
        check_fits(num_rows, widths, self.dtype, place, path=self.path, device=self.device)

    def _was_written(self) -> None:
        """Have transfers see what has been done to tables without them."""
        if isinstance(self._transfers, TorchTransfers):
            self._transfers.wait_for_caller()

    def _count(self) -> int:
        """Tables there are, with those that other processes made."""
        count = len(self._memory.tables)
        self._changes += [0] * (count - len(self._changes))
        return count

    def _table(self, layer: int) -> Table:
        if not 0 <= layer < len(self._changes) and not 0 <= layer < self._count():
            raise ValueError(f"layer={layer} has no history; there are {len(self._changes)} tables")
        return self._memory.tables[layer]

    def _view(self, layer: int) -> Any:
        """A table as the transfers take it."""
        table = self._table(layer)
        while len(self._views) <= layer:
            self._views.append(None)
        if self._views[layer] is None:
            self._views[layer] = self._view_of(table)
        return self._views[layer]

    def _as_rows(self, rows: Tensor) -> Tensor:
        if isinstance(self._transfers, TorchTransfers):
            return rows.detach()
        return rows.detach().to("cpu", torch.float32).contiguous()

    def __reduce__(self) -> Any:
        if not isinstance(self._memory, MappedMemory):
            raise TypeError(
                f"memory of placement={self.placement!r} belongs to this process; use placement='shared' to hand a "
                "store to another, or save() and HistoryStore.load()"
            )
        self.flush()
        return _handed_over, (self._memory, self.placement, str(self.device), self.num_threads)

    def __repr__(self) -> str:
        extra = "" if self.dtype == torch.float32 else f", dtype={dtype_name(self.dtype)!r}"
        extra += "" if self.placement == "host" else f", placement={self.placement!r}"
        return f"HistoryStore(num_rows={self.num_rows}, widths={self.widths}{extra})"


def _handed_over(memory: MappedMemory, placement: str, device: str, num_threads: int) -> HistoryStore:
    """The store in a process that multiprocessing started."""
    store = HistoryStore.__new__(HistoryStore)
    store._adopt(memory, placement, torch.device(device), num_threads)
    return store


def _as_ids(ids: Any) -> Tensor:
    if not isinstance(ids, Tensor):
        raise TypeError(f"ids are of type {type(ids).__name__}; pass a tensor of row numbers")
    if ids.dtype == torch.bool or ids.is_floating_point() or ids.is_complex() or ids.dim() != 1:
        raise TypeError(
            f"ids have the dtype {ids.dtype} and shape {tuple(ids.shape)}; pass a vector of row numbers (of a mask, "
            "mask.nonzero().squeeze(1))"
        )
    return ids.to("cpu", torch.int64).contiguous()


def _check_sizes(num_rows: Any, widths: Any) -> tuple[int, list[int]]:
    if not isinstance(widths, Sequence) or isinstance(widths, str):
        raise ValueError(f"widths={widths!r} has to be a list with the columns of each table, such as [64, 64]")
    return check_at_least("num_rows", num_rows, 0), [check_at_least("widths", width, 1) for width in widths]
