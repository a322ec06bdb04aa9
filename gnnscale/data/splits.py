"""Which nodes train, validate and test: every rule by which gnnscale draws a split."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

Split = tuple[Tensor, Tensor, Tensor]


def check_split(split: int, num_splits: int, name: str) -> None:
    """Raise ``ValueError`` unless ``0 <= split < num_splits``."""
    if not 0 <= split < num_splits:
        have = "only split 0" if num_splits == 1 else f"splits 0 to {num_splits - 1}"
        raise ValueError(f"split is {split}, but {name} has {have}.")


def ids(mask: np.ndarray | Tensor) -> Tensor:
    """Node ids (int64, ascending) at which a boolean mask is true."""
    return torch.as_tensor(mask).nonzero().flatten()


def per_class_split(
    labels: Tensor, split: int, num_splits: int, train: int = 20, val: int = 30, seed: int = 12345
) -> Split:
    """Draw `train` and `val` nodes of every class; all other nodes test.

    The order of the random draws is that of PyGAS (Fey et al. 2021, `GNNAutoScale
    <https://arxiv.org/abs/2106.05609>`_), so that on the same node order the splits are its splits.

    Parameters
    ----------
    labels : Tensor
        int64, shape (N,).
    split, num_splits : int
        Which of how many splits. The number matters: the splits share one random stream.
    train, val : int
        Nodes per class.
    seed : int
        Seed of the random stream.

    Examples
    --------
    >>> train, val, test = per_class_split(torch.arange(300) % 3, split=0, num_splits=20)
    >>> len(train), len(val), len(test)
    (60, 90, 150)
    """
    random = torch.Generator().manual_seed(seed)
    part = torch.full((len(labels),), 2)
    for label in range(int(labels.max()) + 1):
        members = ids(labels == label)
        orders = [torch.randperm(len(members), generator=random) for _ in range(num_splits)]
        members = members[orders[split]]
        part[members[:train]] = 0
        part[members[train : train + val]] = 1
    return ids(part == 0), ids(part == 1), ids(part == 2)


def fraction_split(labels: np.ndarray, split: int, seed: int, train: float = 0.1, val: float = 0.1) -> Split:
    """Draw a fraction of every class for training and for validation; the others test.

    A class of at least three nodes gives at least one node to each part.

    Examples
    --------
    >>> train, val, test = fraction_split(np.arange(100) % 2, split=0, seed=0)
    >>> len(train), len(val), len(test)
    (10, 10, 80)
    """
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(split,)))
    part = np.full(len(labels), 2)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        num_train = max(1, round(train * len(members)))
        num_val = max(1, round(val * len(members)))
        part[members[:num_train]] = 0
        part[members[num_train : num_train + num_val]] = 1
    return ids(part == 0), ids(part == 1), ids(part == 2)
