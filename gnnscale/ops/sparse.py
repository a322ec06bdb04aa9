"""Aggregation as a differentiable product with a sparse matrix, and the transpose that its gradient needs."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gnnscale.ops import reference
from gnnscale.ops._backend import native

Transposed = tuple[Tensor, Tensor, Tensor]


def transpose_csr(indptr: Tensor, indices: Tensor, num_cols: int) -> Transposed:
    """Transpose a CSR structure by a stable counting sort.

    Parameters
    ----------
    indptr : Tensor
        (num_rows + 1,) int32 or int64.
    indices : Tensor
        (num_edges,) int32 or int64, each in [0, num_cols).
    num_cols : int
        Number of columns.

    Returns
    -------
    indptr_t : Tensor
        (num_cols + 1,), of the dtype of `indptr`.
    indices_t : Tensor
        (num_edges,), of the dtype of `indices`; ascending in each row.
    permutation : Tensor
        (num_edges,) int64: edge e of the transpose is edge ``permutation[e]`` of the input.

    Raises
    ------
    TypeError
        If a dtype does not fit.
    ValueError
        If the arrays are no CSR matrix with that many columns.

    Examples
    --------
    >>> import torch
    >>> from gnnscale.ops import transpose_csr
    >>> [part.tolist() for part in transpose_csr(torch.tensor([0, 2, 3]), torch.tensor([1, 0, 1]), 2)]
    [[0, 1, 3], [0, 0, 1], [1, 0, 2]]
    """
    _check_structure(indptr, indices)
    if num_cols < 0:
        raise ValueError(f"num_cols is {num_cols}; it cannot be negative.")
    wide, indices = indptr.long().contiguous(), indices.contiguous()
    if native is None or indices.device.type != "cpu":
        indptr_t, indices_t, permutation = reference.transpose_csr(wide, indices, num_cols)
    else:
        indptr_t = torch.empty(num_cols + 1, dtype=torch.int64)
        indices_t = torch.empty_like(indices)
        permutation = torch.empty(len(indices), dtype=torch.int64)
        native.transpose_csr(wide, indices, indptr_t, indices_t, permutation)
    return indptr_t.to(indptr.dtype), indices_t, permutation


def spmm(
    indptr: Tensor,
    indices: Tensor,
    weight: Tensor | None,
    x: Tensor,
    *,
    diagonal: Tensor | None = None,
    transposed: Transposed | None = None,
) -> Tensor:
    """Aggregate: ``out[v] = diagonal[v] * x[v] + Σ_e weight[e] * x[indices[e]]`` over the edges e of row v.

    Differentiable once in `x` and in `weight`. On the CPU it uses up to ``torch.get_num_threads()`` threads;
    the result does not depend on their number.

    Parameters
    ----------
    indptr : Tensor
        (num_dst + 1,) int32 or int64.
    indices : Tensor
        (num_edges,) int32 or int64, each in [0, num_src).
    weight : Tensor or None
        (num_edges,), of the dtype of `x`; None stands for ones.
    x : Tensor
        (num_src, F) float32 or float64.
    diagonal : Tensor, optional
        (n,), of the dtype of `x`, n at most num_dst and num_src: what the first rows get of themselves; no gradient
        flows into it.
    transposed : tuple of Tensor, optional
        What `transpose_csr` gives for this structure. Without it the gradient in `x` makes it anew, so pass
        it for a structure used more than once.

    Returns
    -------
    Tensor
        (num_dst, F), of the dtype of `x`; zero where a row has no edge.

    Raises
    ------
    TypeError
        If a dtype does not fit.
    ValueError
        If a shape or a device does not fit, or the arrays are no CSR matrix with num_src columns.

    Examples
    --------
    >>> import torch
    >>> from gnnscale.ops import spmm
    >>> x = torch.tensor([[1.0], [2.0], [4.0]])
    >>> spmm(torch.tensor([0, 2, 3]), torch.tensor([0, 2, 1]), torch.tensor([1.0, 0.5, 3.0]), x).tolist()
    [[3.0], [6.0]]
    """
    _check_structure(indptr, indices)
    if x.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"x must be float32 or float64; got {str(x.dtype).removeprefix('torch.')}.")
    if x.dim() != 2:
        raise ValueError(f"x must have two dimensions, (num_src, F); its shape is {tuple(x.shape)}.")
    if weight is not None:
        if weight.dtype != x.dtype:
            raise TypeError(f"weight is {weight.dtype} and x is {x.dtype}; give both the same dtype.")
        if weight.shape != indices.shape:
            raise ValueError(
                f"weight has shape {tuple(weight.shape)}; one number for each of the {len(indices)} edges is needed."
            )
    if diagonal is not None:
        most = min(len(indptr) - 1, len(x))
        if diagonal.dtype != x.dtype or diagonal.dim() != 1 or len(diagonal) > most:
            raise ValueError(
                f"diagonal is {diagonal.dtype} of the shape {tuple(diagonal.shape)}; it has to be a vector of "
                f"{x.dtype} with at most {most} entries."
            )
    for name, tensor in (("indices", indices), ("weight", weight), ("x", x), ("diagonal", diagonal)):
        if tensor is not None and tensor.device != indptr.device:
            raise ValueError(f"{name} is on {tensor.device} and indptr on {indptr.device}; move it there.")
    if transposed is not None and (len(transposed[0]) != len(x) + 1 or len(transposed[1]) != len(indices)):
        raise ValueError("transposed belongs to another structure; pass transpose_csr(indptr, indices, len(x)).")
    return _SpMM.apply(indptr, indices, weight, x, diagonal, transposed)


class _SpMM(torch.autograd.Function):
    """The gradient in x is the product with the transpose; in weight, a dot product an edge."""

    @staticmethod
    def forward(
        ctx: Any,
        indptr: Tensor,
        indices: Tensor,
        weight: Tensor | None,
        x: Tensor,
        diagonal: Tensor | None,
        transposed: Transposed | None,
    ) -> Tensor:
        ctx.save_for_backward(indptr, indices, weight, x if ctx.needs_input_grad[2] else None, diagonal)
        ctx.num_src = len(x)
        ctx.transposed = transposed
        return _product(indptr, indices, weight, diagonal, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, Tensor | None, Tensor | None, None, None]:
        indptr, indices, weight, x, diagonal = ctx.saved_tensors
        grad_weight = grad_x = None
        if ctx.needs_input_grad[2]:
            grad_weight = _edge_dots(indptr, indices, grad, x)
        if ctx.needs_input_grad[3]:
            indptr_t, indices_t, permutation = ctx.transposed or transpose_csr(indptr, indices, ctx.num_src)
            weight_t = None if weight is None else weight.index_select(0, permutation)
            grad_x = _product(indptr_t, indices_t, weight_t, diagonal, grad)
        return None, None, grad_weight, grad_x, None, None


def _product(indptr: Tensor, indices: Tensor, weight: Tensor | None, diagonal: Tensor | None, x: Tensor) -> Tensor:
    wide, indices, x = indptr.long().contiguous(), indices.contiguous(), x.detach().contiguous()
    weight, diagonal = (None if values is None else values.detach().contiguous() for values in (weight, diagonal))
    if native is None or x.device.type != "cpu":
        return reference.spmm(wide, indices, weight, x, diagonal)
    out = x.new_empty(len(wide) - 1, x.shape[1])
    native.spmm(wide, indices, weight, diagonal, x, out, torch.get_num_threads())
    return out


def _edge_dots(indptr: Tensor, indices: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    wide, indices = indptr.long().contiguous(), indices.contiguous()
    rows, cols = rows.detach().contiguous(), cols.detach().contiguous()
    if native is None or rows.device.type != "cpu":
        return reference.sddmm(wide, indices, rows, cols)
    out = rows.new_empty(len(indices))
    native.sddmm(wide, indices, rows, cols, out, torch.get_num_threads())
    return out


def _check_structure(indptr: Tensor, indices: Tensor) -> None:
    for name, tensor in (("indptr", indptr), ("indices", indices)):
        if tensor.dtype not in (torch.int32, torch.int64):
            got = str(tensor.dtype).removeprefix("torch.")
            raise TypeError(f"{name} must be int32 or int64; got {got}.")
        if tensor.dim() != 1:
            raise ValueError(f"{name} must have one dimension; its shape is {tuple(tensor.shape)}.")
    if len(indptr) == 0:
        raise ValueError("indptr is empty; a matrix of n rows has n + 1 pointers.")
