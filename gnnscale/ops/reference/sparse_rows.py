"""Products with rows of a matrix that is mostly zero, in torch."""

import torch
from torch import Tensor

from gnnscale.ops.random import as_signed, fold


def multiply_rows(
    indptr: Tensor,
    indices: Tensor,
    values: Tensor,
    rows: Tensor | None,
    num_cols: int,
    keep: int,
    key: int,
    transposed: bool,
    dense: Tensor,
    out: Tensor,
) -> None:
    """See ``native/include/sparse_rows.h``; the order of sums may differ."""
    num_rows = len(indptr) - 1
    rows = torch.arange(num_rows) if rows is None else rows
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < num_rows:
        wrong = int(((rows < 0) | (rows >= num_rows)).nonzero()[0])
        raise IndexError(f"rows[{wrong}] is {int(rows[wrong])}; the matrix has {num_rows} rows.")
    counts = indptr.diff()[rows]
    if num_rows and (int(indptr.diff().min()) < 0 or int(indptr[0]) < 0 or int(indptr[-1]) > len(indices)):
        raise ValueError(f"indptr has to rise from 0 to the number of entries, {len(indices)}.")
    row = torch.repeat_interleave(torch.arange(len(rows)), counts)
    entry = torch.arange(len(row)) + (indptr[rows] - (counts.cumsum(0) - counts))[row]
    column, value = indices[entry].long(), values[entry]
    if len(column) and not 0 <= int(column.min()) <= int(column.max()) < num_cols:
        wrong = int(column.max()) if int(column.min()) >= 0 else int(column.min())
        raise IndexError(f"indices holds {wrong}; the matrix has {num_cols} columns.")
    if keep < 65536:
        element = row * num_cols + column
        words = fold(torch.tensor(as_signed(key)), (element >> 8) * 64 + (element & 63))
        bits = (words >> 16 * (element >> 6 & 3)) & 0xFFFF
        value = torch.where(bits < keep, value * (65536 / keep), torch.zeros_like(value))
    source, target = (row, column) if transposed else (column, row)
    out.zero_().index_add_(0, target, value[:, None] * dense[source])
