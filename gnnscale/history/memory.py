"""Tables of rows, and the memory of this process in which they may live."""

from __future__ import annotations

import math
import mmap
import time
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from gnnscale.ops import backend_reason
from gnnscale.ops._backend import native

DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int8": torch.int8,
}

# The arrays of a table: the shape and dtype of each, by name.
Parts = dict[str, tuple[tuple[int, ...], torch.dtype]]

# How native code numbers the dtypes.
CODES = {dtype: code for code, dtype in enumerate(DTYPES.values())}

# native/cpu/journal.cpp: entries of a table's journal, and bytes of one besides its row.
_ENTRIES, _ENTRY_BYTES = 64, 128

# With a multiple of how many bytes each array of a table begins, in memory of one process and of several.
LINE, PAGE = 64, 4096
_HUGE_PAGE = 1 << 21


def as_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """The dtype of that name.

    Raises
    ------
    ValueError
        If rows cannot be stored in it.

    Examples
    --------
    >>> as_dtype("int8")
    torch.int8
    """
    if isinstance(dtype, str) and dtype in DTYPES:
        return DTYPES[dtype]
    if isinstance(dtype, torch.dtype) and dtype in DTYPES.values():
        return dtype
    raise ValueError(f"dtype={dtype!r} has to be one of {', '.join(DTYPES)}, by name or as torch.float32")


def dtype_name(dtype: torch.dtype) -> str:
    """What :func:`as_dtype` knows it by."""
    return str(dtype).removeprefix("torch.")


def parts_of(num_rows: int, width: int, dtype: torch.dtype, *, kind: str = "history", shared: bool = False) -> Parts:
    """The arrays of a table: the shape and dtype of each, by the names that :class:`Table` gives them.

    Parameters
    ----------
    kind : {"history", "features"}
        Features are never written, so that nothing is known of their rows.
    shared : bool
        Whether several processes may use the table at once.

    Examples
    --------
    >>> parts_of(10, 3, torch.int8)
    {'rows': ((10, 3), torch.int8), 'scales': ((10,), torch.float32), 'written': ((10,), torch.int32)}
    """
    parts: Parts = {"rows": ((num_rows, width), dtype)}
    if dtype == torch.int8:
        parts["scales"] = ((num_rows,), torch.float32)
    if kind == "history":
        parts["written"] = ((num_rows,), torch.int32)
        if shared:
            entry = _ENTRY_BYTES + _rounded(width * dtype.itemsize, LINE)
            parts |= {"versions": ((num_rows,), torch.int32), "journal": ((_ENTRIES * entry,), torch.uint8)}
    return parts


def size_of(parts: Parts, align: int) -> int:
    """Bytes that the arrays take one after another, each beginning with a multiple of ``align``."""
    return sum(_rounded(_bytes(part), align) for part in parts.values())


@dataclass
class Table:
    """Rows and what is known of each.

    Attributes
    ----------
    rows : Tensor
        Shape (N, width), of the dtype in which rows are stored, contiguous.
    scales : Tensor, optional
        Shape (N,), float32, for int8: a row is its numbers times its scale.
    written : Tensor, optional
        Shape (N,), int32: the step at which a row was written.
    versions : Tensor, optional
        Shape (N,), int32, where several processes write: odd while a row is being written, another number after.
    journal : Tensor, optional
        Bytes, where there are versions: what is being written, so that others can complete it.
    """

    rows: Tensor
    scales: Tensor | None = None
    written: Tensor | None = None
    versions: Tensor | None = None
    journal: Tensor | None = None

    @property
    def num_rows(self) -> int:
        """N."""
        return self.rows.shape[0]

    @property
    def width(self) -> int:
        """Columns of a row."""
        return self.rows.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """How rows are stored."""
        return self.rows.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (getattr(self, field.name) for field in fields(self))
        return sum(array.nbytes for array in arrays if array is not None)

    def copied(self, start: int = 0, stop: int | None = None) -> Table:
        """Rows ``start`` to ``stop - 1`` with their scales and steps, in memory of their own.

        Where other processes write meanwhile, each row is whole, old or new.

        Examples
        --------
        >>> import torch
        >>> table = LocalMemory(4, torch.float32).add(2)
        >>> some = table.copied(1, 3)
        >>> table.rows.fill_(1.0).sum().item(), some.rows.shape, some.rows.sum().item()
        (8.0, torch.Size([2, 2]), 0.0)
        """
        arrays = {name: array for name in ("rows", "scales", "written") if (array := getattr(self, name)) is not None}
        if self.versions is None:
            return Table(**{name: array[start:stop].clone() for name, array in arrays.items()})
        missing = torch.arange(*slice(start, stop).indices(self.num_rows))
        copies = {name: array.new_empty(len(missing), *array.shape[1:]) for name, array in arrays.items()}
        since = time.monotonic()
        while len(missing):
            # As native readers do it: a row is whole if nobody wrote it before, and nobody has since.
            before = self.versions[missing]
            for name, array in arrays.items():
                copies[name].index_copy_(0, missing - start, array.index_select(0, missing))
            missing = missing[(before % 2 != 0) | (self.versions[missing] != before)]
            if len(missing) and time.monotonic() - since > 0.02:
                # Somebody who takes that long may be dead.
                native_view(self).recover()
                since = time.monotonic()
        return Table(**copies)


def carved(memory: Tensor, parts: Parts, align: int) -> Table:
    """The table whose arrays lie in ``memory``, :func:`size_of` bytes, one after another."""
    arrays, start = {}, 0
    for name, (shape, dtype) in parts.items():
        size = _bytes((shape, dtype))
        arrays[name] = memory[start : start + size].view(dtype).view(shape)
        start += _rounded(size, align)
    return Table(**arrays)


def _bytes(part: tuple[tuple[int, ...], torch.dtype]) -> int:
    shape, dtype = part
    return math.prod(shape) * dtype.itemsize


def _rounded(size: int, align: int) -> int:
    return -(-size // align) * align


class LocalMemory:
    """Tables in memory of this process, or of the GPU.

    Parameters
    ----------
    num_rows : int
    dtype : torch.dtype
        How rows are stored.
    device : torch.device or str, default "cpu"
    pin : bool, default False
        Whether a GPU can copy from the memory by itself. With a GPU for ``device``: whether a table for which it
        :func:`has_room` not lies in such memory of the host.

    Attributes
    ----------
    tables : list of Table
    step : int
        The current step.
    """

    def __init__(
        self, num_rows: int, dtype: torch.dtype, device: torch.device | str = "cpu", pin: bool = False
    ) -> None:
        self.num_rows, self.dtype, self.step = num_rows, dtype, 0
        self.tables: list[Table] = []
        self._device, self._pin = torch.device(device), pin

    def add(self, width: int, layer: int | None = None) -> Table:
        """Make a table of zeros; if ``layer`` is the number of one that is there, give that one."""
        if layer is None or layer >= len(self.tables):
            layer = len(self.tables)
            parts = parts_of(self.num_rows, width, self.dtype)
            self.tables.append(carved(self._zeros(size_of(parts, LINE)), parts, LINE))
        return self.tables[layer]

    def grown(self, num_rows: int) -> LocalMemory:
        """A copy with more rows; the new ones are zero, as of the current step."""
        memory = LocalMemory(num_rows, self.dtype, self._device, self._pin)
        memory.step = self.step
        for table in self.tables:
            copy_rows(table, memory.add(table.width), self.step)
        return memory

    def close(self) -> None:
        """Give the memory back, once nobody holds a table."""
        self.tables = []

    def _zeros(self, size: int) -> Tensor:
        on_device = self._device.type != "cpu" and (not self._pin or has_room(self._device, size))
        if on_device or self._pin or size < _HUGE_PAGE:
            device = self._device if on_device else torch.device("cpu")
            return torch.zeros(size, dtype=torch.uint8, device=device, pin_memory=self._pin and not on_device)
        area = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        want_huge_pages(area)
        return torch.frombuffer(area, dtype=torch.uint8)


def free_on(device: torch.device | None) -> int:
    """Bytes of a GPU's memory that are free, with those that torch has at hand for what comes next."""
    at_hand = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + at_hand


def has_room(device: torch.device, size: int) -> bool:
    """Whether a GPU can spare so many bytes: a quarter of what is free, as training needs memory too."""
    return 4 * size <= free_on(device)


def want_huge_pages(area: mmap.mmap) -> None:
    """Ask for large pages, with which reading rows here and there is 1.3 (1 KB) to 1.8 times (64 B) as fast."""
    with suppress(OSError):  # of a system that has none
        area.madvise(mmap.MADV_HUGEPAGE)


def copy_rows(old: Table, new: Table, step: int) -> None:
    """Copy all rows to a larger table of zeros, whose other rows are then as of ``step``."""
    for name in ("rows", "scales", "written"):
        if (array := getattr(old, name)) is not None:
            getattr(new, name)[: old.num_rows].copy_(array)
    if new.written is not None:
        new.written[old.num_rows :] = step


def native_view(table: Table) -> Any:
    """A table in host memory for the native operations; the caller keeps the table alive.

    Raises
    ------
    RuntimeError
        If there is no native code.
    """
    if native is None:
        raise RuntimeError(f"Rows that processes share need the native operations. {backend_reason()}")
    rows = table.rows.view(torch.uint8)
    return native.RowTable(
        rows, table.width, CODES[table.dtype], table.scales, table.written, table.versions, table.journal
    )
