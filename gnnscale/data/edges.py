"""Duplicates and directions of edges."""

from __future__ import annotations

import numpy as np


def distinct(keys: np.ndarray) -> np.ndarray:
    """Each value once, ascending. On keys of edges the hash table of ``numpy.unique`` is ten times slower."""
    keys = np.sort(keys)
    first = np.ones(len(keys), dtype=bool)
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    return keys[first]


def both_directions(source: np.ndarray, target: np.ndarray, num_nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Every edge in both directions, each direction once, sorted by source and then target.

    Examples
    --------
    >>> source, target = both_directions(np.array([0, 1, 2]), np.array([1, 0, 2]), num_nodes=3)
    >>> source.tolist(), target.tolist()
    ([0, 1, 2], [1, 0, 2])
    """
    source, target = source.astype(np.int64), target.astype(np.int64)
    keys = distinct(np.concatenate([source * num_nodes + target, target * num_nodes + source]))
    return keys // num_nodes, keys % num_nodes


def missing_reverses(source: np.ndarray, target: np.ndarray, num_nodes: int) -> np.ndarray:
    """Positions of the edges (u, v) for which there is no edge (v, u).

    Examples
    --------
    >>> missing_reverses(np.array([0, 1, 1]), np.array([1, 0, 2]), num_nodes=3).tolist()
    [2]
    """
    present = source * num_nodes + target
    return np.flatnonzero(~np.isin(target * num_nodes + source, present))
