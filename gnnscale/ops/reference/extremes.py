"""The largest or smallest of rows in torch."""

import torch
from torch import Tensor

from gnnscale.ops.reference.sparse import check_csr, rows_of


def extremes(indptr: Tensor, indices: Tensor, x: Tensor, largest: bool) -> tuple[Tensor, Tensor]:
    """See ``native/include/extremes.h``."""
    check_csr(indptr, indices, len(x))
    rows, messages = rows_of(indptr), x.index_select(0, indices)
    index = rows.unsqueeze(1).expand(-1, x.shape[1])
    out = x.new_zeros(len(indptr) - 1, x.shape[1])
    out.scatter_reduce_(0, index, messages, "amax" if largest else "amin", include_self=False)
    ties = torch.zeros_like(out).index_add_(0, rows, (messages == out[rows]).to(x.dtype))
    return out, ties


def extremes_backward(indptr_t: Tensor, indices_t: Tensor, x: Tensor, extreme: Tensor, share: Tensor) -> Tensor:
    """See ``native/include/extremes.h``."""
    check_csr(indptr_t, indices_t, len(extreme))
    sources = rows_of(indptr_t)
    shares = torch.where(x[sources] == extreme[indices_t], share[indices_t], 0)
    return torch.zeros_like(x).index_add_(0, sources, shares)
