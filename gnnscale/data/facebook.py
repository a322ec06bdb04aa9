"""Facebook's pages that like each other (MUSAE)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gnnscale.data.arrays import load_json, reading
from gnnscale.data.dataset import Dataset, assemble
from gnnscale.data.edges import both_directions
from gnnscale.data.raw import Raw, locate
from gnnscale.data.splits import check_split, per_class_split

NUM_SPLITS = 10
FILES = ("edges.csv", "features.json", "target.csv")


def facebook(name: str, data_dir: Path | None, *, split: int = 0) -> Dataset:
    """Read the page-page graph of `Rozemberczki et al. (2019) <https://arxiv.org/abs/1909.13021>`_.

    Features are 0 or 1 a word of the page's description and are not normalised; classes are the page types in
    alphabetical order. The graph has no official split: here are ten, of 20 nodes per class to train, 30
    to validate and the rest to test.

    Parameters
    ----------
    name : str
        ``"facebook"``.
    data_dir : Path, optional
        Folder with ``edges.csv``, ``features.json`` and ``target.csv``, with or without the prefix
        ``musae_facebook_``, or with a sub-folder ``facebook`` that has them.
    split : int
        0 to 9.
    """
    check_split(split, NUM_SPLITS, name)
    prefixed = ("musae_facebook_edges.csv", "musae_facebook_features.json", "musae_facebook_target.csv")
    folder, raw = locate(data_dir, *(Raw(name, files, (name, "facebook_large")) for files in (prefixed, FILES)))
    edges_path, features_path, target_path = (folder / file for file in raw.files)

    with reading(target_path, "a table with id and page_type"):
        target = pd.read_csv(target_path, usecols=["id", "page_type"]).sort_values("id")
        if not np.array_equal(target["id"], np.arange(len(target))):
            raise ValueError("its ids are not 0 to N - 1, each once")
        labels = np.unique(target["page_type"].to_numpy(dtype=str), return_inverse=True)[1]
    num_nodes = len(labels)
    with reading(edges_path, "a table with id_1 and id_2, node ids of target.csv"):
        edges = pd.read_csv(edges_path, usecols=["id_1", "id_2"]).to_numpy(dtype=np.int64)
        if ((edges < 0) | (edges >= num_nodes)).any():
            raise ValueError(f"it has ids outside 0 to {num_nodes - 1}")
    with reading(features_path, "a JSON object of node id to list of feature ids"):
        words = load_json(features_path, dict)
        rows = np.repeat([int(node) for node in words], [len(found) for found in words.values()])
        columns = np.array([word for found in words.values() for word in found], dtype=np.int64)
        if columns.min() < 0 or rows.min() < 0:
            raise ValueError("it has a negative id")
        features = np.zeros((num_nodes, columns.max() + 1), dtype=np.float32)
        features[rows, columns] = 1

    return assemble(
        name,
        edges=both_directions(edges[:, 0], edges[:, 1], num_nodes),
        features=features,
        labels=labels,
        split=per_class_split(torch.from_numpy(labels), split, NUM_SPLITS),
        num_splits=NUM_SPLITS,
    )
