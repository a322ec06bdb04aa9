"""What layer-wise samplers draw from, and drawing from it."""

from __future__ import annotations

import operator

import torch
from torch import Tensor

from gnnscale.ops import gpu_sampling, reference
from gnnscale.ops._backend import kernels_for, native
from gnnscale.ops._checks import check_csc, check_vector, thread_count


def column_sums(
    indptr: Tensor,
    indices: Tensor,
    destinations: Tensor,
    *,
    rows: Tensor | None = None,
    columns: Tensor | None = None,
    weight: Tensor | None = None,
    num_threads: int = 1,
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
    num_threads : int
        Most threads to use; the result does not depend on it.

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
    cuda, reached = kernels_for(destinations)
    check_csc(indptr, indices, reached)
    check_vector("destinations", destinations, torch.int64, reached=reached)
    for name, values, dtype, length in (
        ("rows", rows, torch.float64, len(indptr) - 1),
        ("columns", columns, torch.float64, len(indptr) - 1),
        ("weight", weight, torch.float32, len(indices)),
    ):
        if values is not None:
            check_vector(name, values, dtype, reached=reached)
            if len(values) != length:
                raise ValueError(f"{name} holds {len(values)} values; it needs {length}.")
    threads = thread_count(num_threads)
    if cuda is not None:
        return gpu_sampling.column_sums(cuda, indptr, indices, destinations, rows, columns, weight)
    if native is None:
        return reference.column_sums(indptr, indices, destinations, rows, columns, weight)
    return native.column_sums(indptr, indices, destinations, rows, columns, weight, threads)


def cumulative_sums(values: Tensor) -> Tensor:
    """Add up values within blocks of 256, and the blocks' totals before them: alike on any number of threads.

    Parameters
    ----------
    values : Tensor
        (n,) float64.

    Returns
    -------
    Tensor
        (n,) float64: the sums of the values up to each one.

    Raises
    ------
    TypeError, ValueError
        If `values` is not a vector of float64.

    Examples
    --------
    >>> import torch
    >>> cumulative_sums(torch.tensor([1.0, 2.0, 4.0]).double())
    tensor([1., 3., 7.], dtype=torch.float64)
    """
    cuda, reached = kernels_for(values)
    check_vector("values", values, torch.float64, reached=reached)
    if cuda is not None:
        return gpu_sampling.cumulative_sums(cuda, values)
    return (reference if native is None else native).cumulative_sums(values)


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
    cuda, reached = kernels_for(chance)
    check_vector("chance", chance, torch.float64, reached=reached)
    size = _check_size(size)
    if cuda is not None:
        return gpu_sampling.draw_in_succession(cuda, chance, size, operator.index(key))
    return (reference if native is None else native).draw_in_succession(chance, size, operator.index(key))


def draw_with_replacement(
    cumulative: Tensor, size: int, *, key: int, guide: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Draw positions independently, each in proportion to its chance.

    Parameters
    ----------
    cumulative : Tensor
        (n,) float64: the sums of the chances up to each one.
    size : int
        Number of draws.
    key : int
        In [0, 2**64).
    guide : Tensor, optional
        What `guide_of` gives for these sums: it saves most of the search, where there are many draws of the same sums.

    Returns
    -------
    positions, counts : Tensor
        int64: the positions that were drawn, in ascending order, and how often; none where nothing has a chance.

    Raises
    ------
    TypeError
        If `cumulative` is not float64, `guide` is not int64, or a number is no integer.
    ValueError
        If `size` is negative.

    Examples
    --------
    >>> import torch
    >>> positions, counts = draw_with_replacement(torch.tensor([0.0, 1.0, 1.0, 4.0]).double(), 100, key=0)
    >>> positions.tolist(), counts.sum().item()
    ([1, 3], 100)
    """
    cuda, reached = kernels_for(cumulative)
    check_vector("cumulative", cumulative, torch.float64, reached=reached)
    if guide is not None:
        check_vector("guide", guide, torch.int64, reached=reached)
    size, key = _check_size(size), operator.index(key)
    # Of torch's operations, on any device: the sums are given.
    operations = reference if native is None or cuda is not None else native
    return operations.draw_with_replacement(cumulative, size, key, guide)


def guide_of(cumulative: Tensor) -> Tensor:
    """Where to look for a draw, found once for many draws (the guide table of Chen and Asau, 1974).

    Parameters
    ----------
    cumulative : Tensor
        (n,) float64: the sums of the chances up to each one.

    Returns
    -------
    Tensor
        (2^b + 1,) int64, with 4 to 8 sums between two entries on average, which is a cache line: entry j is the first
        position whose sum exceeds j / 2^b of the total.

    Raises
    ------
    TypeError, ValueError
        If `cumulative` is not a vector of float64.

    Examples
    --------
    >>> import torch
    >>> cumulative = torch.ones(1000).double().cumsum(0)
    >>> guide_of(cumulative)[:3].tolist()
    [0, 7, 15]
    >>> positions, counts = draw_with_replacement(cumulative, 10, key=0, guide=guide_of(cumulative))
    >>> torch.equal(positions, draw_with_replacement(cumulative, 10, key=0)[0])
    True
    """
    check_vector("cumulative", cumulative, torch.float64)
    if not len(cumulative):
        return torch.zeros(2, dtype=torch.int64)
    buckets = 2 ** max(len(cumulative).bit_length() - 3, 0)
    points = torch.arange(buckets + 1, dtype=torch.float64) / buckets * cumulative[-1]
    return torch.searchsorted(cumulative, points, right=True)


def row_sums(indptr: Tensor, values: Tensor) -> Tensor:
    """Add up the values of each row in their order.

    Parameters
    ----------
    indptr : Tensor
        (R + 1,) int32 or int64: where the values of each row stand.
    values : Tensor
        (E,) float32 or float64.

    Returns
    -------
    Tensor
        (R,), of the dtype of `values`.

    Raises
    ------
    TypeError, ValueError
        If a tensor is of another dtype, or no vector.

    Examples
    --------
    >>> import torch
    >>> row_sums(torch.tensor([0, 2, 2, 3]), torch.tensor([1.0, 3.0, 5.0]))
    tensor([4., 0., 5.])
    """
    cuda, reached = kernels_for(values)
    check_vector("indptr", indptr, torch.int32, torch.int64, reached=reached)
    check_vector("values", values, torch.float32, torch.float64, reached=reached)
    if cuda is not None:
        return gpu_sampling.segment_sums(cuda, indptr, values)
    rows = torch.arange(len(indptr) - 1).repeat_interleave(indptr.diff().long())
    return values.new_zeros(len(indptr) - 1).index_add_(0, rows, values)


def fill_rows(indptr: Tensor, values: Tensor, totals: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """Scale the values of each row so that they add up to its total, each counted by its weight.

    Parameters
    ----------
    indptr : Tensor
        (R + 1,) int32 or int64: where the values of each row stand.
    values : Tensor
        (E,) float64.
    totals : Tensor
        (R,) float32.
    weight : Tensor, optional
        (E,) float32; ones where absent.

    Returns
    -------
    Tensor
        (E,) float64; zeros in a row whose weighted sum is not above 0.

    Raises
    ------
    TypeError
        If a tensor has the wrong dtype.
    ValueError
        If lengths do not belong together, or `indptr` is no pointer array.

    Examples
    --------
    >>> import torch
    >>> fill_rows(torch.tensor([0, 2, 3]), torch.tensor([1.0, 3.0, 5.0]).double(), torch.tensor([8.0, 1.0]))
    tensor([2., 6., 1.], dtype=torch.float64)
    """
    cuda, reached = kernels_for(values)
    check_vector("indptr", indptr, torch.int32, torch.int64, reached=reached)
    check_vector("values", values, torch.float64, reached=reached)
    check_vector("totals", totals, torch.float32, reached=reached)
    if len(indptr) != len(totals) + 1:
        raise ValueError(f"indptr holds {len(indptr)} pointers; {len(totals)} totals need {len(totals) + 1}.")
    if weight is not None:
        check_vector("weight", weight, torch.float32, reached=reached)
        if len(weight) != len(values):
            raise ValueError(f"weight holds {len(weight)} values; it needs {len(values)}.")
    if cuda is not None:
        return gpu_sampling.fill_rows(cuda, indptr, values, weight, totals)
    return (reference if native is None else native).fill_rows(indptr, values, weight, totals)


def _check_size(size: int) -> int:
    size = operator.index(size)
    if size < 0:
        raise ValueError(f"size is {size}; give a number of positions, at least 0.")
    return size
