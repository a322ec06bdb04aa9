"""R-MAT: a recursive matrix model of graphs with skewed degrees, at any size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gnnscale.csc import row_ranges
from gnnscale.data.dataset import CSCArrays, Dataset, assemble
from gnnscale.data.generate import check_count, check_memory, check_range
from gnnscale.data.splits import check_split, fraction_split
from gnnscale.ops import reference
from gnnscale.ops.random import key_of
from gnnscale.ops.rmat import alias_table, draw_rmat, levels_of

NUM_SPLITS = 10
PILOT = 1 << 16


def rmat(
    *,
    split: int = 0,
    num_nodes: int = 100_000,
    num_edges: int = 2_000_000,
    num_classes: int = 10,
    num_features: int = 64,
    probabilities: Sequence[float] = (0.57, 0.19, 0.19, 0.05),
    directed: bool = False,
    seed: int = 0,
) -> Dataset:
    """Draw an R-MAT graph with random features and labels that depend a little on both.

    After `Chakrabarti, Zhan and Faloutsos (2004), R-MAT: A recursive model for graph mining
    <https://doi.org/10.1137/1.9781611972740.43>`_: an edge falls into one of the four quarters of the
    adjacency matrix with probabilities a, b, c, d, then into a quarter of that quarter, until one cell is
    left. A cell that holds an edge already, or lies on the diagonal, is drawn again. The matrix has the
    next power of two of rows; where `num_nodes` is none, cells outside the graph are drawn again as
    well. Node ids are shuffled, as the model alone would give the low ids the high degrees.

    A label is which of `num_classes` equal shares the node falls into, when the nodes are ranked by a
    random direction of the features, the node's own plus the mean of its in-neighbours', plus noise. It
    can be learnt in part; the generator is for measuring speed, and :func:`synthetic` for accuracy.

    Parameters
    ----------
    split : int
        Which of the ten splits: 10 % of each class train, 10 % validate, 80 % test.
    num_nodes, num_edges : int
        Size; `num_edges` counts directed edges.
    num_classes, num_features : int
        Number of classes, and columns of the features, which are standard normal.
    probabilities : sequence of four floats
        a, b, c, d: of the quarters low to low, low to high, high to low and high to high ids.
    directed : bool
        If false, both directions of every edge are stored, and `num_edges` has to be even.
    seed : int
        The same seed gives the same graph.

    Raises
    ------
    ValueError
        If a parameter is outside its range, or the edges do not fit the graph.

    Examples
    --------
    >>> data = rmat(num_nodes=1000, num_edges=8000)
    >>> data.num_nodes, data.num_edges
    (1000, 8000)
    """
    check_split(split, NUM_SPLITS, "rmat")
    check_count("num_classes", num_classes, 2)
    check_count("num_nodes", num_nodes, 3 * num_classes)
    check_count("num_features", num_features, 1)
    check_count("seed", seed, 0)
    check_count("num_edges", num_edges, 0, num_nodes * (num_nodes - 1) // 2)
    quarters = _check_probabilities(probabilities)
    if not directed and num_edges % 2:
        raise ValueError(
            f"num_edges is {num_edges}, but both directions are stored: give an even number or directed=True."
        )
    check_memory("rmat", 8 * num_nodes * (num_features + 4) + 8 * num_edges)
    check_count("num_nodes", num_nodes, 0, 2**31 - 1)

    random = np.random.default_rng(seed)
    indptr, indices = _draw_edges(num_nodes, num_edges, quarters, random, directed=directed, seed=seed)
    features = random.standard_normal((num_nodes, num_features), dtype=np.float32)
    score = features @ random.standard_normal(num_features, dtype=np.float32)
    score = score + _neighbor_means(indptr, indices, score)
    score += 0.5 * score.std() * random.standard_normal(num_nodes)
    labels = np.empty(num_nodes, dtype=np.int64)
    labels[np.argsort(score)] = np.arange(num_nodes) * num_classes // num_nodes

    return assemble(
        "rmat",
        edges=CSCArrays(indptr, indices),
        features=features,
        labels=labels,
        split=fraction_split(labels, split, seed),
        num_splits=NUM_SPLITS,
        num_classes=num_classes,
    )


def _draw_edges(
    num_nodes: int, num_edges: int, quarters: list[float], random: np.random.Generator, *, directed: bool, seed: int
) -> tuple[Tensor, Tensor]:
    """The graph as CSC arrays: pointers, shape (N + 1,) int64, and sources, shape (E,) int32."""
    relabel = torch.from_numpy(random.permutation(num_nodes).astype(np.int32))
    wanted = num_edges if directed else num_edges // 2
    if not wanted:
        return torch.zeros(num_nodes + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int32)
    key = key_of(seed)
    most_draws = 100 * max(wanted, 1000)
    gain = _Gain(num_nodes, quarters, key, directed=directed)
    draws = min(gain.draws_for(wanted), most_draws)
    while True:
        check_memory("rmat", 4 * num_nodes + int((4 if directed else 8) * draws * gain.inside))
        indptr, indices, found = draw_rmat(
            relabel, quarters, draws=draws, most=wanted, key=key, directed=directed, num_threads=torch.get_num_threads()
        )
        if found >= wanted:
            return indptr, indices
        if draws == most_draws:
            raise ValueError(
                f"num_edges is too large for {num_nodes} nodes: rmat finds no more than about {found} "
                "distinct edges; ask for fewer edges or more nodes."
            )
        draws = min(2 * draws, most_draws)


class _Gain:
    """How many distinct edges a number of draws gives, foretold from a few.

    Of an edge with the probability q, n draws find 1 - (1 - q)^n in expectation. The sum over all edges is the
    expectation of that over q for an edge that is drawn itself.
    """

    def __init__(self, num_nodes: int, quarters: list[float], key: int, *, directed: bool) -> None:
        levels = levels_of(num_nodes)
        row, column = reference.draw_cells(levels, alias_table(quarters), key, 0, PILOT)
        valid = (row < num_nodes) & (column < num_nodes) & (row != column)
        self.inside = float(valid.double().mean())
        row, column = row[valid], column[valid]
        chances = torch.tensor(quarters, dtype=torch.float64)

        def probability(row: Tensor, column: Tensor) -> Tensor:
            result = torch.ones(len(row), dtype=torch.float64)
            for level in range(levels):
                result *= chances[2 * (row >> level & 1) + (column >> level & 1)]
            return result

        self._probability = (
            probability(row, column) if directed else probability(row, column) + probability(column, row)
        )

    def found(self, draws: int) -> float:
        """Expected number of distinct edges."""
        return float((-torch.expm1(-draws * self._probability) / self._probability).sum()) / PILOT

    def draws_for(self, wanted: int) -> int:
        """Draws that very likely find `wanted` distinct edges, and hardly more, where that many can be found."""
        target = 1.01 * wanted + 10 * wanted**0.5
        low, high = 0, wanted
        while self.found(high) < target and high < 100 * target:
            low, high = high, 2 * high
        while high - low > wanted // 1000 + 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.found(middle) < target else (low, middle)
        return high


def _neighbor_means(indptr: Tensor, indices: Tensor, values: np.ndarray) -> np.ndarray:
    """The mean of each node's in-neighbours' values, float64; 0 without neighbours."""
    pointers, sources = indptr.numpy(), indices.numpy()
    sums = np.zeros(len(values))
    for first, last in row_ranges(indptr):
        edges = sources[pointers[first] : pointers[last]]
        rows = np.repeat(np.arange(last - first), np.diff(pointers[first : last + 1]))
        sums[first:last] = np.bincount(rows, weights=values[edges], minlength=last - first)
    return sums / np.maximum(np.diff(pointers), 1)


def _check_probabilities(probabilities: Sequence[float]) -> list[float]:
    quarters = list(probabilities)
    if len(quarters) != 4:
        raise ValueError(f"probabilities has {len(quarters)} numbers; give four: a, b, c, d.")
    for value in quarters:
        check_range("each of probabilities", value, 0, 1)
    if abs(sum(quarters) - 1) > 1e-6:
        raise ValueError(f"probabilities add up to {sum(quarters):g}; a + b + c + d has to be 1.")
    return quarters
