"""What the generators share: distinct edges from any edge distribution, and checks of their options."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from gnnscale.data.edges import distinct

CHUNK = 1 << 20
Draw = Callable[[int], tuple[np.ndarray, np.ndarray]]


def distinct_edges(
    draw: Draw, num_nodes: int, num_edges: int, random: np.random.Generator, *, directed: bool, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Draw until `num_edges` distinct edges that are no self-loops are there.

    Parameters
    ----------
    draw : callable
        ``draw(count)`` gives the sources and the targets of `count` edges, int64. It is asked for a
        bounded number at a time, so that its own memory does not grow with the graph.
    num_nodes, num_edges : int
        Number of nodes and of edges wanted.
    random : numpy.random.Generator
        Chooses which edges to leave out where the last draw gave too many.
    directed : bool
        Whether (u, v) and (v, u) are two edges; else one stands for both, with u < v.
    name : str
        The generator, for the error message.

    Returns
    -------
    (ndarray, ndarray)
        int64, shape (num_edges,) each, sorted by source and then target.

    Raises
    ------
    ValueError
        If so few cells are left that drawing does not come to an end.
    """
    keys = np.empty(0, dtype=np.int64)
    while len(keys) < num_edges:
        fresh = [keys]
        wanted = max(num_edges - len(keys), 1000)
        for start in range(0, wanted, CHUNK):
            source, target = draw(min(CHUNK, wanted - start))
            if not directed:
                source, target = np.minimum(source, target), np.maximum(source, target)
            fresh.append((source * num_nodes + target)[source != target])
        before = len(keys)
        keys = distinct(np.concatenate(fresh))
        if len(keys) - before < 0.01 * min(wanted, num_edges - before):
            raise ValueError(
                f"num_edges is too large for {num_nodes} nodes: {name} finds no more than about {len(keys)} "
                "distinct edges; ask for fewer edges or more nodes."
            )
    if len(keys) > num_edges:
        keys = np.sort(random.choice(keys, num_edges, replace=False))
    return keys // num_nodes, keys % num_nodes


def check_count(name: str, value: int, low: int, high: int | None = None) -> None:
    """As :func:`check_range`, and ``TypeError`` unless the number is whole."""
    check_range(name, value, low, high)
    if not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {value}; give a whole number.")


def check_range(name: str, value: float, low: float, high: float | None = None) -> None:
    """Raise ``ValueError`` unless ``low <= value <= high``; ``TypeError`` unless it is a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} is {value!r}; give a number.")
    if not (value >= low and (high is None or value <= high)):
        allowed = f"at least {low}" if high is None else f"between {low} and {high}"
        raise ValueError(f"{name} is {value}; it has to be {allowed}.")


def check_memory(name: str, num_bytes: int) -> None:
    """Raise ``MemoryError`` before a graph is drawn that this machine cannot hold."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if num_bytes > memory:
        raise MemoryError(
            f"{name} of this size needs about {num_bytes / 2**30:.1f} GiB, but this machine has "
            f"{memory / 2**30:.1f} GiB; ask for fewer nodes, edges or features."
        )
