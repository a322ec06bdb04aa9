"""Products with sparse matrices in torch."""

import torch
from torch import Tensor

# Rows of edges gathered at a time: enough to be fast, few enough to stay in the processor's cache.
_CHUNK = 1 << 14


def check_csr(indptr: Tensor, indices: Tensor, num_cols: int) -> None:
    """Refuse what is no CSR matrix with `num_cols` columns."""
    if int(indptr[0]) != 0 or int(indptr[-1]) != len(indices) or bool((indptr[1:] < indptr[:-1]).any()):
        raise ValueError(
            f"indptr is no CSR pointer array: it has to rise from 0 to the length of indices ({len(indices)})."
        )
    if len(indices):
        low, high = (int(bound) for bound in indices.aminmax())
        if low < 0 or high >= num_cols:
            raise ValueError(f"indices holds {low if low < 0 else high}; the matrix has {num_cols} columns.")


def rows_of(indptr: Tensor) -> Tensor:
    """Give the row of every edge."""
    return torch.arange(len(indptr) - 1, device=indptr.device).repeat_interleave(indptr.diff())


def spmm(indptr: Tensor, indices: Tensor, weight: Tensor | None, x: Tensor, diagonal: Tensor | None = None) -> Tensor:
    """See ``native/include/sparse.h``."""
    check_csr(indptr, indices, len(x))
    out = x.new_zeros(len(indptr) - 1, x.shape[1])
    if diagonal is not None:
        out[: len(diagonal)] = diagonal[:, None] * x[: len(diagonal)]
    rows = rows_of(indptr)
    for begin in range(0, len(indices), _CHUNK):
        chunk = slice(begin, begin + _CHUNK)
        messages = x.index_select(0, indices[chunk])
        if weight is not None:
            messages *= weight[chunk, None]
        out.index_add_(0, rows[chunk], messages)
    return out


def sddmm(indptr: Tensor, indices: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """See ``native/include/sparse.h``: the dot product of each edge's rows."""
    check_csr(indptr, indices, len(cols))
    out = rows.new_empty(len(indices))
    row_ids = rows_of(indptr)
    for begin in range(0, len(indices), _CHUNK):
        chunk = slice(begin, begin + _CHUNK)
        out[chunk] = (rows.index_select(0, row_ids[chunk]) * cols.index_select(0, indices[chunk])).sum(1)
    return out


def transpose_csr(indptr: Tensor, indices: Tensor, num_cols: int) -> tuple[Tensor, Tensor, Tensor]:
    """See ``native/include/sparse.h``."""
    check_csr(indptr, indices, num_cols)
    permutation = indices.argsort(stable=True)
    counts = torch.bincount(indices, minlength=num_cols)
    indptr_t = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return indptr_t, rows_of(indptr)[permutation].to(indices.dtype), permutation
