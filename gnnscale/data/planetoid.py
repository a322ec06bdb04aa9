"""Cora, CiteSeer and PubMed, from the raw files of Planetoid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from gnnscale.data.dataset import Dataset, assemble
from gnnscale.data.edges import both_directions
from gnnscale.data.pickles import load_pickle
from gnnscale.data.raw import Raw, dgl_url, locate
from gnnscale.data.splits import check_split

PARTS = ("x", "y", "tx", "ty", "allx", "ally", "graph")
NUM_VAL = 500


def planetoid(name: str, data_dir: Path | None, *, split: int = 0) -> Dataset:
    """Read a citation graph with the public split of `Yang et al. (2016)
    <https://arxiv.org/abs/1603.08861>`_.

    The graph, the rows and the split are those of ``dgl.data.CitationGraphDataset``: both directions of
    every edge, duplicates removed, self-loops kept, feature rows divided by their sum, a zero row for
    CiteSeer's nodes without features. The files are read by an unpickler that runs nothing.

    Parameters
    ----------
    name : str
        ``"cora"``, ``"citeseer"`` or ``"pubmed"``.
    data_dir : Path, optional
        Folder with ``ind.<name>.x`` and the other seven files, or with a sub-folder that has them.
    split : int
        There is one: 0.

    Raises
    ------
    FileNotFoundError, ValueError
        If the files are missing, or are damaged or do not fit together.
    """
    check_split(split, 1, name)
    stems = ("cora", "cora_v2") if name == "cora" else (name,)
    folder, raw = locate(data_dir, *(_raw_files(name, stem, stems[::-1]) for stem in stems))
    *paths, index_path = (folder / file for file in raw.files)
    parts = dict(zip(PARTS, map(load_pickle, paths), strict=True))
    try:
        return _assemble(name, parts, _read_index(index_path))
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(
            f"Dataset {name}: the files ind.* in {folder} do not fit together ({error}); download them again."
        ) from error


def _raw_files(name: str, stem: str, folders: tuple[str, ...]) -> Raw:
    files = tuple(f"ind.{stem}.{part}" for part in (*PARTS, "test.index"))
    return Raw(name, files, folders, dgl_url(f"{stem}.zip"))


def _read_index(path: Path) -> np.ndarray:
    return np.array([int(line) for line in path.read_text().split()], dtype=np.int64)


def _assemble(name: str, parts: dict, test_index: np.ndarray) -> Dataset:
    """Row k of ``tx`` and ``ty`` belongs to node ``test_index[k]``; nodes in neither have zeros."""
    num_listed, num_train = len(parts["ally"]), len(parts["y"])
    num_nodes = max(num_listed - 1, int(test_index.max())) + 1
    features = np.zeros((num_nodes, parts["allx"].shape[1]))
    one_hot = np.zeros((num_nodes, parts["ally"].shape[1]))
    features[:num_listed], one_hot[:num_listed] = parts["allx"].toarray(), parts["ally"]
    features[test_index], one_hot[test_index] = parts["tx"].toarray(), parts["ty"]
    sums = features.sum(axis=1, keepdims=True)
    features = np.divide(features, sums, out=np.zeros_like(features), where=sums != 0)

    source = np.repeat(list(parts["graph"]), [len(others) for others in parts["graph"].values()])
    target = np.concatenate([np.asarray(others, dtype=np.int64) for others in parts["graph"].values()])
    return assemble(
        name,
        edges=both_directions(source, target, num_nodes),
        features=features,
        labels=one_hot.argmax(axis=1),
        split=(
            torch.arange(num_train),
            torch.arange(num_train, num_train + NUM_VAL),
            torch.from_numpy(np.sort(test_index)),
        ),
        num_classes=one_hot.shape[1],
    )
