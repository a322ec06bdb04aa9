"""The user's own graph: an ``.npz`` file, or a graph saved by ``dgl.save_graphs``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from gnnscale._dgl import dgl
from gnnscale.data.arrays import load_npz, reading
from gnnscale.data.checks import (
    Names,
    check_classes_trained,
    check_edges,
    check_features,
    check_labels,
    check_masks,
    check_weight,
)
from gnnscale.data.dataset import Dataset, assemble
from gnnscale.data.edges import missing_reverses
from gnnscale.data.raw import Raw, locate

DGL_MAGIC = 0xDD2E4FF046B4A13F.to_bytes(8, "little")
REQUIRED = ("node_features", "node_labels", "edges", "train_masks", "val_masks", "test_masks")
NDATA = ("feat", "label", "train_mask", "val_mask", "test_mask")


def graph_file(
    path: Path,
    *,
    split: int = 0,
    undirected: bool = False,
    metric: str | None = None,
    allow_unseen_classes: bool = False,
    name: str | None = None,
) -> Dataset:
    """Read a graph from the user's own file; nothing is unpickled.

    An ``.npz`` has ``node_features`` (N, F), ``node_labels`` (N,), or (N, C) of zeros and ones where a node
    may have several labels, ``edges`` (E, 2) of source and target, and ``train_masks``, ``val_masks`` and
    ``test_masks``, one row a split, or (N,) for a single split or one that all splits share;
    ``edge_weights`` (E,) are optional. A graph saved by ``dgl.save_graphs`` has ``feat``, ``label``,
    ``train_mask``, ``val_mask`` and ``test_mask`` in ``ndata``, masks (N,) or (N, splits), and may have
    ``weight`` in ``edata``.

    Parameters
    ----------
    path : Path
        The file; its content tells which of the two it is.
    split : int
        Which split.
    undirected : bool
        Add to every edge that has no reverse its reverse, with the same weight, after the given edges.
        Else the edges stay as they are; duplicates and self-loops are kept in both cases.
    metric : str, optional
        ``"roc_auc"`` for two classes; else the accuracy, or micro-F1 for several labels a node.
    allow_unseen_classes : bool
        Accept classes that no training node has.
    name : str, optional
        Name of the dataset; the stem of the file name unless given.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file cannot be read, or something in it has a wrong shape or a value outside its range.
    """
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {problem}; give an .npz file or a graph saved by DGL.")
    with open(path, "rb") as file:
        saved_by_dgl = file.read(8) == DGL_MAGIC
    arrays = _read_dgl(path) if saved_by_dgl else load_npz(path, REQUIRED, ("edge_weights",))
    names = Names(str(path), *(_DGL_NAMES if saved_by_dgl else _NPZ_NAMES))

    features = check_features(arrays["node_features"], names)
    num_nodes = len(features)
    labels = check_labels(arrays["node_labels"], num_nodes, names)
    masks = {part: arrays[f"{part}_masks"] for part in ("train", "val", "test")}
    parts, num_splits = check_masks(masks, split, num_nodes, names)
    if not allow_unseen_classes:
        check_classes_trained(labels, parts[0], split, names)
    edges = check_edges(arrays["edges"], num_nodes, names)
    weight = arrays.get("edge_weights")
    if weight is not None:
        weight = check_weight(weight, len(edges), names)
    if undirected:
        added = missing_reverses(edges[:, 0], edges[:, 1], num_nodes)
        edges = np.concatenate([edges, edges[added, ::-1]])
        weight = None if weight is None else np.concatenate([weight, weight[added]])
    return assemble(
        name or path.stem,
        edges=edges,
        features=features,
        labels=labels,
        split=parts,
        num_splits=num_splits,
        metric=metric,
        weight=weight,
        names=names,
    )


def tolokers(name: str, data_dir: Path | None, *, split: int = 0) -> Dataset:
    """Crowd workers joined where they worked on one task; who of them was banned? `Platonov et al. (2023)
    <https://arxiv.org/abs/2302.11640>`_. Symmetrised, the features as they are, ROC AUC, ten splits, all as
    in the paper.

    Parameters
    ----------
    name : str
        ``"tolokers"``.
    data_dir : Path, optional
        Folder with ``tolokers.npz``, or with a sub-folder ``tolokers`` that has it.
    split : int
        0 to 9.
    """
    folder, raw = locate(data_dir, Raw(name, ("tolokers.npz",), (name,)))
    return graph_file(folder / raw.files[0], split=split, undirected=True, metric="roc_auc", name=name)


_NPZ_NAMES = (*REQUIRED[:3], "edge_weights", *REQUIRED[3:])
_DGL_NAMES = (
    'ndata["feat"]',
    'ndata["label"]',
    "edges",
    'edata["weight"]',
    'ndata["train_mask"]',
    'ndata["val_mask"]',
    'ndata["test_mask"]',
)


def _read_dgl(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the one graph in the file, under the names that they have in an ``.npz``."""
    with reading(path, "a graph saved by dgl.save_graphs"):
        try:
            graphs, _ = dgl.load_graphs(str(path))
        except dgl.DGLError as error:
            # Its first line is a place in DGL's own sources and then the reason.
            raise ValueError(str(error).splitlines()[0].rpartition(": ")[2]) from error
    if len(graphs) != 1 or not graphs[0].is_homogeneous:
        found = f"{len(graphs)} graphs" if len(graphs) != 1 else "several types of nodes or edges"
        raise ValueError(f"{path} holds {found}; save one homogeneous graph (dgl.to_homogeneous makes one).")
    graph = graphs[0]
    if missing := [key for key in NDATA if key not in graph.ndata]:
        present = ", ".join(sorted(graph.ndata)) or "nothing"
        raise ValueError(f"{path} lacks {', '.join(missing)} in ndata; it has {present}, and needs {', '.join(NDATA)}.")
    source, target = graph.edges(order="eid")
    arrays = {"edges": np.stack([_numpy(source), _numpy(target)], axis=1)}
    for key, data in zip(REQUIRED, (*NDATA[:2], None, *NDATA[2:]), strict=True):
        if data is not None:
            # DGL's masks have one column a split, the masks of an .npz one row.
            arrays[key] = _numpy(graph.ndata[data]).T if data in NDATA[2:] else _numpy(graph.ndata[data])
    if "weight" in graph.edata:
        arrays["edge_weights"] = _numpy(graph.edata["weight"])
    return arrays


def _numpy(tensor: Tensor) -> np.ndarray:
    # NumPy has no bfloat16.
    return np.asarray(tensor.float() if tensor.is_floating_point() else tensor)
