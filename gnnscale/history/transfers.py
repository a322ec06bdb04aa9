"""Reading and writing rows of tables without waiting, in torch operations: for CUDA, and where no native code is.

An operation takes these steps; tables in different places differ in where a step happens, and in nothing else:

    push   encode, on the caller's stream | move to the table's device | write
    pull   read | move to the wanted device | decode

A table on the CPU is read and written by one thread, which takes the operations in turn and waits for what is on its
way from the GPU; a table on the GPU by one stream. What crosses is as long as a stored row, not as one of float32.

With gnnscale's kernels, a pinned table is read and written by that stream as well: one kernel reads, moves and decodes,
another moves and writes, and no thread of the host has a part in it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch import Tensor

from gnnscale.history import kernels
from gnnscale.history.ages import BUCKETS, Ages
from gnnscale.history.encoding import decode, encode
from gnnscale.history.memory import Table, native_view
from gnnscale.history.streams import Lane, Mark, lane_of
from gnnscale.ops import backend_reason, gather_rows
from gnnscale.ops._backend import cuda_kernels, native

_CPU = torch.device("cpu")
_Stored = tuple[Tensor, Tensor | None]  # rows and, of int8, scales
_Result = TypeVar("_Result")


def check_ids(ids: Tensor, num_rows: int) -> None:
    """Raise ``IndexError`` unless all ids, shape (n,), on the CPU, are rows of a table."""
    if not ids.numel():
        return
    least, largest = torch.aminmax(ids)
    if least < 0 or largest >= num_rows:
        first = int(((ids < 0) | (ids >= num_rows)).nonzero()[0])
        raise IndexError(f"ids[{first}] is {int(ids[first])}; the table has {num_rows} rows")


class TorchPull:
    """Rows on their way from a table."""

    def __init__(self, result: Future[tuple[Tensor, Mark]], lane: Lane) -> None:
        self._result, self._lane = result, lane

    def done(self) -> bool:
        """Whether the rows are there."""
        if not self._result.done():
            return False
        return self._result.exception() is not None or self._result.result()[1].query()

    def wait(self) -> Tensor:
        """The rows, shape (n, width), float32; a GPU's current stream waits for them, and the host does not."""
        return self._lane.release(*self._result.result())


class TorchTransfers:
    """A queue of reads and writes of tables, which take effect in the order in which they were issued.

    Parameters
    ----------
    device : torch.device or str
        Where pulled rows are wanted. A table may be there or in host memory.
    num_threads : int, default 1
        Threads of one gather in host memory; other operations take torch's number.
    pinned : bool, default False
        Whether all tables in host memory are pinned, so that a GPU's kernels reach them.

    Examples
    --------
    >>> import torch
    >>> from gnnscale.history.memory import LocalMemory
    >>> from gnnscale.history.transfers import TorchTransfers
    >>> table, transfers = LocalMemory(3, torch.float16).add(2), TorchTransfers("cpu")
    >>> transfers.push(table, torch.tensor([1]), torch.ones(1, 2), step=0)
    >>> transfers.pull(table, torch.tensor([0, 1]), step=0).wait().tolist()
    [[0.0, 0.0], [1.0, 1.0]]
    """

    def __init__(self, device: torch.device | str, num_threads: int = 1, *, pinned: bool = False) -> None:
        device = torch.device(device)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
        self._device, self._num_threads, self._process = device, num_threads, os.getpid()
        self._pinned = pinned
        # Rows on their way out wait for the computation that makes them; those on their way in must not wait with them.
        self._lane, self._way_out = lane_of(device), lane_of(device)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="gnnscale-history")
        self._lock = threading.RLock()
        self._last: Future[Any] | None = None
        self._error: BaseException | None = None
        self._ages: dict[torch.device, Ages] = {}
        self._rows_pulled = self._bytes_pulled = self._bytes_pushed = 0
        self._native: Any = None

    def push(self, table: Table, ids: Tensor, rows: Tensor, step: int) -> None:
        """Overwrite rows, as of ``step``; the caller may change ``ids`` and ``rows`` as soon as this returns.

        Parameters
        ----------
        table : Table
        ids : Tensor
            Shape (n,), integer; where an id is repeated, its last row stays.
        rows : Tensor
            Shape (n, width), floating point, of any device.
        step : int

        Raises
        ------
        IndexError
            If an id on the CPU is no row; nothing is written then.
        RuntimeError
            In a forked process, which has no thread to do it; for tables that processes share, without native code.
        ValueError
            If the shapes do not fit.
        """
        ids = self._admit(table, ids)
        if rows.shape != (ids.numel(), table.width):
            raise ValueError(f"rows have shape {tuple(rows.shape)}; {(ids.numel(), table.width)} is needed")
        if rows.device not in (_CPU, self._device):
            rows = rows.to(self._device)
        if (module := self._kernels_for(table)) is not None:
            return self._push_by_kernels(module, table, ids, rows.detach().to(self._device), step)
        # Where other processes read, native code writes, and takes float32.
        stored, scales = encode(rows.detach(), torch.float32 if table.versions is not None else table.dtype)
        place = table.rows.device
        lane = self._way_out if place == _CPU else self._lane
        with lane.after_caller():
            moved = lane.move(stored, place), None if scales is None else lane.move(scales, place)
            mark = lane.mark()

        def write() -> None:
            try:
                if place == _CPU:
                    mark.synchronize()
                self._write(table, ids, moved, step)
            except Exception as error:  # nobody looks at a push's result; flush tells
                self._error = self._error or error

        with self._lock:
            self._issue(place, write)
            self._bytes_pushed += ids.numel() * _row_bytes(table)

    def reaches(self, table: Table) -> bool:
        """Whether kernels of a GPU read the table."""
        return self._kernels_for(table) is not None

    def beside(self) -> AbstractContextManager[Any]:
        """What is made inside, and given back at any time, comes in the order of the pulls."""
        return self._lane.aside()

    def pull(self, table: Table, ids: Tensor, step: int, hot: kernels.Hot | None = None) -> TorchPull:
        """Read rows; ``step`` is the one at which they will be used, to which their age is counted.

        Where kernels read the table, ``hot`` may have copies of its rows, made :meth:`beside`.

        Raises
        ------
        IndexError, RuntimeError
            As :meth:`push` does.
        """
        ids = self._admit(table, ids)
        module = self._kernels_for(table)

        def read_by_kernels() -> tuple[Tensor, Mark]:
            rows, steps = kernels.read_rows(module, table, self._lane.move(ids, self._device), hot)
            if steps is not None:
                self._ages_on(self._device).add(steps, step)
            return rows, self._lane.mark()

        def read() -> tuple[Tensor, Mark]:
            stored, scales = self._read(table, ids, step)
            with self._lane.aside():
                stored = self._lane.move(stored, self._device)
                rows = decode(stored, None if scales is None else self._lane.move(scales, self._device))
                return rows, self._lane.mark()

        with self._lock:
            if module is not None:
                result = self._issue_in_lane(read_by_kernels, ids.device == self._device)
            else:
                result = self._issue(table.rows.device, read)
            self._rows_pulled += ids.numel()
            self._bytes_pulled += ids.numel() * _row_bytes(table)
        return TorchPull(result, self._lane)

    def wait_for_caller(self) -> None:
        """Have what is issued next come after what the caller's stream has been given, such as zeros for a new table.

        Reads do not wait for it by themselves, as what it computes is none of their business.
        """
        with self._lane.after_caller():
            pass

    def flush(self) -> None:
        """Wait until everything issued so far has been done.

        Raises
        ------
        Exception
            What went wrong with a push since the last flush, if anything did.
        """
        self._check_process()
        with self._lock:
            last = self._last
        if last is not None:
            last.exception()  # of one worker: all before it are done as well
        self._lane.mark().synchronize()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def statistics(self) -> tuple[int, int, int, list[int], int, int]:
        """Rows pulled, the sum of their ages, the largest, rows by age, bytes pulled, bytes pushed, since last asked.

        Rows by age are 32 numbers: of age 0, then 1, 2 to 3, 4 to 7, and so on. Bytes are those of rows as stored.
        """
        total, oldest, histogram = 0, 0, [0] * BUCKETS
        with self._lock, self._lane.aside():  # nothing is issued meanwhile
            self.flush()
            for ages in self._ages.values():
                some, age, counts = ages.take()
                total, oldest = total + some, max(oldest, age)
                histogram = [a + b for a, b in zip(histogram, counts, strict=True)]
            taken = self._rows_pulled, total, oldest, histogram, self._bytes_pulled, self._bytes_pushed
            self._rows_pulled = self._bytes_pulled = self._bytes_pushed = 0
        return taken

    def close(self) -> None:
        """:meth:`flush`, and take nothing any more. In a forked process it does nothing."""
        if os.getpid() != self._process:
            return
        try:
            self.flush()
        finally:
            self._worker.shutdown()
            if self._native is not None:
                self._native.close()

    def _admit(self, table: Table, ids: Tensor) -> Tensor:
        """The ids in memory of their own, where the table's operations want them."""
        self._check_process()
        if table.versions is not None and native is None:
            raise RuntimeError(f"Rows that processes share need the native operations. {backend_reason()}")
        if ids.device != _CPU and (table.rows.device != _CPU or self._kernels_for(table) is not None):
            return ids.to(self._device, torch.int64, copy=True)
        ids = ids.to("cpu", torch.int64, copy=True)
        check_ids(ids, table.num_rows)
        return ids

    def _issue(self, place: torch.device, job: Callable[[], _Result]) -> Future[_Result]:
        """Do the job after those before it; the caller holds the lock, so that no other thread's comes between."""
        if place == _CPU:
            result = self._last = self._worker.submit(job)
            return result
        return self._issue_in_lane(job, after_caller=True)

    def _issue_in_lane(self, job: Callable[[], _Result], after_caller: bool) -> Future[_Result]:
        result: Future[_Result] = Future()
        with self._lane.after_caller() if after_caller else self._lane.aside():
            result.set_result(job())
        return result

    def _kernels_for(self, table: Table) -> Any:
        """The module whose kernels read and write the table in the order of the lane, or None."""
        reached = table.rows.device == self._device or self._pinned
        return cuda_kernels(self._device) if reached and table.versions is None else None

    def _push_by_kernels(self, module: Any, table: Table, ids: Tensor, rows: Tensor, step: int) -> None:
        # On the caller's stream, after which the rows are the caller's again.
        stored, scales = kernels.encode(module, rows, table.dtype)

        def write() -> None:
            here = self._lane.move(stored, self._device)
            factors = None if scales is None else self._lane.move(scales, self._device)
            kernels.write_rows(module, table, self._lane.move(ids, self._device), here, factors, step)

        with self._lock:
            self._issue_in_lane(write, after_caller=True)
            self._bytes_pushed += ids.numel() * _row_bytes(table)

    def _read(self, table: Table, ids: Tensor, step: int) -> _Stored:
        ids = self._lane.move(ids, table.rows.device)
        if table.written is not None:
            self._ages_on(table.rows.device).add(table.written.index_select(0, ids), step)
        if table.versions is not None:
            return self._native_transfers().pull(native_view(table), ids, step).wait(), None
        return self._gather(table.rows, ids), None if table.scales is None else self._gather(table.scales, ids)

    def _ages_on(self, place: torch.device) -> Ages:
        if place not in self._ages:
            self._ages[place] = Ages(place)
        return self._ages[place]

    def _gather(self, values: Tensor, ids: Tensor) -> Tensor:
        if values.device != _CPU:
            return values.index_select(0, ids)
        out = self._lane.buffer(ids.numel(), *values.shape[1:], dtype=values.dtype)
        return gather_rows(values, ids, out, num_threads=self._num_threads)

    def _write(self, table: Table, ids: Tensor, parts: _Stored, step: int) -> None:
        rows, scales = parts
        if table.versions is not None:
            transfers = self._native_transfers()
            transfers.push(native_view(table), ids, rows, step)
            return transfers.flush()
        last = _last_of_each(ids)
        ids = self._lane.move(ids, rows.device)
        if last is not None:
            last = self._lane.move(last, rows.device)
            rows, scales = rows[last], None if scales is None else scales[last]
        table.rows.index_copy_(0, ids, rows)
        if table.scales is not None and scales is not None:
            table.scales.index_copy_(0, ids, scales)
        if table.written is not None:
            table.written.index_fill_(0, ids, step)

    def _native_transfers(self) -> Any:
        if self._native is None:
            self._native = native.Transfers(self._num_threads)
        return self._native

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeError(
                f"this store's worker belongs to process {self._process}; make or open the store in the process "
                "that uses it"
            )


def transfers_for(device: torch.device, placement: str, num_threads: int) -> tuple[Any, Callable[[Table], Any]]:
    """What reads and writes tables of a placement for a device, and how it wants to see a table."""
    if native is not None and device.type == "cpu" and placement != "device":
        return native.Transfers(num_threads), native_view
    return TorchTransfers(device, num_threads, pinned=placement in ("pinned", "auto")), lambda table: table


def _last_of_each(ids: Tensor) -> Tensor | None:
    """For each id the position at which it comes last; None if none is repeated.

    Rows taken from there are the same wherever an id is repeated, so that the order of writing does not matter.
    """
    ordered, order = ids.sort(stable=True)
    # On a GPU, looking for repetitions would mean waiting for it.
    if ids.device == _CPU and not bool((ordered[1:] == ordered[:-1]).any()):
        return None
    return order[torch.searchsorted(ordered, ids, right=True) - 1]


def _row_bytes(table: Table) -> int:
    return table.width * table.rows.element_size() + (0 if table.scales is None else 4)
