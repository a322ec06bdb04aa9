"""The measures of a model's outputs, as fractions."""

from __future__ import annotations

import torch
from torch import Tensor


def score(metric: str, logits: Tensor, labels: Tensor) -> float:
    """One number for some nodes' logits.

    Parameters
    ----------
    metric : {"accuracy", "roc_auc", "micro_f1"}
        ``roc_auc`` is of the second of two classes; ``micro_f1`` is for multi-label data, a label being predicted
        where its logit is positive.
    logits : Tensor
        Shape (n, C).
    labels : Tensor
        Shape (n,) int64, or (n, C) for ``micro_f1``.

    Returns
    -------
    float
        In [0, 1]; NaN where it has no meaning (no nodes, or one class only for ``roc_auc``).

    Raises
    ------
    ValueError
        For an unknown metric.

    Examples
    --------
    >>> import torch
    >>> score("accuracy", torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))
    0.5
    """
    if metric not in ("accuracy", "roc_auc", "micro_f1"):
        raise ValueError(f"metric={metric!r} is not known; use 'accuracy', 'roc_auc' or 'micro_f1'")
    if not labels.numel():
        return float("nan")
    if metric == "accuracy":
        return (logits.argmax(1) == labels).double().mean().item()
    if metric == "micro_f1":
        predicted, true = logits > 0, labels > 0
        both = (predicted & true).sum().item()
        return 2 * both / max(predicted.sum().item() + true.sum().item(), 1)
    if labels.min() == labels.max():
        return float("nan")
    # The share of pairs of unlike nodes that are in order, ties counting half: Mann and Whitney's U, from mean ranks.
    # A library's takes seconds to import, which every process of a comparison would spend.
    probability, positive = torch.softmax(logits.double(), 1)[:, 1], labels > 0
    _, place, count = torch.unique(probability, return_inverse=True, return_counts=True)
    rank = (count.cumsum(0) - (count - 1) / 2)[place].double()
    ones = positive.sum().item()
    above = rank[positive].sum().item() - ones * (ones + 1) / 2
    return above / (ones * (labels.numel() - ones))
