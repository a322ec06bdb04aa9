"""Tables in memory that several processes map: anonymous, or a file.

After the header (header.py), tables follow one another; each array of a table begins with a page.
"""

from __future__ import annotations

import math
import mmap
import os
import threading
import warnings
import weakref
from contextlib import nullcontext
from multiprocessing import context, reduction
from pathlib import Path
from typing import Any

import torch

from gnnscale.history.files import IN_USE, allocate, by_descriptor, in_place_of, is_at, open_alone
from gnnscale.history.header import HEADER, Header
from gnnscale.history.locks import EXCLUSIVE, SHARED, lock, locked
from gnnscale.history.memory import (
    PAGE,
    LocalMemory,
    Parts,
    Table,
    carved,
    copy_rows,
    native_view,
    parts_of,
    size_of,
    want_huge_pages,
)
from gnnscale.history.placement import available
from gnnscale.ops import backend

_ADDING = 1  # the byte that is locked while a table is made

_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # Python names it from 3.13 on
_ROWS_AT_ONCE = 65536


class MappedMemory:
    """Tables that several processes on one machine read and write.

    :meth:`create`, :meth:`open` and :meth:`attach` make it. ``multiprocessing`` can hand it to processes that it
    starts, forked or spawned.

    Attributes
    ----------
    num_rows : int
    dtype : torch.dtype
        How rows are stored.
    kind : {"history", "features"}
    path : Path or None
        The file, if it is one.

    Examples
    --------
    >>> import torch
    >>> from gnnscale.history.mapped import MappedMemory
    >>> memory = MappedMemory.create(3, torch.float32)
    >>> other = MappedMemory.attach(memory.fileno())
    >>> memory.add(2).rows[1] = 5.0
    >>> other.tables[0].rows.tolist()
    [[0.0, 0.0], [5.0, 5.0], [0.0, 0.0]]
    """

    def __init__(self, descriptor: int, path: Path | None, *, kind: str, read_only: bool = False) -> None:
        # The others make one, of an open file. It is closed with this object.
        self.path, self.kind = path, kind
        self._read_only = read_only
        self._own(descriptor)
        self._areas: list[mmap.mmap] = []
        self._tables: list[Table] = []
        self._handed: list[weakref.finalize] = []
        self._known = 0  # the header's state that the tables are of
        try:
            self._begin("this memory" if path is None else f"path={str(path)!r}")
        except BaseException:
            self._let_go()
            raise

    @classmethod
    def create(
        cls, num_rows: int, dtype: torch.dtype, *, path: str | Path | None = None, kind: str = "history"
    ) -> MappedMemory:
        """Make memory without tables.

        Parameters
        ----------
        num_rows : int
        dtype : torch.dtype
        path : str or Path, optional
            A new file. Without one, the memory has no name, and is gone with the last process that uses it.
        kind : {"history", "features"}
            Of features, nothing but rows is kept; they are written once, by this process.

        Raises
        ------
        FileNotFoundError
            If there is no folder for the file.
        OSError
            If the disk is full.
        ValueError
            If the file exists.
        """
        if path is None:
            descriptor = os.memfd_create(f"gnnscale-{kind}", os.MFD_CLOEXEC)
        else:
            path = Path(path).absolute()
            try:
                descriptor = open_alone(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                raise ValueError(
                    f"path={str(path)!r} exists; open it with HistoryStore.open, or delete it to begin anew"
                ) from None
            except FileNotFoundError:
                raise FileNotFoundError(f"path={str(path)!r} is in a folder that does not exist; make that") from None
        try:
            allocate(descriptor, 0, HEADER, path)
            os.pwrite(descriptor, Header.made(num_rows, dtype, kind), 0)
            lock(descriptor, IN_USE, SHARED)
        except BaseException:
            os.close(descriptor)
            if path is not None:
                path.unlink()
            raise
        return cls(descriptor, path, kind=kind)

    @classmethod
    def open(cls, path: str | Path, *, kind: str = "history", read_only: bool | None = None) -> MappedMemory:
        """Map a file that exists. Rows that a killed process was writing are completed.

        Parameters
        ----------
        path : str or Path
        kind : {"history", "features"}
        read_only : bool, optional
            Whether the file stays as it is, and may be in use meanwhile; of a history, changes are this process's own,
            and features cannot be changed. By default, features are read only and histories are not.

        Raises
        ------
        FileNotFoundError
            If there is none.
        ValueError
            If the file is damaged, cut off, something else, or in use.
        """
        path, read_only = Path(path).absolute(), kind == "features" if read_only is None else read_only
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if read_only else open_alone(path, os.O_RDWR)
        except FileNotFoundError:
            raise FileNotFoundError(f"path={str(path)!r} does not exist") from None
        except IsADirectoryError:
            raise ValueError(f"path={str(path)!r} is a folder; name the file") from None
        memory = cls(descriptor, path, kind=kind, read_only=read_only)
        if kind == "history" and backend() == "native":
            for table in memory._tables:
                _complete(table, alone=not read_only)
        if not read_only:
            lock(descriptor, IN_USE, SHARED)
        return memory

    @classmethod
    def attach(cls, source: int | str | Path, *, step: int | None = None) -> MappedMemory:
        """Share the memory of a history that is in use.

        Parameters
        ----------
        source : int or str or Path
            A descriptor of this process, or ``/proc/<process>/fd/<descriptor>``.
        step : int, optional
            The step to begin with; by default the largest of all processes.

        Raises
        ------
        OSError
            If it cannot be opened.
        ValueError
            If it is something else.
        """
        descriptor = os.open(by_descriptor(source) if isinstance(source, int) else source, os.O_RDWR | os.O_CLOEXEC)
        path = Path(os.readlink(by_descriptor(descriptor)))
        memory = cls(descriptor, path if is_at(descriptor, path) else None, kind="history")
        lock(descriptor, IN_USE, SHARED)
        if step is not None:
            memory._step = step
        return memory

    def __reduce__(self) -> Any:
        if context.get_spawning_popen() is None:
            raise TypeError(
                "memory that processes share can be handed to one that multiprocessing starts, and not be pickled; "
                "to keep its rows, save them to a file"
            )
        descriptor = self._opened_for_another()
        self._handed.append(weakref.finalize(self, os.close, descriptor))
        return _inherited, (reduction.DupFd(descriptor), self._step)

    @property
    def num_rows(self) -> int:
        """Rows of each table."""
        return self._header.num_rows

    @property
    def dtype(self) -> torch.dtype:
        """How rows are stored."""
        return self._header.dtype

    @property
    def tables(self) -> list[Table]:
        """All tables, with those that other processes have made."""
        self.refresh()
        return self._tables

    @property
    def step(self) -> int:
        """This process's step; a file keeps the largest of all processes."""
        return self._step

    @step.setter
    def step(self, step: int) -> None:
        self._step = step
        if not self._read_only and step > self._header.step:
            self._header.step = step

    def fileno(self) -> int:
        """The descriptor of the memory."""
        if not self._let_go.alive:
            raise ValueError("the memory has been closed")
        return self._descriptor

    def refresh(self) -> None:
        """Map the tables that other processes have made."""
        if self._header.state == self._known:
            return
        with self._here:
            known, entries = self._header.state, self._header.entries()
            for begin, width in entries[len(self._tables) :]:
                self._tables.append(self._table(begin, width))
            self._known = known

    def add(self, width: int, layer: int | None = None) -> Table:
        """Make a table of zeros; if ``layer`` is the number of one that is there, give that one.

        Raises
        ------
        OSError
            If the disk is full.
        ValueError
            If there are 64 tables, or the memory is read only.
        """
        if self._read_only:
            raise ValueError(f"path={str(self.path)!r} is open for reading, and cannot get another table")
        with self._here, locked(self.fileno(), _ADDING):
            number = len(self.tables)
            if layer is not None and layer < number:
                return self._tables[layer]
            begin = max((begin + self._size(width) for begin, width in self._header.entries()), default=HEADER)
            allocate(self.fileno(), begin, self._size(width), self.path)
            self._header.enter(begin, width)
            return self.tables[number]

    def sync(self) -> None:
        """Wait until the disk has everything written so far, if this is a file."""
        for area in self._areas:
            area.flush()
        os.fsync(self.fileno())

    def grown(self, num_rows: int) -> MappedMemory:
        """The same with more rows, in the place of this one, which is closed; the new rows are zero, as of this step.

        Raises
        ------
        OSError
            If the disk is full.
        ValueError
            If other processes use the memory: they would go on with the old one.
        """
        self._forget_handed()
        if not lock(self.fileno(), IN_USE, EXCLUSIVE, wait=False):
            raise ValueError(
                "other processes use this store and would not see it grow; make a larger one in all of them, and load "
                "what this one saved"
            )
        try:
            with nullcontext() if self.path is None else in_place_of(self.path, own=True) as partial:
                memory = MappedMemory.create(num_rows, self.dtype, path=partial)
                try:
                    for table in self.tables:
                        copy_rows(table, memory.add(table.width), self._step)
                    memory.step = self._header.step
                    memory.sync()
                except BaseException:
                    memory.close()
                    raise
        except BaseException:
            lock(self.fileno(), IN_USE, SHARED)
            raise
        memory.path, memory._step = self.path, self._step
        self.close()
        return memory

    def close(self) -> None:
        """Let go of the file; the memory is unmapped once nobody holds a table."""
        self._let_go()
        self._forget_handed()
        self._areas, self._tables = [], []

    def _own(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._let_go = weakref.finalize(self, os.close, descriptor)
        self._here = threading.RLock()
        _open.add(self)

    def _opened_again(self) -> int:
        access = os.O_RDONLY if self._read_only else os.O_RDWR
        return os.open(by_descriptor(self._descriptor), access | os.O_CLOEXEC)

    def _opened_for_another(self) -> int:
        """For another process: a copy of this descriptor would have its locks in common with it.

        It is in use from now on, and not from when the other has come so far.
        """
        descriptor = self._opened_again()
        if not self._read_only:
            lock(descriptor, IN_USE, SHARED)
        return descriptor

    def _forget_handed(self) -> None:
        """Close what was opened for processes that were started; those that live have it still."""
        for let_go in self._handed:
            let_go()
        self._handed.clear()

    def _begin(self, name: str) -> None:
        """Read the header, and map the tables."""
        size = os.fstat(self._descriptor).st_size
        if size == 0:
            raise ValueError(f"{name} is empty: who made it was killed before anything was in it; delete it")
        if size < HEADER:
            raise ValueError(f"{name} is not a file of a HistoryStore or FeatureStore, or cut off after {size} bytes")
        self._header = Header(memoryview(self._map(0, HEADER)), name)
        if self._header.kind != self.kind:
            have, want = (("histories" if kind == "history" else kind) for kind in (self._header.kind, self.kind))
            raise ValueError(f"{name} holds {have}, and not {want}")
        ends = [begin + self._size(width) for begin, width in self._header.entries()]
        if ends and size < max(ends):
            raise ValueError(f"{name} is cut off: it has {size} bytes, and its tables {max(ends)}")
        self._step = self._header.step
        self.refresh()

    def _parts(self, width: int) -> Parts:
        return parts_of(self.num_rows, width, self.dtype, kind=self.kind, shared=True)

    def _size(self, width: int) -> int:
        return size_of(self._parts(width), PAGE)

    def _table(self, begin: int, width: int) -> Table:
        parts = self._parts(width)
        if not (size := size_of(parts, PAGE)):
            return carved(torch.empty(0, dtype=torch.uint8), parts, PAGE)
        start = begin // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        area = self._map(start, begin + size - start)
        if self.path is None:
            want_huge_pages(area)
        elif size > (available("host") or math.inf) / 2:
            # Rows are wanted here and there. With what lies around each, the system would read all of the file.
            area.madvise(mmap.MADV_RANDOM)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given buffer is not writable")  # that of features
            return carved(torch.frombuffer(area, dtype=torch.uint8, offset=begin - start), parts, PAGE)

    def _map(self, start: int, size: int) -> mmap.mmap:
        flags, access = mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE
        if self._read_only and self.kind == "features":
            access = mmap.PROT_READ
        elif self._read_only:
            flags = mmap.MAP_PRIVATE | _NORESERVE
        # A map holds a descriptor of its own, for as long as there are tensors of it. It must not hold locks as well.
        descriptor = self._opened_again()
        try:
            area = mmap.mmap(descriptor, size, flags=flags, prot=access, offset=start)
        finally:
            os.close(descriptor)
        self._areas.append(area)
        return area


def save(memory: LocalMemory | MappedMemory, path: str | Path) -> None:
    """Write all tables to a file for :meth:`MappedMemory.open`; it appears whole or not at all.

    Raises
    ------
    OSError
        If the disk is full.
    ValueError
        If there is such a file, and it is in use.

    Examples
    --------
    >>> import tempfile, torch
    >>> from gnnscale.history.mapped import MappedMemory, save
    >>> from gnnscale.history.memory import LocalMemory
    >>> memory = LocalMemory(3, torch.float32)
    >>> memory.add(2).rows[1] = 5.0
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(memory, f"{folder}/rows")
    ...     MappedMemory.open(f"{folder}/rows").tables[0].rows.sum().item()
    10.0
    """
    with in_place_of(path) as partial:
        copy = MappedMemory.create(memory.num_rows, memory.dtype, path=partial)
        try:
            for table in memory.tables:
                target = copy.add(table.width)
                for start in range(0, table.num_rows, _ROWS_AT_ONCE):
                    some = table.copied(start, start + _ROWS_AT_ONCE)
                    for name in ("rows", "scales", "written"):
                        if (array := getattr(some, name)) is not None:
                            getattr(target, name)[start : start + _ROWS_AT_ONCE].copy_(array)
            copy.step = memory.step
            copy.sync()
        finally:
            copy.close()


def _complete(table: Table, *, alone: bool) -> None:
    """End what dead processes began to write."""
    native_view(table).recover()
    if alone and table.versions is not None:
        # A machine that stopped may have left locks, without what was being written. As in native/cpu/journal.cpp, the
        # upper bits of a version count writes.
        held = (table.versions % 2 != 0).nonzero().squeeze(1)
        table.versions[held] = ((table.versions[held] >> 7) + 1) << 7


def _inherited(descriptor: Any, step: int) -> MappedMemory:
    """What a process makes of memory that it is handed when it starts."""
    number = descriptor.detach()
    try:
        return MappedMemory.attach(number, step=step)
    finally:
        os.close(number)


_open: weakref.WeakSet[MappedMemory] = weakref.WeakSet()
_forking = threading.Lock()
_for_child: list[tuple[MappedMemory, int]] = []


def _before_fork() -> None:
    _forking.acquire()
    for memory in list(_open):
        if memory._let_go.alive:
            _for_child.append((memory, memory._opened_for_another()))


def _in_parent() -> None:
    for _, descriptor in _for_child:
        os.close(descriptor)
    _for_child.clear()
    _forking.release()


def _in_child() -> None:
    for memory, descriptor in _for_child:
        inherited = memory._let_go
        memory._own(descriptor)
        inherited()
    _for_child.clear()
    _forking.release()


os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
