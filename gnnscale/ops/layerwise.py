"""What layer-wise samplers draw from, and drawing from it."""

from __future__ import annotations

import operator

import torch
from torch import Tensor

from gnnscale.ops import reference
from gnnscale.ops._backend import native
from gnnscale.ops._checks import check_csc, check_vector


def column_sums(
    indptr: Tensor,
    indices: Tensor,
    destinations: Tensor,
    *,
    rows: Tensor | None = None,
    columns: Tensor | None = None,
    weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """For each source u of some nodes' in-edges, Σ_v rows_v weight_vu² · columns_u over its edges to them.

    Parameters
    ----------
    indptr : Tensor
        (N + 1,) int64: the graph's CSC pointers.
    indices : Tensor
        (E,) int32 or int64: source ids.
    destinations : Tensor
        (D,) int64: node ids.
    rows, columns : Tensor, optional
        (N,) float64; ones where absent.
    weight : Tensor, optional
        (E,) float32; ones where absent.

    Returns
    -------
    sources : Tensor
        (S,) int64: the sources, in the order of first appearance among the edges.
    sums : Tensor
        (S,) float64.

    Raises
    ------
    TypeError
        If a tensor has the wrong dtype.
    ValueError
        If a destination is no node, a tensor has the wrong length, or the arrays are no CSC structure where they are
        read.

    Examples
    --------
    >>> import torch
    >>> indptr, indices = torch.tensor([0, 2, 3, 3]), torch.tensor([2, 1, 2])
    >>> column_sums(indptr, indices, torch.tensor([0, 1]))
    (tensor([2, 1]), tensor([2., 1.], dtype=torch.float64))
    """
    check_csc(indptr, indices)
    check_vector("destinations", destinations, torch.int64)
    for name, values, dtype, length in (
        ("rows", rows, torch.float64, len(indptr) - 1),
        ("columns", columns, torch.float64, len(indptr) - 1),
        ("weight", weight, torch.float32, len(indices)),
    ):
        if values is not None:
            check_vector(name, values, dtype)
            if len(values) != length:
                raise ValueError(f"{name} holds {len(values)} values; it needs {length}.")
    return (reference if native is None else native).column_sums(indptr, indices, destinations, rows, columns, weight)


def draw_in_succession(chance: Tensor, size: int, *, key: int) -> Tensor:
    """Draw distinct positions one after the other, each in proportion to its chance among those still there.

    Parameters
    ----------
    chance : Tensor
        (n,) float64, at least 0; those of 0 are never drawn.
    size : int
        Most positions to draw.
    key : int
        In [0, 2**64); see `gnnscale.ops.random.key_of`.

    Returns
    -------
    Tensor
        int64: the positions in the order drawn; in ascending order where all come that have a chance.

    Raises
    ------
    TypeError
        If `chance` is not float64, or a number is no integer.
    ValueError
        If a chance is negative or not finite, or `size` is negative.

    Examples
    --------
    >>> import torch
    >>> sorted(draw_in_succession(torch.tensor([2.0, 0.0, 1.0, 9.0]).double(), 3, key=5).tolist())
    [0, 2, 3]
    """
    check_vector("chance", chance, torch.float64)
    size = _check_size(size)
    return (reference if native is None else native).draw_in_succession(chance, size, operator.index(key))


def draw_with_replacement(cumulative: Tensor, size: int, *, key: int) -> tuple[Tensor, Tensor]:
    """Draw positions independently, each in proportion to its chance.

    Parameters
    ----------
    cumulative : Tensor
        (n,) float64: the sums of the chances up to each one.
    size : int
        Number of draws.
    key : int
        In [0, 2**64).

    Returns
    -------
    positions, counts : Tensor
        int64: the positions that were drawn, in ascending order, and how often; none where nothing has a chance.

    Raises
    ------
    TypeError
        If `cumulative` is not float64, or a number is no integer.
    ValueError
        If `size` is negative.

    Examples
    --------
    >>> import torch
    >>> positions, counts = draw_with_replacement(torch.tensor([0.0, 1.0, 1.0, 4.0]).double(), 100, key=0)
    >>> positions.tolist(), counts.sum().item()
    ([1, 3], 100)
    """
    check_vector("cumulative", cumulative, torch.float64)
    size = _check_size(size)
    return (reference if native is None else native).draw_with_replacement(cumulative, size, operator.index(key))


def _check_size(size: int) -> int:
    size = operator.index(size)
    if size < 0:
        raise ValueError(f"size is {size}; give a number of positions, at least 0.")
    return size
