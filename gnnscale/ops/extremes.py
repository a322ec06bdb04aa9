"""The largest or smallest of the neighbours' rows, column by column."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gnnscale.ops import gpu, reference
from gnnscale.ops._backend import cuda_kernels, native
from gnnscale.ops._library import OPERATORS, define, differentiate
from gnnscale.ops.sparse import (
    Transposed,
    check_devices,
    check_structure,
    check_tensors,
    check_transposed,
    new_rows,
    plain,
    sum_dtype,
    three,
    transpose_csr,
)


def extremes(
    indptr: Tensor, indices: Tensor, x: Tensor, *, largest: bool = True, transposed: Transposed | None = None
) -> Tensor:
    """Give ``out[v, c] = max_e x[indices[e], c]`` over the edges e of row v, or the minimum.

    Differentiable once in `x`: where several edges lead to the extreme, they share its gradient equally. On the CPU it
    uses up to ``torch.get_num_threads()`` threads; the result does not depend on their number.
    ``torch.ops.gnnscale.extremes`` is the same as an operator, which `torch.compile` does not look into.

    Parameters
    ----------
    indptr : Tensor
        (num_dst + 1,) int32 or int64.
    indices : Tensor
        (num_edges,) int32 or int64, each in [0, num_src).
    x : Tensor
        (num_src, F) float32, float64 or bfloat16.
    largest : bool, default True
        Whether to take the largest or the smallest.
    transposed : tuple of Tensor, optional
        What `transpose_csr` gives for this structure, for the gradient, which makes it anew without; see `spmm`.

    Returns
    -------
    Tensor
        (num_dst, F), of the dtype of `x`; zero where a row has no edge, NaN where it leads to one.

    Raises
    ------
    TypeError
        If a dtype does not fit.
    ValueError
        If a shape or a device does not fit, or the arrays are no CSR matrix with num_src columns.

    Examples
    --------
    >>> import torch
    >>> from gnnscale.ops import extremes
    >>> x = torch.tensor([[1.0], [2.0], [4.0]])
    >>> extremes(torch.tensor([0, 2, 3, 3]), torch.tensor([0, 2, 1]), x).tolist()
    [[4.0], [2.0], [0.0]]
    """
    inputs = (indptr, indices, x, largest, *three(transposed))
    if OPERATORS and torch.compiler.is_compiling():
        return torch.ops.gnnscale.extremes(*inputs)[0]
    return _Extremes.apply(*inputs)[0]


def _extremes(
    indptr: Tensor,
    indices: Tensor,
    x: Tensor,
    largest: bool,
    indptr_t: Tensor | None,
    indices_t: Tensor | None,
    order: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Give the extremes, and how many edges lead to each, of bfloat16 rows in float32."""
    check_structure(indptr, indices)
    check_tensors(x=x)
    if not isinstance(largest, bool):
        raise TypeError(f"largest must be True or False; got {type(largest).__name__}.")
    if x.dtype not in (torch.float32, torch.float64, torch.bfloat16):
        raise TypeError(f"x must be float32, float64 or bfloat16; got {str(x.dtype).removeprefix('torch.')}.")
    if x.dim() != 2:
        raise ValueError(f"x must have two dimensions, (num_src, F); its shape is {tuple(x.shape)}.")
    check_devices(indptr, indices=indices, x=x)
    check_transposed(indptr_t, indices_t, order, len(x), len(indices))
    x = plain(x)
    if (cuda := cuda_kernels(x.device)) is not None and x.dtype != torch.float64:
        return gpu.extremes(cuda, indptr, indices, x, largest)
    if x.dtype == torch.bfloat16:  # which nothing below reads
        out, ties = _extremes(indptr, indices, x.float(), largest, None, None, None)
        return out.to(x.dtype), ties
    if native is None or x.device.type != "cpu":
        return reference.extremes(indptr.long(), indices, x, largest)
    out, ties = (new_rows(len(indptr) - 1, x.shape[1], x.dtype) for _ in range(2))
    native.extremes(indptr.contiguous(), indices.contiguous(), x, largest, out, ties, torch.get_num_threads())
    return out, ties


def _gradient(
    indptr: Tensor,
    indices: Tensor,
    x: Tensor,
    extreme: Tensor,
    share: Tensor,
    indptr_t: Tensor | None,
    indices_t: Tensor | None,
    order: Tensor | None,
) -> Tensor:
    check_transposed(indptr_t, indices_t, order, len(x), len(indices))
    if indptr_t is None or indices_t is None:
        indptr_t, indices_t, order = transpose_csr(indptr, indices, len(x))
    for name, rows, dtype in (("extreme", extreme, x.dtype), ("share", share, sum_dtype(x))):
        wanted = (len(indptr) - 1, *x.shape[1:])
        if rows.shape != wanted or rows.dtype != dtype:
            raise ValueError(f"{name} is {rows.dtype} of the shape {tuple(rows.shape)}; {dtype} of {wanted} is needed.")
    x, extreme, share = (plain(rows) for rows in (x, extreme, share))
    if (cuda := cuda_kernels(x.device)) is not None and x.dtype != torch.float64:
        return gpu.extremes_backward(cuda, indptr_t, indices_t, x, extreme, share)
    if x.dtype == torch.bfloat16:  # which nothing below reads
        wide = x.float(), extreme.float(), share
        return _gradient(indptr, indices, *wide, indptr_t, indices_t, order).to(x.dtype)
    if native is None or x.device.type != "cpu":
        return reference.extremes_backward(indptr_t.long(), indices_t, x, extreme, share)
    grad = new_rows(x.shape[0], x.shape[1], x.dtype)
    threads = torch.get_num_threads()
    native.extremes_backward(indptr_t.contiguous(), indices_t.contiguous(), x, extreme, share, grad, threads)
    return grad


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    indptr, indices, x, _, *transposed = inputs
    ctx.save_for_backward(indptr, indices, x, *output, *transposed)
    ctx.mark_non_differentiable(output[1])


def _backward_of(gradient: Any) -> Any:
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        indptr, indices, x, extreme, ties, *transposed = ctx.saved_tensors
        return (None, None, gradient(indptr, indices, x, extreme, grad / ties, *transposed), *5 * [None])[:7]

    return backward


class _Extremes(torch.autograd.Function):
    """The gradient of an extreme, shared by its ties, goes to the rows that are equal to it."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        output = _extremes(*inputs)
        _remember(ctx, inputs, output)
        return output

    backward = staticmethod(once_differentiable(_backward_of(_gradient)))  # type: ignore[assignment]


_TRANSPOSED = "Tensor? indptr_t, Tensor? indices_t, Tensor? order"

define(
    "extremes",
    f"(Tensor indptr, Tensor indices, Tensor x, bool largest, {_TRANSPOSED}) -> (Tensor, Tensor)",
    _extremes,
    lambda indptr, indices, x, largest, *transposed: tuple(
        x.new_empty(len(indptr) - 1, x.shape[1], dtype=dtype) for dtype in (x.dtype, sum_dtype(x))
    ),
)
define(
    "extremes_backward",
    f"(Tensor indptr, Tensor indices, Tensor x, Tensor extreme, Tensor share, {_TRANSPOSED}) -> Tensor",
    _gradient,
    lambda indptr, indices, x, *others: torch.empty_like(x, memory_format=torch.contiguous_format),
)
differentiate("extremes", _remember, lambda: _backward_of(torch.ops.gnnscale.extremes_backward))
