"""Rows of a tensor by index: how a batch gets its features and labels."""

import math

import torch
from torch import Tensor

from gnnscale.ops import reference
from gnnscale.ops._backend import native
from gnnscale.ops._checks import check_tensor, check_vector, thread_count

# Less comes from memory that malloc has at hand.
_POOLED_BYTES = 1 << 18


def gather_rows(source: Tensor, index: Tensor, out: Tensor | None = None, *, num_threads: int = 1) -> Tensor:
    """Gather ``source[index]``, optionally into a given buffer.

    Memory used again is several times faster than fresh memory, which pays for its page faults; so a large result
    lies in memory of earlier ones that are gone (as much is kept as results have taken at once of late). Rows are
    copied as bytes, so any dtype will do. There is no gradient.

    Parameters
    ----------
    source : Tensor
        (N, ...), contiguous, on the CPU.
    index : Tensor
        (M,) int32 or int64, each in [0, N).
    out : Tensor, optional
        Buffer (M' >= M, ...) of the dtype and row shape of `source`, contiguous, not sharing its memory.
    num_threads : int
        Most threads to use; small gathers use fewer.

    Returns
    -------
    Tensor
        (M, ...): a new tensor, or the first M rows of `out`.

    Raises
    ------
    IndexError
        If an index is no row of `source`; `out` may then be partly written.
    TypeError
        If a dtype does not fit.
    ValueError
        If a shape, a device or a memory layout does not fit, or `source` wants a gradient.

    Examples
    --------
    >>> import torch
    >>> from gnnscale.ops import gather_rows
    >>> gather_rows(torch.tensor([[1, 2], [3, 4], [5, 6]]), torch.tensor([2, 0])).tolist()
    [[5, 6], [1, 2]]
    """
    check_tensor("source", source)
    check_vector("index", index, torch.int32, torch.int64)
    if source.dim() == 0:
        raise ValueError("source has no dimension; rows are gathered from a tensor with at least one.")
    if source.requires_grad and torch.is_grad_enabled():
        raise ValueError("source wants a gradient, which gather_rows does not give; pass source.detach().")
    count = len(index)
    threads = thread_count(num_threads)
    if out is None:
        shape = (count, *source.shape[1:])
        if native is not None and math.prod(shape) * source.element_size() >= _POOLED_BYTES:
            rows = native.gather_new_rows(as_bytes(source.detach()), index, threads)
            return rows.view(source.dtype).view(shape)
        out = source.new_empty(shape)
    else:
        check_tensor("out", out, source.dtype)
        if out.shape[1:] != source.shape[1:] or len(out) < count:
            wanted = (count, *source.shape[1:])
            raise ValueError(f"out has shape {tuple(out.shape)}; {wanted} is needed, or more rows.")
        for name, other in (("source", source), ("index", index)):
            if _overlap(other, out):
                raise ValueError(f"out shares memory with {name}; give a buffer of its own.")
        if out.requires_grad and torch.is_grad_enabled():
            raise ValueError("out wants a gradient, which gather_rows does not give; pass out.detach().")
        out = out[:count]

    if native is None:
        reference.gather_rows(source.detach(), index, out)
    else:
        native.gather_rows(as_bytes(source.detach()), index, as_bytes(out), threads)
    return out


def as_bytes(rows: Tensor) -> Tensor:
    """View rows of any shape and dtype as a matrix of bytes."""
    width = rows[0].numel() if len(rows) else 0
    return rows.view(len(rows), width).view(torch.uint8)


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Tell whether two contiguous tensors share memory."""
    return (
        a.data_ptr() < b.data_ptr() + b.numel() * b.element_size()
        and b.data_ptr() < a.data_ptr() + a.numel() * a.element_size()
    )
