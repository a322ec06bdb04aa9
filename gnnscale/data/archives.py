"""Graphs that DGL distributes, read from the raw files in its archives.

DGL's own classes write a cache beside the raw files, look for one folder name only, unpickle some of the
files without restriction (Amazon, Coauthor) and in part do not work with a current NetworkX (PPI). The
readers here are checked against them where they run.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch

from gnnscale.data.arrays import load_json, load_npy, load_npz, load_sparse, reading
from gnnscale.data.dataset import Dataset, assemble
from gnnscale.data.edges import both_directions
from gnnscale.data.raw import Raw, dgl_url, locate
from gnnscale.data.splits import check_split, ids, per_class_split

CSR_PARTS = ("data", "indices", "indptr", "shape")


def reddit(name: str, data_dir: Path | None, *, split: int = 0) -> Dataset:
    """Posts of Reddit, two joined where one user comments on both; `Hamilton et al. (2017)
    <https://arxiv.org/abs/1706.02216>`_."""
    check_split(split, 1, name)
    files = ("reddit_graph.npz", "reddit_data.npz")
    folder, _ = locate(data_dir, Raw(name, files, ("reddit",), dgl_url("reddit.zip")))
    adjacency = load_sparse(folder / files[0])
    arrays = load_npz(folder / files[1], ("feature", "label", "node_types"))
    part = arrays["node_types"]
    return assemble(
        name,
        edges=(adjacency.row, adjacency.col),
        features=arrays["feature"],
        labels=arrays["label"],
        split=(ids(part == 1), ids(part == 2), ids(part == 3)),
    )


def graphsaint(name: str, data_dir: Path | None, *, split: int = 0) -> Dataset:
    """Flickr and Yelp, in the files of `GraphSAINT (Zeng et al. 2020) <https://arxiv.org/abs/1907.04931>`_;
    the features are used as they are."""
    check_split(split, 1, name)
    files = ("adj_full.npz", "feats.npy", "class_map.json", "role.json")
    folder, _ = locate(data_dir, Raw(name, files, (name,), dgl_url(f"{name}.zip")))
    adjacency, features = load_sparse(folder / files[0]), load_npy(folder / files[1])
    classes, role = load_json(folder / files[2], dict), load_json(folder / files[3], dict)
    with reading(folder, "a folder of GraphSAINT's files"):
        labels = np.array([classes[str(node)] for node in range(len(features))])
        train, val, test = (torch.tensor(sorted(role[part])) for part in ("tr", "va", "te"))
    return assemble(
        name,
        edges=(adjacency.row, adjacency.col),
        features=features,
        labels=labels,
        split=(train, val, test),
    )


def wikics(name: str, data_dir: Path | None, *, split: int = 0) -> Dataset:
    """Wikipedia's articles on computer science, `Mernyei and Cangea (2020)
    <https://arxiv.org/abs/2007.02901>`_: symmetrised, 20 splits, one test set, and the stopping mask as
    validation, as in the experiments of GNNAutoScale."""
    folder, _ = locate(data_dir, Raw(name, ("data.json",), ("wiki_cs", "wikics"), dgl_url("wiki_cs.zip")))
    data = load_json(folder / "data.json", dict)
    with reading(folder / "data.json", "the file of WikiCS"):
        links, num_splits = data["links"], len(data["train_masks"])
        source = np.repeat(np.arange(len(links)), [len(link) for link in links])
        target = np.array([other for link in links for other in link])
        features, labels = np.array(data["features"], dtype=np.float32), np.array(data["labels"])
        train_masks, val_masks = data["train_masks"], data["stopping_masks"]
    check_split(split, num_splits, name)
    masks = (train_masks[split], val_masks[split], data["test_mask"])
    train, val, test = (ids(np.array(mask, dtype=bool)) for mask in masks)
    return assemble(
        name,
        edges=both_directions(source, target, len(links)),
        features=features,
        labels=labels,
        split=(train, val, test),
        num_splits=num_splits,
    )


def ppi(name: str, data_dir: Path | None, *, split: int = 0) -> Dataset:
    """Proteins in 24 tissues as one graph of 24 parts: 20 train, 2 validate, 2 test; a node has any of 121
    labels. No edge joins two parts."""
    check_split(split, 1, name)
    modes = ("train", "valid", "test")
    kinds = ("graph.json", "feats.npy", "labels.npy")
    files = tuple(f"{mode}_{kind}" for mode in modes for kind in kinds)
    folder, _ = locate(data_dir, Raw(name, files, ("ppi",), dgl_url("ppi.zip")))
    features, labels, edges, parts = [], [], [], []
    first = 0
    for mode in modes:
        path = folder / f"{mode}_graph.json"
        graph, rows = load_json(path, dict), load_npy(folder / f"{mode}_feats.npy")
        with reading(path, "a graph of PPI"):
            ends = [(link["source"], link["target"]) for link in graph["links"]]
            source, target = np.array(ends, dtype=np.int64).reshape(-1, 2).T
        if not graph.get("directed"):
            source, target = both_directions(source, target, len(rows))
        edges.append((first + source, first + target))
        features.append(rows)
        labels.append(load_npy(folder / f"{mode}_labels.npy"))
        parts.append(torch.arange(first, first + len(rows)))
        first += len(rows)
    train, val, test = parts
    sources, targets = zip(*edges, strict=True)
    return assemble(
        name,
        edges=(np.concatenate(sources), np.concatenate(targets)),
        features=np.concatenate(features),
        labels=np.concatenate(labels),
        split=(train, val, test),
    )


def shchur(name: str, data_dir: Path | None, *, split: int = 0) -> Dataset:
    """Amazon's and Coauthor's graphs of `Shchur et al. (2018) <https://arxiv.org/abs/1811.05868>`_, as in
    the experiments of GNNAutoScale: symmetrised, no self-loops, features 0 or 1, and 20 splits of 20 nodes
    per class to train and 30 to validate, drawn with seed 12345."""
    num_splits = 20
    check_split(split, num_splits, name)
    stem = {
        "amazon-computers": "amazon_co_buy_computer",
        "amazon-photo": "amazon_co_buy_photo",
        "coauthor-cs": "coauthor_cs",
        "coauthor-physics": "coauthor_physics",
    }[name]
    folder, raw = locate(data_dir, Raw(name, (f"{stem}.npz",), (stem, name), dgl_url(f"{stem}.zip")))
    path = folder / raw.files[0]
    keys = [f"{matrix}_{part}" for matrix in ("adj", "attr") for part in CSR_PARTS]
    arrays = load_npz(path, (*keys, "labels"))
    with reading(path, "a graph of Shchur et al."):
        adjacency, features = _csr(arrays, "adj").tocoo(), _csr(arrays, "attr").toarray()
        labels = arrays["labels"].astype(np.int64)
    keep = adjacency.row != adjacency.col
    return assemble(
        name,
        edges=both_directions(adjacency.row[keep], adjacency.col[keep], len(labels)),
        features=(features > 0).astype(np.float32),
        labels=labels,
        split=per_class_split(torch.from_numpy(labels), split, num_splits),
        num_splits=num_splits,
    )


def _csr(arrays: dict[str, np.ndarray], matrix: str) -> sp.csr_matrix:
    data, indices, indptr, shape = (arrays[f"{matrix}_{part}"] for part in CSR_PARTS)
    return sp.csr_matrix((data, indices, indptr), shape=tuple(shape))
