"""R-MAT: a recursive matrix model of graphs with skewed degrees, at any size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gnnscale.data.dataset import Dataset, assemble
from gnnscale.data.generate import check_count, check_memory, check_range, distinct_edges
from gnnscale.data.splits import check_split, fraction_split

NUM_SPLITS = 10


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
    check_memory("rmat", 8 * num_nodes * num_features + 64 * num_edges)

    random = np.random.default_rng(seed)
    levels = (num_nodes - 1).bit_length()

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        source, target = draw_cells(count, levels, quarters, random)
        inside = (source < num_nodes) & (target < num_nodes)
        return source[inside], target[inside]

    wanted = num_edges if directed else num_edges // 2
    source, target = distinct_edges(draw, num_nodes, wanted, random, directed=directed, name="rmat")
    shuffled = random.permutation(num_nodes)
    source, target = shuffled[source], shuffled[target]
    if not directed:
        source, target = np.concatenate([source, target]), np.concatenate([target, source])

    features = random.standard_normal((num_nodes, num_features), dtype=np.float32)
    score = features @ random.standard_normal(num_features, dtype=np.float32)
    arrived = np.bincount(target, weights=score[source], minlength=num_nodes)
    score = score + arrived / np.maximum(np.bincount(target, minlength=num_nodes), 1)
    score += 0.5 * score.std() * random.standard_normal(num_nodes)
    labels = np.empty(num_nodes, dtype=np.int64)
    labels[np.argsort(score)] = np.arange(num_nodes) * num_classes // num_nodes

    return assemble(
        "rmat",
        edges=(source, target),
        features=features,
        labels=labels,
        split=fraction_split(labels, split, seed),
        num_splits=NUM_SPLITS,
        num_classes=num_classes,
    )


def draw_cells(
    count: int, levels: int, probabilities: Sequence[float], random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows and columns, int64, of cells of a square matrix of ``2 ** levels`` rows."""
    a, b, c, _ = probabilities
    row, column = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    for _ in range(levels):
        quarter = random.random(count)
        upper = quarter < a + b
        left = (quarter < a) | (~upper & (quarter < a + b + c))
        row = 2 * row + ~upper
        column = 2 * column + ~left
    return row, column


def _check_probabilities(probabilities: Sequence[float]) -> list[float]:
    quarters = list(probabilities)
    if len(quarters) != 4:
        raise ValueError(f"probabilities has {len(quarters)} numbers; give four: a, b, c, d.")
    for value in quarters:
        check_range("each of probabilities", value, 0, 1)
    if abs(sum(quarters) - 1) > 1e-6:
        raise ValueError(f"probabilities add up to {sum(quarters):g}; a + b + c + d has to be 1.")
    return quarters
