"""The one form in which every dataset reaches the rest of gnnscale."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gnnscale._dgl import dgl
from gnnscale.data.checks import (
    Names,
    check_edges,
    check_features,
    check_labels,
    check_metric,
    check_weight,
)
from gnnscale.data.splits import Split

_MOST_WIDE = 100_000_000  # edges of a graph with int64 ids


@dataclass(frozen=True)
class Dataset:
    """A graph for node classification and one split of its nodes.

    Attributes
    ----------
    name : str
        Name, as given to :func:`gnnscale.data.load`, or the stem of the file.
    graph : dgl.DGLGraph
        Homogeneous, on the CPU; ids are int64, or int32 where a generator drew over 100 million edges.
        ``ndata["feat"]`` is float32 (N, F), contiguous; ``ndata["label"]`` is int64 (N,), or float32
        (N, C) of zeros and ones where a node may have several labels;
        ``edata["weight"]`` is float32 (E,) and there only for weighted graphs.
    train_ids, val_ids, test_ids : Tensor
        int64, ascending, no node in two of them.
    num_classes : int
        Number of classes C.
    metric : str
        ``"accuracy"``, ``"roc_auc"`` (two classes) or ``"micro_f1"`` (several labels a node).
    num_splits : int
        Number of splits that ``load(..., split=)`` can choose from.

    Examples
    --------
    >>> from gnnscale.data import load
    >>> data = load("synthetic", num_nodes=500, num_edges=2000, communities_per_class=2)
    >>> data.num_nodes, data.num_features, data.multilabel
    (500, 64, False)
    """

    name: str
    graph: dgl.DGLGraph
    train_ids: Tensor
    val_ids: Tensor
    test_ids: Tensor
    num_classes: int
    metric: str
    num_splits: int = 1

    @property
    def num_nodes(self) -> int:
        """Number of nodes N."""
        return int(self.graph.num_nodes())

    @property
    def num_edges(self) -> int:
        """Number of directed edges E."""
        return int(self.graph.num_edges())

    @property
    def num_features(self) -> int:
        """Number of feature columns F."""
        return int(self.graph.ndata["feat"].shape[1])

    @property
    def multilabel(self) -> bool:
        """Whether a node may have several labels."""
        return bool(self.graph.ndata["label"].dim() == 2)

    def training_subgraph(self) -> Dataset:
        """The training nodes with the edges between them: what inductive training sees (Hamilton et al. 2017).

        Returns
        -------
        Dataset
            Features, labels and edge weights are copied; every node is a training node, and there is none to validate
            or test. ``graph.ndata[dgl.NID]`` and ``graph.edata[dgl.EID]`` hold the ids in this dataset.

        Raises
        ------
        ValueError
            If there is no training node.

        Examples
        --------
        >>> from gnnscale.data import load
        >>> data = load("synthetic", num_nodes=500, num_edges=2000, communities_per_class=2)
        >>> part = data.training_subgraph()
        >>> part.num_nodes == len(part.train_ids) == len(data.train_ids)
        True
        """
        if not self.train_ids.numel():
            raise ValueError(f"dataset {self.name} has no training nodes, so there is nothing to train on")
        graph = dgl.node_subgraph(self.graph, self.train_ids)
        none = self.train_ids.new_empty(0)
        return replace(self, graph=graph, train_ids=torch.arange(graph.num_nodes()), val_ids=none, test_ids=none)

    def standardized(self) -> Dataset:
        """The same with each feature column shifted and scaled to mean 0 and variance 1 over the training nodes.

        GraphSAGE, GraphSAINT and Cluster-GCN prepare features like this. A column that is constant there is shifted
        alone.

        Returns
        -------
        Dataset
            Shares the graph's edges and labels; the features are new.

        Examples
        --------
        >>> from gnnscale.data import load
        >>> data = load("synthetic", num_nodes=500, num_edges=2000, communities_per_class=2).standardized()
        >>> bool(data.graph.ndata["feat"][data.train_ids].mean(0).abs().max() < 1e-5)
        True
        """
        features = self.graph.ndata["feat"]
        seen = features[self.train_ids].double()
        mean, scale = seen.mean(0), seen.std(0, correction=0)
        scale[scale == 0] = 1.0
        graph = self.graph.local_var()
        graph.ndata["feat"] = (features - mean.float()).div_(scale.float())
        return replace(self, graph=graph)


@dataclass(frozen=True)
class CSCArrays:
    """In-edges by destination, as a generator drew them.

    Attributes
    ----------
    indptr : Tensor
        Shape (N + 1,), int64.
    indices : Tensor
        Shape (E,), int32: the sources.
    """

    indptr: Tensor
    indices: Tensor

    def __len__(self) -> int:
        """Number of edges."""
        return self.indices.numel()

    def to_graph(self) -> dgl.DGLGraph:
        """The graph of these edges, which shares their memory where its ids are int32."""
        # int64 is what DGL's users expect, and at this size half the memory of a large machine.
        idtype = torch.int32 if len(self) > _MOST_WIDE else torch.int64
        no_ids = torch.empty(0, dtype=idtype)  # edges are numbered in this order
        arrays = self.indptr.to(idtype), self.indices.to(idtype), no_ids
        return dgl.graph(("csc", arrays), num_nodes=self.indptr.numel() - 1, idtype=idtype)


def assemble(
    name: str,
    *,
    edges: tuple[np.ndarray, np.ndarray] | np.ndarray | CSCArrays,
    features: np.ndarray,
    labels: np.ndarray,
    split: Split,
    num_splits: int = 1,
    num_classes: int | None = None,
    metric: str | None = None,
    weight: np.ndarray | None = None,
    names: Names | None = None,
) -> Dataset:
    """Check the parts of a dataset and put them together.

    Parameters
    ----------
    name : str
        Name of the dataset.
    edges : (ndarray, ndarray) or ndarray or CSCArrays
        Integer sources and targets, shape (E,) each, or shape (E, 2); or the arrays of a generator.
    features : ndarray
        Numbers, shape (N, F).
    labels : ndarray
        Classes, shape (N,), or zeros and ones, shape (N, C), where a node may have several labels.
    split : (Tensor, Tensor, Tensor)
        Node ids to train, validate and test.
    num_splits : int
        How many splits there are to choose from.
    num_classes : int, optional
        One more than the largest label unless given.
    metric : str, optional
        Accuracy, or micro-F1 for several labels, unless given.
    weight : ndarray, optional
        Edge weights, shape (E,).
    names : Names, optional
        What the parts are called at their origin, for error messages.

    Raises
    ------
    ValueError
        If a part has a wrong shape or type, or a value outside its range.
    """
    names = names or Names(f"Dataset {name}")
    features = check_features(features, names)
    num_nodes = len(features)
    labels = check_labels(labels, num_nodes, names)
    if not isinstance(edges, CSCArrays):
        edges = check_edges(np.stack(edges, axis=1) if isinstance(edges, tuple) else edges, num_nodes, names)
    if num_classes is None:
        num_classes = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
    metric = check_metric(metric, labels, num_classes, names)

    for part, nodes in zip(("train", "val", "test"), split, strict=True):
        if len(nodes) and not 0 <= int(nodes.min()) <= int(nodes.max()) < num_nodes:
            raise names.error(part, f"has ids outside 0 to {num_nodes - 1}")

    if isinstance(edges, CSCArrays):
        graph = edges.to_graph()
    else:
        source, target = torch.from_numpy(edges).t().contiguous()
        graph = dgl.graph((source, target), num_nodes=num_nodes)
    graph.ndata["feat"] = torch.from_numpy(features)
    graph.ndata["label"] = torch.from_numpy(labels)
    if weight is not None:
        graph.edata["weight"] = torch.from_numpy(check_weight(weight, len(edges), names))
    train_ids, val_ids, test_ids = split
    return Dataset(name, graph, train_ids, val_ids, test_ids, num_classes, metric, num_splits)
