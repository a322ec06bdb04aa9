"""A degree-corrected stochastic block model with planted classes and noisy features."""

from __future__ import annotations

import numpy as np

from gnnscale.data.dataset import Dataset, assemble
from gnnscale.data.generate import check_count, check_memory, check_range, distinct_edges
from gnnscale.data.splits import check_split, fraction_split

NUM_SPLITS = 10


def synthetic(
    *,
    split: int = 0,
    num_nodes: int = 50_000,
    num_edges: int = 1_000_000,
    num_classes: int = 10,
    num_features: int = 64,
    communities_per_class: int = 10,
    in_community: float = 0.45,
    in_class: float = 0.1,
    degree_exponent: float = 2.5,
    signal: float = 0.12,
    label_noise: float = 0.05,
    train_fraction: float = 0.1,
    val_fraction: float = 0.1,
    seed: int = 0,
) -> Dataset:
    """Draw a graph on which structure helps and features alone do not suffice.

    The model is the degree-corrected stochastic block model of `Karrer and Newman (2011)
    <https://arxiv.org/abs/1008.3926>`_ on two levels. A class is made of communities; an edge starts at
    a node drawn by its expected degree and ends inside the same community, inside the same class or
    anywhere. Communities are what METIS finds, so that clusters mean what they mean on real graphs.
    A feature row is the mean of its class, of length `signal` times the square root of `num_features`,
    plus standard normal noise: one row tells little, the mean over a neighbourhood tells much.

    Both directions of every edge are stored; there is no self-loop and no duplicate.

    Parameters
    ----------
    split : int
        Which of the ten splits. They share the graph and differ in the nodes drawn.
    num_nodes, num_edges : int
        Size; `num_edges` counts directed edges, so it has to be even.
    num_classes, num_features : int
        Number of classes, all of about one size, and columns of the features.
    communities_per_class : int
        Communities of about one size in each class.
    in_community, in_class : float
        Share of the edges drawn inside the community, and inside the class; the rest end anywhere.
    degree_exponent : float
        Expected degrees follow a power law with this exponent (> 2), cut at 100 times the smallest.
    signal : float
        Strength of the class in a feature, in standard deviations of the noise.
    label_noise : float
        Share of the nodes whose label is drawn anew from all classes.
    train_fraction, val_fraction : float
        Share of each class for training and for validation; the others test.
    seed : int
        The same seed gives the same graph.

    Raises
    ------
    ValueError
        If a parameter is outside its range, or the edges do not fit the graph.

    Examples
    --------
    >>> data = synthetic(num_nodes=1000, num_edges=10_000, num_classes=4)
    >>> data.num_nodes, data.num_edges, data.num_classes
    (1000, 10000, 4)
    """
    check_split(split, NUM_SPLITS, "synthetic")
    check_count("num_classes", num_classes, 2)
    check_count("communities_per_class", communities_per_class, 1)
    num_communities = num_classes * communities_per_class
    check_count("num_nodes", num_nodes, max(3 * num_classes, num_communities))
    check_count("num_features", num_features, 1)
    check_count("seed", seed, 0)
    check_count("num_edges", num_edges, 0, num_nodes * (num_nodes - 1) // 2)
    for name, share in (("in_community", in_community), ("in_class", in_class), ("label_noise", label_noise)):
        check_range(name, share, 0, 1)
    check_range("in_community + in_class", in_community + in_class, 0, 1)
    check_range("degree_exponent", degree_exponent, 2.01)
    check_range("signal", signal, 0)
    check_range("train_fraction", train_fraction, 0, 1)
    check_range("val_fraction", val_fraction, 0, 1)
    check_range("train_fraction + val_fraction", train_fraction + val_fraction, 0, 0.99)
    if num_edges % 2:
        raise ValueError(f"num_edges is {num_edges}, but both directions are stored: give an even number.")
    check_memory("synthetic", 4 * num_nodes * num_features + 64 * num_edges)

    random = np.random.default_rng(seed)
    # Communities and classes are runs of consecutive positions; ids are positions shuffled, and tell nothing.
    position = np.arange(num_nodes)
    community = position * num_communities // num_nodes
    group = community // communities_per_class
    # The inverse of a power law's distribution function, cut where the largest is 100 times the smallest.
    tail = 1 - 100.0 ** (1 - degree_exponent)
    weight = (1 - tail * random.random(num_nodes)) ** (-1 / (degree_exponent - 1))
    cumulative = np.concatenate([[0.0], np.cumsum(weight)])

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        anywhere = np.zeros(count, dtype=np.int64), np.full(count, num_nodes)
        source = pick(*anywhere)
        kind = random.random(count)
        first, last = anywhere
        for member, share in ((group, in_community + in_class), (community, in_community)):
            bounds = np.searchsorted(member, np.arange(member[-1] + 2))
            inside = kind < share
            first = np.where(inside, bounds[member[source]], first)
            last = np.where(inside, bounds[member[source] + 1], last)
        return source, pick(first, last)

    def pick(first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Draw one position from each half-open range, in proportion to the weights."""
        low, high = cumulative[first], cumulative[last]
        found = np.searchsorted(cumulative, low + (high - low) * random.random(len(first)), side="right") - 1
        return np.clip(found, first, last - 1)

    shuffled = random.permutation(num_nodes)
    source, target = distinct_edges(draw, num_nodes, num_edges // 2, random, directed=False, name="synthetic")
    source, target = shuffled[source], shuffled[target]

    labels = np.empty(num_nodes, dtype=np.int64)
    labels[shuffled] = group
    means = random.standard_normal((num_classes, num_features), dtype=np.float32)
    means *= signal * np.sqrt(num_features) / np.linalg.norm(means, axis=1, keepdims=True)
    features = random.standard_normal((num_nodes, num_features), dtype=np.float32)
    features += means[labels]
    noisy = random.random(num_nodes) < label_noise
    labels[noisy] = random.integers(num_classes, size=int(noisy.sum()))

    return assemble(
        "synthetic",
        edges=(np.concatenate([source, target]), np.concatenate([target, source])),
        features=features,
        labels=labels,
        split=fraction_split(labels, split, seed, train_fraction, val_fraction),
        num_splits=NUM_SPLITS,
        num_classes=num_classes,
    )
