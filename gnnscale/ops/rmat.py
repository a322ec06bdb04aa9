"""R-MAT graphs of any size, drawn into the arrays that samplers read."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from gnnscale.ops import reference
from gnnscale.ops._backend import native
from gnnscale.ops._checks import check_vector, thread_count

_LEVELS = 4  # of the matrix, drawn at once


def draw_rmat(
    relabel: Tensor,
    probabilities: Sequence[float],
    *,
    draws: int,
    most: int,
    key: int,
    directed: bool = False,
    num_threads: int = 1,
) -> tuple[Tensor, Tensor, int]:
    """Draw the distinct edges of an R-MAT graph (Chakrabarti, Zhan and Faloutsos 2004) as CSC.

    A draw is a cell of a matrix whose number of rows is the next power of two; those outside of the graph or on the
    diagonal are no edges, and an edge drawn twice is there once. The draws are a function of `key` and their
    number, so they are made twice, to count rows and to fill them, in the place of being kept.

    Parameters
    ----------
    relabel : Tensor
        (N,) int32, a permutation: the node that each row, and column, of the matrix stands for.
    probabilities : sequence of four floats
        a, b, c, d, of the upper left, upper right, lower left and lower right quarter of every level; their sum is 1.
        Cells of four levels are drawn at once, to a precision of 1e-8.
    draws : int
        Number of draws.
    most : int
        Edges to keep of those found (pairs of nodes unless `directed`), at least 1; which ones, chance decides.
    key : int
        In [0, 2**64); see `gnnscale.ops.random.key_of`.
    directed : bool
        If false, every edge has its reverse.
    num_threads : int
        Most threads to use; the result does not depend on it.

    Returns
    -------
    indptr : Tensor
        (N + 1,) int64.
    indices : Tensor
        (E,) int32: sources of each node's in-edges, ascending.
    found : int
        Distinct edges (pairs unless `directed`) found, of which at most `most` are in the graph.

    Raises
    ------
    TypeError
        If `relabel` is no int32 vector, or a number is no integer.
    ValueError
        If a number is out of range, or `relabel` is no permutation.

    Examples
    --------
    >>> import torch
    >>> from gnnscale.ops.rmat import draw_rmat
    >>> relabel = torch.arange(100, dtype=torch.int32)
    >>> indptr, indices, found = draw_rmat(relabel, (0.57, 0.19, 0.19, 0.05), draws=500, most=300, key=0)
    >>> found > 300, len(indices) == indptr[-1] == 600
    (True, tensor(True))
    """
    check_vector("relabel", relabel, torch.int32)
    num_nodes = len(relabel)
    seen = torch.zeros(num_nodes, dtype=torch.bool)
    outside = (relabel < 0) | (relabel >= num_nodes)
    if num_nodes == 0 or bool(outside.any()) or not bool(seen.index_fill_(0, relabel.long(), True).all()):
        raise ValueError(f"relabel is no permutation of 0 to {num_nodes - 1}; pass torch.randperm(num_nodes).int().")
    draws, most, key = operator.index(draws), operator.index(most), operator.index(key)
    for name, value, low, high in (("draws", draws, 0, 2**62), ("most", most, 1, 2**62), ("key", key, 0, 2**64)):
        if not low <= value < high:
            raise ValueError(f"{name} is {value}; it has to be at least {low} and less than {high}.")
    arguments = (levels_of(num_nodes), alias_table(probabilities), relabel, key, draws, most, directed)
    threads = thread_count(num_threads)
    if native is None:
        return reference.draw_rmat(*arguments)
    return native.draw_rmat(*arguments, threads)


def levels_of(num_nodes: int) -> int:
    """How often a matrix is quartered until one cell is left."""
    return max((num_nodes - 1).bit_length(), 1)


def alias_table(probabilities: Sequence[float]) -> Tensor:
    """The alias table (Walker 1977; Vose 1991) of a cell four levels down, as ``native/include/rmat.h`` reads it.

    Returns
    -------
    Tensor
        (256,) int64: of each cell the threshold times 256, plus its alias.
    """
    cells = []
    for cell in range(256):
        row, column = cell >> 4, cell & 15
        quarters = (2 * (row >> level & 1) + (column >> level & 1) for level in range(_LEVELS))
        cells.append(256 * math.prod(probabilities[quarter] for quarter in quarters))
    # A cell whose share is less than one gets the rest from another, until each holds two at most.
    small = [cell for cell in range(256) if cells[cell] < 1]
    large = [cell for cell in range(256) if cells[cell] >= 1]
    table = [(1 << 32) - 256 + cell for cell in range(256)]
    while small and large:
        cell, other = small.pop(), large[-1]
        keep = min(round(cells[cell] * 2**24), 2**24 - 1)
        table[cell] = keep << 8 | other
        cells[other] -= 1 - keep / 2**24
        if cells[other] < 1:
            small.append(large.pop())
    return torch.tensor(table)
