"""The operations on a GPU: results made on its device, work put on the caller's stream.

The arguments have been checked, but for what the arrays hold: to look at that, the host would have to wait for the
device. `cuda` is the module that does the work.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Gradients = tuple[Tensor, Tensor, Tensor, Tensor]


def stream_of(x: Tensor) -> int:
    """Give the caller's stream on the device of `x` as the number by which CUDA knows it."""
    return torch.cuda.current_stream(x.device).cuda_stream if x.device.type == "cuda" else 0


def memory_of(x: Tensor) -> Callable[[int], Tensor]:
    """Give what makes memory on the device of `x`, of so many bytes."""
    return lambda size: torch.empty(size, dtype=torch.uint8, device=x.device)


def spmm(
    cuda: Any,
    indptr: Tensor,
    indices: Tensor,
    order: Tensor | None,
    weight: Tensor | None,
    diagonal: Tensor | None,
    x: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """See ``native/include/sparse.h``; weights are read at `order`."""
    out = x.new_empty(len(indptr) - 1, x.shape[1], dtype=dtype)
    cuda.spmm(
        indptr.contiguous(),
        indices.contiguous(),
        weight,
        None if order is None else order.contiguous(),
        diagonal,
        x,
        out,
        memory_of(x),
        stream_of(x),
    )
    return out


def edge_dots(
    cuda: Any, indptr: Tensor, indices: Tensor, order: Tensor | None, x: Tensor, rows: Tensor, dots: Tensor
) -> None:
    """See ``native/include/sparse.h``; dot products are put at `order`."""
    order = None if order is None else order.contiguous()
    cuda.edge_dots(indptr.contiguous(), indices.contiguous(), order, x, rows, dots, stream_of(x))


def transpose_csr(indptr: Tensor, indices: Tensor, num_cols: int) -> tuple[Tensor, Tensor, Tensor]:
    """See ``native/include/sparse.h``; in torch's operations, of which none waits for the device."""
    columns, permutation = indices.sort(stable=True)
    bounds = torch.arange(num_cols + 1, dtype=columns.dtype, device=columns.device)
    rows = torch.arange(len(indptr) - 1, dtype=indices.dtype, device=indices.device)
    rows = rows.repeat_interleave(indptr.diff(), output_size=len(indices))
    return torch.searchsorted(columns, bounds), rows[permutation], permutation


def extremes(cuda: Any, indptr: Tensor, indices: Tensor, x: Tensor, largest: bool) -> tuple[Tensor, Tensor]:
    """See ``native/include/extremes.h``."""
    out = x.new_empty(len(indptr) - 1, x.shape[1])
    ties = torch.empty_like(out, dtype=torch.float32)
    cuda.extremes(indptr.contiguous(), indices.contiguous(), x, largest, out, ties, memory_of(x), stream_of(x))
    return out, ties


def extremes_backward(
    cuda: Any, indptr_t: Tensor, indices_t: Tensor, x: Tensor, extreme: Tensor, share: Tensor
) -> Tensor:
    """See ``native/include/extremes.h``."""
    grad = torch.empty_like(x)
    cuda.extremes_backward(
        indptr_t.contiguous(), indices_t.contiguous(), x, extreme, share, grad, memory_of(x), stream_of(x)
    )
    return grad


def attend(
    cuda: Any,
    indptr: Tensor,
    indices: Tensor,
    x: Tensor,
    source: Tensor | None,
    target: Tensor | None,
    scores: Tensor | None,
    log_multiplicity: Tensor | None,
    mask: Tensor | None,
    heads: int,
    negative_slope: float,
    own_row: bool,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See ``native/include/attention.h``; gives out, log_sum, share and positive, the last two empty if not wanted."""
    num_dst, keeps = len(indptr) - 1, training and source is not None
    num_kept = num_dst if keeps else 0
    out, positive = (x.new_empty(count, x.shape[1]) for count in (num_dst, num_kept))
    log_sum, share = (x.new_empty(count, heads, dtype=torch.float32) for count in (num_dst, num_kept))
    cuda.attend(
        indptr.contiguous(),
        indices.contiguous(),
        x,
        source,
        target,
        scores,
        log_multiplicity,
        mask,
        heads,
        negative_slope,
        num_dst if own_row else 0,
        out,
        log_sum,
        share if keeps else None,
        positive if keeps else None,
        memory_of(x),
        stream_of(x),
    )
    return out, log_sum, share, positive


def attend_backward(
    cuda: Any,
    transposed: tuple[Tensor, Tensor, Tensor],
    x: Tensor,
    source: Tensor | None,
    target: Tensor | None,
    scores: Tensor | None,
    log_multiplicity: Tensor | None,
    mask: Tensor | None,
    heads: int,
    negative_slope: float,
    own_row: bool,
    out: Tensor,
    log_sum: Tensor,
    share: Tensor,
    positive: Tensor,
    grad: Tensor,
) -> Gradients:
    """See ``native/include/attention.h``; gives the gradients in x, source, target and scores, empty if not there."""
    num_dst, by_head = len(out), (len(out), heads, x.shape[1] // heads)
    wide = grad.float()  # sums over the columns of bfloat16 rows are float32
    along = (wide * out).view(by_head).sum(2)
    of_x, none = torch.empty_like(x), log_sum.new_empty(0, heads)
    of_source = none if source is None else torch.empty_like(source)
    of_scores = none if scores is None else torch.empty_like(scores)
    cuda.attend_backward(
        *(part.contiguous() for part in transposed),
        x,
        source,
        target,
        scores,
        log_multiplicity,
        mask,
        heads,
        negative_slope,
        num_dst if own_row else 0,
        log_sum,
        along,
        grad,
        of_x,
        None if source is None else of_source,
        None if scores is None else of_scores,
        memory_of(x),
        stream_of(x),
    )
    of_target = none
    if source is not None:  # see attention.h: nothing of each edge is needed
        of_target = (1 - negative_slope) * ((wide * positive).view(by_head).sum(2) - share * along)
    return of_x, of_source, of_target, of_scores
