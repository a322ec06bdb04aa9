"""Products with rows of a matrix that is mostly zero, with dropout on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gnnscale.ops import reference
from gnnscale.ops._backend import native
from gnnscale.ops._checks import check_tensor, check_vector, integer

_KEEP_ALL = 65536


@dataclass(frozen=True, eq=False)
class SparseMatrix:
    """A matrix in CSR form.

    Attributes
    ----------
    indptr : Tensor
        Shape (N + 1,), int64, from 0 to the number of entries.
    indices : Tensor
        Shape (entries,), int32: the column of each; distinct in a row.
    values : Tensor
        Shape (entries,), float32.
    num_cols : int
        Number of columns.

    Raises
    ------
    TypeError, ValueError
        If a dtype or a shape does not fit.
    """

    indptr: Tensor
    indices: Tensor
    values: Tensor
    num_cols: int

    def __post_init__(self) -> None:
        check_vector("indptr", self.indptr, torch.int64)
        check_vector("indices", self.indices, torch.int32)
        check_vector("values", self.values, torch.float32)
        integer("num_cols", self.num_cols)
        if not len(self.indptr) or len(self.indices) != len(self.values) or self.num_cols < 0:
            raise ValueError(
                f"{len(self.indptr)} pointers, {len(self.indices)} indices and {len(self.values)} values are no CSR "
                f"matrix of {self.num_cols} columns; n rows have n + 1 pointers, an entry an index and a value."
            )

    @classmethod
    def of(cls, dense: Tensor) -> SparseMatrix:
        """What is not zero in a matrix of float32 numbers on the CPU.

        Examples
        --------
        >>> import torch
        >>> SparseMatrix.of(torch.tensor([[0.0, 2.0], [0.0, 0.0]])).indices.tolist()
        [1]
        """
        check_tensor("dense", dense, torch.float32)
        if dense.dim() != 2:
            raise ValueError(f"dense must have two dimensions; its shape is {tuple(dense.shape)}.")
        counts, indices, values = [], [], []
        # Positions are int64: of some rows at a time, they stay small.
        for part in dense.split(max(1, (1 << 22) // max(1, dense.shape[1]))):
            row, column = part.nonzero(as_tuple=True)
            counts.append(torch.bincount(row, minlength=len(part)))
            indices.append(column.int())
            values.append(part[row, column])
        indptr = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cat(counts).cumsum(0)])
        return cls(indptr, torch.cat(indices), torch.cat(values), dense.shape[1])


def multiply_rows(
    matrix: SparseMatrix, rows: Tensor | None, dense: Tensor, *, keep: int = _KEEP_ALL, key: int = 0
) -> Tensor:
    """Multiply rows of a matrix that is mostly zero, after dropout, by a dense one: ``dropout(matrix[rows]) @ dense``.

    Nothing is copied beforehand. Dropout's mask is that of :func:`gnnscale.ops.dropout` on ``matrix[rows]`` in dense
    form. Differentiable once in `dense`; the gradient makes the mask anew. It uses up to ``torch.get_num_threads()``
    threads, and the result does not depend on their number.

    Parameters
    ----------
    matrix : SparseMatrix
        Of N rows and F columns.
    rows : Tensor or None
        Shape (n,), int64, each in [0, N); None for all rows.
    dense : Tensor
        Shape (F, H), float32, on the CPU.
    keep : int
        In [1, 65536]: an entry stays with probability ``keep / 65536``, divided by it.
    key : int
        In [0, 2**64): of the mask.

    Returns
    -------
    Tensor
        Shape (n, H), float32.

    Raises
    ------
    IndexError
        If a row or a column is none of the matrix.
    TypeError, ValueError
        If a dtype, a shape or a number does not fit.

    Examples
    --------
    >>> import torch
    >>> from gnnscale.ops import SparseMatrix, multiply_rows
    >>> matrix = SparseMatrix.of(torch.tensor([[0.0, 2.0], [0.0, 0.0], [1.0, 0.0]]))
    >>> multiply_rows(matrix, torch.tensor([2, 0]), torch.tensor([[3.0], [5.0]])).tolist()
    [[3.0], [10.0]]
    """
    if not isinstance(matrix, SparseMatrix):
        raise TypeError(f"matrix must be a SparseMatrix; got {type(matrix).__name__}.")
    if matrix.values.requires_grad and torch.is_grad_enabled():
        raise ValueError("matrix.values wants a gradient, which multiply_rows does not give; pass values.detach().")
    if rows is not None:
        check_vector("rows", rows, torch.int64)
    if not isinstance(dense, Tensor):
        raise TypeError(f"dense must be a torch tensor; got {type(dense).__name__}.")
    keep, key = integer("keep", keep), integer("key", key)
    if dense.dtype != torch.float32 or dense.device.type != "cpu":
        raise TypeError(f"dense is {dense.dtype} on {dense.device}; it has to be float32 on the CPU.")
    if dense.dim() != 2 or dense.shape[0] != matrix.num_cols:
        raise ValueError(f"dense has the shape {tuple(dense.shape)}; it has to be ({matrix.num_cols}, H).")
    if not 1 <= keep <= _KEEP_ALL or not 0 <= key < 2**64:
        raise ValueError(f"keep is {keep} and key {key}; they have to lie in [1, 65536] and in [0, 2**64).")
    return _Product.apply(matrix, rows, keep, key, dense)


class _Product(torch.autograd.Function):
    """The gradient is the product with the transpose, through the same mask."""

    @staticmethod
    def forward(ctx: Any, matrix: SparseMatrix, rows: Tensor | None, keep: int, key: int, dense: Tensor) -> Tensor:
        ctx.arguments = matrix, rows, keep, key
        return _multiply(matrix, rows, keep, key, dense, transposed=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, None, None, Tensor]:
        matrix, rows, keep, key = ctx.arguments
        return None, None, None, None, _multiply(matrix, rows, keep, key, grad, transposed=True)


def _multiply(
    matrix: SparseMatrix, rows: Tensor | None, keep: int, key: int, dense: Tensor, transposed: bool
) -> Tensor:
    num_rows = len(matrix.indptr) - 1 if rows is None else len(rows)
    dense = dense.detach().contiguous().resolve_neg()
    out = dense.new_empty(matrix.num_cols if transposed else num_rows, dense.shape[1])
    arguments = matrix.indptr, matrix.indices, matrix.values, rows, matrix.num_cols, keep, key, transposed, dense, out
    if native is None:
        reference.multiply_rows(*arguments)
    else:
        native.multiply_rows(*arguments, torch.get_num_threads())
    return out
