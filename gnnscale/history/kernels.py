"""Rows of tables by a GPU's kernels: in its memory, or in pinned memory of the host, which they reach by themselves.

Everything is put on the current stream, and nothing waits. Ids are not checked, and lie on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gnnscale.history.memory import CODES, Table
from gnnscale.ops.gpu import stream_of


@dataclass(frozen=True)
class Hot:
    """Copies of a table's rows on the device, and what the kernels count there: nobody waits for a number.

    Attributes
    ----------
    slots : Tensor
        Shape (N,), int32: where the copy of each row of the table is, -1 if there is none.
    copies : Table
        Stored as the table's rows are.
    hits : Tensor
        Shape (1,), int64: how many rows were read from copies.
    accesses : Tensor, optional
        Shape (N,), int32: how often each row was read.
    """

    slots: Tensor
    copies: Table
    hits: Tensor
    accesses: Tensor | None


def read_rows(kernels: Any, table: Table, ids: Tensor, hot: Hot | None = None) -> tuple[Tensor, Tensor | None]:
    """Rows as float32, shape (n, width), and the steps at which they were written, where the table knows."""
    near = 5 * (None,) if hot is None else (hot.slots, *_stored(hot.copies), hot.hits, hot.accesses)
    rows = torch.empty(len(ids), table.width, device=ids.device)
    steps = None if table.written is None else torch.empty(len(ids), dtype=torch.int32, device=ids.device)
    kernels.read_rows(*_described(table), *near, ids, rows, steps, stream_of(ids))
    return rows, steps


def encode(kernels: Any, rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """As :func:`gnnscale.history.encoding.encode` does, in one pass."""
    rows = rows.to(torch.float32).contiguous().resolve_neg()
    stored = torch.empty(rows.shape, dtype=dtype, device=rows.device)
    scales = rows.new_empty(len(rows)) if dtype == torch.int8 else None
    kernels.encode_rows(rows, CODES[dtype], stored.view(torch.uint8), scales, stream_of(rows))
    return stored, scales


def write_rows(kernels: Any, table: Table, ids: Tensor, stored: Tensor, scales: Tensor | None, step: int) -> None:
    """Overwrite rows by stored ones, shape (n, width); where an id is repeated, its last row stays."""
    ordered, order = ids.sort(stable=True)
    last = order[torch.searchsorted(ordered, ids, right=True) - 1]
    kernels.write_rows(*_described(table), ids, last, stored.view(torch.uint8), scales, step, stream_of(ids))


def _stored(table: Table) -> tuple[Tensor, Tensor | None]:
    return table.rows.view(torch.uint8), table.scales


def _described(table: Table) -> tuple[Any, ...]:
    rows, scales = _stored(table)
    return rows, table.width, CODES[table.dtype], scales, table.written
