"""Aggregation as a differentiable product with a sparse matrix, and the transpose that its gradient needs."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gnnscale.ops import gpu, reference
from gnnscale.ops._backend import cuda_kernels, native
from gnnscale.ops._library import OPERATORS, define, differentiate

Transposed = tuple[Tensor, Tensor, Tensor]

NOT_TRANSPOSED: tuple[None, None, None] = (None, None, None)
_LARGE = 1 << 20  # numbers; below, the memory that malloc keeps does as well


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
    check_structure(indptr, indices)
    if num_cols < 0:
        raise ValueError(f"num_cols is {num_cols}; it cannot be negative.")
    wide, indices = indptr.long().contiguous(), indices.contiguous()
    if cuda_kernels(indices.device) is not None:
        indptr_t, indices_t, permutation = gpu.transpose_csr(wide, indices, num_cols)
    elif native is None or indices.device.type != "cpu":
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
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Aggregate: ``out[v] = diagonal[v] * x[v] + Σ_e weight[e] * x[indices[e]]`` over the edges e of row v.

    Differentiable once in `x`, `weight` and `diagonal`. On the CPU it uses up to ``torch.get_num_threads()`` threads;
    the result does not depend on their number. On a GPU the structure is taken as it is: to check what the arrays hold,
    the host would have to wait. ``torch.ops.gnnscale.spmm`` is the same as an operator, which
    `torch.compile` does not look into.

    Parameters
    ----------
    indptr : Tensor
        (num_dst + 1,) int32 or int64.
    indices : Tensor
        (num_edges,) int32 or int64, each in [0, num_src).
    weight : Tensor or None
        (num_edges,), of the dtype of `x` (float32 for bfloat16 rows); None stands for ones.
    x : Tensor
        (num_src, F) float32, float64 or bfloat16, which is added up in float32.
    diagonal : Tensor, optional
        (n,), of the dtype of the weights, n at most num_dst and num_src: what the first rows get of themselves.
    transposed : tuple of Tensor, optional
        What `transpose_csr` gives for this structure. Without it the gradient in `x` makes it anew, so pass
        it for a structure used more than once. No more than its types and lengths is checked: that of another
        structure with as many nodes and edges gives wrong gradients.
    dtype : torch.dtype, optional
        Of the result; that of `x` where absent. Of bfloat16 rows float32 is possible too.

    Returns
    -------
    Tensor
        (num_dst, F); zero where a row has no edge.

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
    inputs = (indptr, indices, weight, diagonal, x, *three(transposed), dtype)
    if OPERATORS and torch.compiler.is_compiling():
        return torch.ops.gnnscale.spmm(*inputs)
    _check_product(*inputs)
    return _SpMM.apply(*inputs)


def _check_product(
    indptr: Tensor,
    indices: Tensor,
    weight: Tensor | None,
    diagonal: Tensor | None,
    x: Tensor,
    indptr_t: Tensor | None,
    indices_t: Tensor | None,
    order: Tensor | None,
    dtype: torch.dtype | None,
) -> None:
    check_structure(indptr, indices)
    check_tensors(x=x, weight=weight, diagonal=diagonal)
    if x.dtype not in (torch.float32, torch.float64, torch.bfloat16):
        raise TypeError(f"x must be float32, float64 or bfloat16; got {str(x.dtype).removeprefix('torch.')}.")
    if x.dim() != 2:
        raise ValueError(f"x must have two dimensions, (num_src, F); its shape is {tuple(x.shape)}.")
    if dtype not in (None, x.dtype) and (x.dtype, dtype) != (torch.bfloat16, torch.float32):
        raise TypeError(f"dtype is {dtype} and x is {x.dtype}; only rows of bfloat16 give another one, float32.")
    wanted = sum_dtype(x)
    if weight is not None:
        if weight.dtype != wanted:
            raise TypeError(f"weight is {weight.dtype} and x is {x.dtype}; the weights have to be {wanted}.")
        if weight.shape != indices.shape:
            raise ValueError(
                f"weight has shape {tuple(weight.shape)}; one number for each of the {len(indices)} edges is needed."
            )
    if diagonal is not None:
        most = min(len(indptr) - 1, len(x))
        if diagonal.dtype != wanted or diagonal.dim() != 1 or len(diagonal) > most:
            raise ValueError(
                f"diagonal is {diagonal.dtype} of the shape {tuple(diagonal.shape)}; it has to be a vector of "
                f"{wanted} with at most {most} entries."
            )
    check_devices(indptr, indices=indices, weight=weight, x=x, diagonal=diagonal)
    check_transposed(indptr_t, indices_t, order, len(x), len(indices))


def sum_dtype(x: Tensor) -> torch.dtype:
    """Give the dtype that rows of `x` are added up in."""
    return torch.float32 if x.dtype == torch.bfloat16 else x.dtype


def _product(
    indptr: Tensor,
    indices: Tensor,
    weight: Tensor | None,
    diagonal: Tensor | None,
    x: Tensor,
    indptr_t: Tensor | None,
    indices_t: Tensor | None,
    order: Tensor | None,
    dtype: torch.dtype | None,
) -> Tensor:
    """Forward; the transpose is for the gradient alone."""
    return _multiply(indptr, indices, None, weight, diagonal, x, dtype or x.dtype)


def _gradients(
    indptr: Tensor,
    indices: Tensor,
    weight: Tensor | None,
    diagonal: Tensor | None,
    x: Tensor,
    indptr_t: Tensor | None,
    indices_t: Tensor | None,
    order: Tensor | None,
    grad: Tensor,
    wants_x: bool,
    wants_weight: bool,
) -> tuple[Tensor, Tensor]:
    """Give the gradients in x and in the weights; the one that is not wanted has no elements."""
    of_weight = grad.new_empty(len(indices) if wants_weight else 0, dtype=sum_dtype(grad))
    if not wants_x:
        if wants_weight:
            _dot(indptr, indices, x, grad, of_weight)
        return grad.new_empty(0), of_weight
    if indptr_t is None or indices_t is None or order is None:
        indptr_t, indices_t, order = transpose_csr(indptr, indices, len(x))
    dots = of_weight if wants_weight else None
    return _multiply(indptr_t, indices_t, order, weight, diagonal, grad, x.dtype, x, dots), of_weight


def _multiply(
    indptr: Tensor,
    indices: Tensor,
    order: Tensor | None,
    weight: Tensor | None,
    diagonal: Tensor | None,
    x: Tensor,
    dtype: torch.dtype,
    rows: Tensor | None = None,
    dots: Tensor | None = None,
) -> Tensor:
    x = plain(x)
    if (cuda := cuda_kernels(x.device)) is not None and x.dtype != torch.float64:
        if dots is not None:
            assert rows is not None
            gpu.edge_dots(cuda, indptr, indices, order, x, plain(rows), dots)
        weight = None if weight is None else plain(weight)
        diagonal = None if diagonal is None else plain(diagonal)
        return gpu.spmm(cuda, indptr, indices, order, weight, diagonal, x, dtype)
    if native is None or x.device.type != "cpu":
        wide = x.to(sum_dtype(x))
        indptr = indptr.long()
        if dots is not None:
            assert rows is not None
            places = slice(None) if order is None else order
            dots[places] = reference.sddmm(indptr, indices, rows.to(wide.dtype), wide)
        if weight is not None and order is not None:
            weight = weight.index_select(0, order)
        return reference.spmm(indptr, indices, weight, wide, diagonal).to(dtype)
    out = new_rows(len(indptr) - 1, x.shape[1], dtype)
    native.spmm(
        indptr.contiguous(),
        indices.contiguous(),
        None if weight is None else plain(weight),
        None if order is None else order.contiguous(),
        None if diagonal is None else plain(diagonal),
        x,
        out,
        None if dots is None or rows is None else plain(rows),
        dots,
        torch.get_num_threads(),
    )
    return out


def _dot(indptr: Tensor, indices: Tensor, x: Tensor, rows: Tensor, dots: Tensor) -> None:
    """Put ``<rows[v], x[indices[e]]>`` into dots[e] for each edge e of row v."""
    x, rows = plain(x), plain(rows)
    if (cuda := cuda_kernels(x.device)) is not None and x.dtype != torch.float64:
        gpu.edge_dots(cuda, indptr, indices, None, x, rows, dots)
        return
    if native is None or x.device.type != "cpu":
        wide = x.to(sum_dtype(x))
        dots.copy_(reference.sddmm(indptr.long(), indices, rows.to(wide.dtype), wide))
        return
    native.spmm(
        indptr.contiguous(), indices.contiguous(), None, None, None, x, None, rows, dots, torch.get_num_threads()
    )


def new_rows(count: int, width: int, dtype: torch.dtype) -> Tensor:
    """Give a tensor of that shape on the CPU, not initialised; large ones come from memory that is used again."""
    if native is not None and dtype == torch.float32 and count * width >= _LARGE:
        return native.recycled(count, width)
    return torch.empty(count, width, dtype=dtype)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    indptr, indices, weight, diagonal, x, indptr_t, indices_t, order, _ = inputs
    wants_x = any(ctx.needs_input_grad[2:4])
    ctx.save_for_backward(indptr, indices, weight, diagonal, x if wants_x else None, indptr_t, indices_t, order)
    ctx.like = x.new_empty(0).expand(len(x), 0)  # rows and dtype of x without its memory


def _backward_of(gradients: Any) -> Any:
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        indptr, indices, weight, diagonal, x, *transposed = ctx.saved_tensors
        _, _, wants_weight, wants_diagonal, wants_x, *_ = ctx.needs_input_grad
        of_x = of_weight = of_diagonal = None
        if wants_weight or wants_x:
            like = ctx.like if x is None else x
            of_x, of_weight = gradients(
                indptr, indices, weight, diagonal, like, *transposed, grad, wants_x, wants_weight
            )
        if wants_diagonal:
            own = grad[: len(diagonal)] * x[: len(diagonal)]
            of_diagonal = own.sum(1, dtype=diagonal.dtype)
        of_weight, of_x = of_weight if wants_weight else None, of_x if wants_x else None
        return None, None, of_weight, of_diagonal, of_x, None, None, None, None

    return backward


class _SpMM(torch.autograd.Function):
    """One pass over the transpose gives the gradients in x and in the weights."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        _remember(ctx, inputs, inputs[4])
        return _product(*inputs)

    backward = staticmethod(once_differentiable(_backward_of(_gradients)))  # type: ignore[assignment]


def _checked_product(*inputs: Any) -> Tensor:
    _check_product(*inputs)
    return _product(*inputs)


_STRUCTURE = "Tensor indptr, Tensor indices, Tensor? weight, Tensor? diagonal, Tensor x"
_TRANSPOSED = "Tensor? indptr_t, Tensor? indices_t, Tensor? order"

define(
    "spmm",
    f"({_STRUCTURE}, {_TRANSPOSED}, ScalarType? dtype) -> Tensor",
    _checked_product,
    lambda indptr, indices, weight, diagonal, x, indptr_t, indices_t, order, dtype: x.new_empty(
        len(indptr) - 1, x.shape[1], dtype=dtype
    ),
)
define(
    "spmm_backward",
    f"({_STRUCTURE}, {_TRANSPOSED}, Tensor grad, bool wants_x, bool wants_weight) -> (Tensor, Tensor)",
    _gradients,
    lambda indptr, indices, weight, diagonal, x, indptr_t, indices_t, order, grad, wants_x, wants_weight: (
        grad.new_empty((len(x), grad.shape[1]) if wants_x else (0,), dtype=x.dtype if wants_x else grad.dtype),
        grad.new_empty(len(indices) if wants_weight else 0, dtype=sum_dtype(grad)),
    ),
)
differentiate("spmm", _remember, lambda: _backward_of(torch.ops.gnnscale.spmm_backward))


def plain(rows: Tensor) -> Tensor:
    """Give numbers as they stand in memory: contiguous, and without a sign that torch has put off."""
    return rows.detach().contiguous().resolve_neg()


def check_tensors(**values: Tensor | None) -> None:
    """Refuse what is there and no dense tensor."""
    for name, value in values.items():
        if value is None and name != "x":
            continue
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a torch tensor; got {type(value).__name__}.")
        if value.layout != torch.strided:
            got = str(value.layout).removeprefix("torch.")
            raise TypeError(f"{name} must be a dense tensor; its layout is {got}. Pass {name}.to_dense().")


def three(transposed: Transposed | None) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Give the parts of a transpose, or three times None."""
    if transposed is None:
        return NOT_TRANSPOSED
    if not isinstance(transposed, (tuple, list)) or [isinstance(part, Tensor) for part in transposed] != 3 * [True]:
        raise TypeError("transposed must be the three tensors that transpose_csr(indptr, indices, len(x)) gives.")
    return transposed[0], transposed[1], transposed[2]


def check_transposed(
    indptr_t: Tensor | None, indices_t: Tensor | None, order: Tensor | None, num_cols: int, num_edges: int
) -> None:
    """Refuse a transpose whose types or lengths are not those of this structure's."""
    if indptr_t is None and indices_t is None and order is None:
        return
    if indptr_t is None or indices_t is None or order is None:
        raise TypeError("transposed must be the three tensors that transpose_csr(indptr, indices, len(x)) gives.")
    ids = (torch.int32, torch.int64)
    if indptr_t.dtype not in ids or indices_t.dtype not in ids or order.dtype != torch.int64:
        raise TypeError(
            f"transposed holds {indptr_t.dtype}, {indices_t.dtype} and {order.dtype}; transpose_csr gives pointers and "
            "indices of int32 or int64 and a permutation of int64."
        )
    if (indptr_t.shape, indices_t.shape, order.shape) != ((num_cols + 1,), (num_edges,), (num_edges,)):
        raise ValueError("transposed belongs to another structure; pass transpose_csr(indptr, indices, len(x)).")


def check_devices(indptr: Tensor, **others: Tensor | None) -> None:
    """Refuse tensors, given by their names, that are on another device than `indptr`."""
    for name, tensor in others.items():
        if tensor is not None and tensor.device != indptr.device:
            raise ValueError(f"{name} is on {tensor.device} and indptr on {indptr.device}; move it there.")


def check_structure(indptr: Tensor, indices: Tensor) -> None:
    """Refuse arrays whose types or shapes are not those of a CSR structure."""
    for name, tensor in (("indptr", indptr), ("indices", indices)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a torch tensor; got {type(tensor).__name__}.")
        if tensor.dtype not in (torch.int32, torch.int64):
            got = str(tensor.dtype).removeprefix("torch.")
            raise TypeError(f"{name} must be int32 or int64; got {got}.")
        if tensor.dim() != 1:
            raise ValueError(f"{name} must have one dimension; its shape is {tuple(tensor.shape)}.")
    if len(indptr) == 0:
        raise ValueError("indptr is empty; a matrix of n rows has n + 1 pointers.")
