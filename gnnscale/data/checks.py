"""What every dataset has to fulfil; a violation is one sentence that says where and what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from gnnscale.data.splits import Split, check_split, ids

METRICS = ("accuracy", "roc_auc", "micro_f1")


@dataclass(frozen=True)
class Names:
    """What the parts of a dataset are called where they come from, for the sentences."""

    origin: str
    features: str = "feature matrix"
    labels: str = "label array"
    edges: str = "edge list"
    weight: str = "weight array"
    train: str = "training set"
    val: str = "validation set"
    test: str = "test set"

    def error(self, part: str, problem: str) -> ValueError:
        """A ``ValueError`` of one sentence about one part."""
        return ValueError(f"{self.origin}: {getattr(self, part)} {problem}.")


def check_features(features: np.ndarray, names: Names) -> np.ndarray:
    """Features as float32 (N, F), contiguous, finite, with at least one row and column."""
    if features.dtype.kind not in "biuf":
        raise names.error("features", f"holds {features.dtype}; give numbers")
    if features.ndim != 2 or 0 in features.shape:
        raise names.error("features", f"has shape {features.shape}; give a row for each node and a column or more")
    with np.errstate(over="ignore"):
        features = np.ascontiguousarray(features, dtype=np.float32)
    # The sum is NaN or infinite if any entry is, and needs no array of its own.
    if not np.isfinite(features.sum(dtype=np.float64)):
        bad = ~np.isfinite(features)
        if bad.any():
            raise names.error(
                "features",
                f"holds {int(bad.sum())} NaN or infinite values (as float32), the first in row "
                f"{int(bad.any(axis=1).argmax())}; replace them by numbers",
            )
    return features


def check_labels(labels: np.ndarray, num_nodes: int, names: Names) -> np.ndarray:
    """Labels as int64 (N,), classes from 0 on, or float32 (N, C) of zeros and ones."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim not in (1, 2) or len(labels) != num_nodes or labels.size == 0:
        raise names.error(
            "labels",
            f"has shape {labels.shape}, but {names.features} has {num_nodes} rows; give ({num_nodes},), "
            f"or ({num_nodes}, classes) where a node may have several",
        )
    if labels.dtype.kind not in "biuf":
        raise names.error("labels", f"holds {labels.dtype}; give class numbers from 0 on")
    if labels.ndim == 2:
        if bad := first_row((labels != 0) & (labels != 1)):
            raise names.error(
                "labels",
                f"has two dimensions and a value other than 0 and 1 in row {bad[0]}; give 0 or 1 for each class",
            )
        return labels.astype(np.float32)
    if labels.dtype.kind == "f" and (bad := first_row(labels != np.floor(labels))):
        raise names.error("labels", f"holds {labels[bad[0]]} at node {bad[0]}; give whole class numbers from 0 on")
    if bad := first_row((labels < 0) | (labels >= max(num_nodes, 2))):
        raise names.error(
            "labels",
            f"holds {labels[bad[0]]} at node {bad[0]}; number the classes from 0 on without gaps; "
            "give unlabelled nodes any class and leave them out of the masks",
        )
    return labels.astype(np.int64)


def check_edges(edges: np.ndarray, num_nodes: int, names: Names) -> np.ndarray:
    """Edges as int64 (E, 2) of node ids; no edge at all is allowed."""
    if edges.ndim != 2 or edges.shape[1] != 2:
        hint = "; transpose it" if edges.ndim == 2 and edges.shape[0] == 2 else ""
        raise names.error("edges", f"has shape {edges.shape}; give one row (source, target) an edge{hint}")
    if edges.dtype.kind not in "iu" and edges.size:
        raise names.error("edges", f"holds {edges.dtype}; give node ids as integers")
    if bad := first_row((edges < 0) | (edges >= num_nodes)):
        source, target = edges[bad[0]]
        raise names.error("edges", f"holds ({source}, {target}) in row {bad[0]}; node ids are 0 to {num_nodes - 1}")
    return edges.astype(np.int64)


def check_weight(weight: np.ndarray, num_edges: int, names: Names) -> np.ndarray:
    """Edge weights as float32 (E,), finite and not negative."""
    if weight.shape != (num_edges,) or weight.dtype.kind not in "biuf":
        raise names.error(
            "weight",
            f"has shape {weight.shape} and holds {weight.dtype}; give {num_edges} numbers, one an edge",
        )
    with np.errstate(over="ignore"):
        weight = weight.astype(np.float32)
    if bad := first_row(~np.isfinite(weight) | (weight < 0)):
        raise names.error("weight", f"holds {weight[bad[0]]} at edge {bad[0]}; give finite numbers from 0 on")
    return weight


def check_masks(masks: dict[str, np.ndarray], split: int, num_nodes: int, names: Names) -> tuple[Split, int]:
    """The node ids of one split and the number of splits.

    `masks` has ``train``, ``val`` and ``test``, of shape (splits, N), or (N,), which then holds for every
    split.
    """
    masks = dict(masks)
    for part, mask in masks.items():
        if mask.ndim not in (1, 2) or mask.shape[-1] != num_nodes or len(mask) == 0:
            raise names.error(part, f"has shape {mask.shape}; give ({num_nodes},) or (splits, {num_nodes})")
        if mask.dtype.kind not in "biuf" or ((mask != 0) & (mask != 1)).any():
            raise names.error(part, "holds values other than true and false; give masks, not node ids")
        masks[part] = np.atleast_2d(mask).astype(bool)
    counts = {part: len(mask) for part, mask in masks.items()}
    num_splits = max(counts.values())
    if set(counts.values()) - {1, num_splits}:
        given = ", ".join(f"{count} in {getattr(names, part)}" for part, count in counts.items())
        raise ValueError(f"{names.origin}: the numbers of splits differ ({given}); give each split three masks.")
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        shared = (masks[one] & masks[other]).sum(axis=1)
        if shared.any():
            where = int(shared.argmax())
            raise names.error(
                one,
                f"and {getattr(names, other)} overlap: split {where} has {int(shared[where])} nodes in both; "
                "take each node out of one",
            )
    for part in ("train", "val", "test"):
        if bad := first_row(~masks[part].any(axis=1)):
            raise names.error(part, f"names no node in split {bad[0]}; every part needs at least one")
    check_split(split, num_splits, names.origin)
    train_ids, val_ids, test_ids = (ids(mask[split % len(mask)]) for mask in masks.values())
    return (train_ids, val_ids, test_ids), num_splits


def check_classes_trained(labels: np.ndarray, train_ids: Tensor, split: int, names: Names) -> None:
    """Raise unless each class has a training node: no model can learn a class that it never sees."""
    trained = labels[train_ids.numpy()]
    if labels.ndim == 2:
        per_class, per_class_train = labels.sum(axis=0).astype(np.int64), trained.sum(axis=0)
    else:
        per_class = np.bincount(labels)
        per_class_train = np.bincount(trained, minlength=len(per_class))
    absent = np.flatnonzero(per_class_train == 0)
    if len(absent):
        listed = ", ".join(f"{label} ({per_class[label]} nodes)" for label in absent[:5].tolist())
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        raise names.error(
            "labels",
            f"has classes with no training node in split {split}: {listed}{more}; add such nodes to "
            f"{names.train}, number the classes without gaps, or pass allow_unseen_classes=True",
        )


def check_metric(metric: str | None, labels: np.ndarray, num_classes: int, names: Names) -> str:
    """The metric to report: the given one if it suits the labels, else their usual one."""
    multilabel = labels.ndim == 2
    if not multilabel and num_classes < 2:
        raise names.error("labels", "names one class only; a classification needs two")
    if metric is None:
        return "micro_f1" if multilabel else "accuracy"
    if metric not in METRICS:
        raise ValueError(f"metric is {metric!r}; choose one of {', '.join(METRICS)}.")
    if multilabel != (metric == "micro_f1"):
        suits = "micro_f1" if multilabel else "accuracy, or roc_auc for two classes"
        kind = "several labels" if multilabel else "one class"
        raise ValueError(f"metric is {metric!r}, but {names.origin} has {kind} a node; use {suits}.")
    if metric == "roc_auc" and num_classes != 2:
        raise ValueError(f"metric is 'roc_auc', but {names.origin} has {num_classes} classes; use accuracy.")
    return metric


def first_row(bad: np.ndarray | np.bool_) -> tuple[int] | None:
    """The first row with a true entry, in a tuple that is true itself, or None."""
    bad = np.asarray(bad)
    rows = bad.any(axis=tuple(range(1, bad.ndim)))
    return (int(rows.argmax()),) if rows.any() else None
