"""Graphs of the Open Graph Benchmark, read from its raw files.

The files are gzipped tables of numbers, so the package ``ogb`` is not needed: it would ask questions on the
terminal, look for news of itself on the network and write beside the raw files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gnnscale.data.arrays import reading
from gnnscale.data.dataset import Dataset, assemble
from gnnscale.data.edges import both_directions
from gnnscale.data.raw import Raw, locate
from gnnscale.data.splits import check_split

SPLIT_RULE = {"ogbn-arxiv": "time", "ogbn-products": "sales_ranking"}
ADDRESS = "http://snap.stanford.edu/ogb/data/nodeproppred"


def ogbn(name: str, data_dir: Path | None, *, split: int = 0) -> Dataset:
    """Read ogbn-arxiv or ogbn-products, `Hu et al. (2020) <https://arxiv.org/abs/2005.00687>`_.

    Both directions of every edge are stored, as OGB does for products and as its own GCN and
    GNNAutoScale do for arxiv, whose citations have a direction. The split is OGB's.

    Parameters
    ----------
    name : str
        ``"ogbn-arxiv"`` or ``"ogbn-products"``.
    data_dir : Path, optional
        Folder with OGB's folder ``ogbn_arxiv``, or ``ogbn_products``.
    split : int
        There is one: 0.
    """
    check_split(split, 1, name)
    folder_name = name.replace("-", "_")
    raw_files = [f"raw/{part}.csv.gz" for part in ("edge", "node-feat", "node-label")]
    split_files = [f"split/{SPLIT_RULE[name]}/{part}.csv.gz" for part in ("train", "valid", "test")]
    short = name.removeprefix("ogbn-")
    folders = (folder_name, f"{folder_name}_dgl", name, short)
    folder, _ = locate(data_dir, Raw(name, (*raw_files, *split_files), folders, f"{ADDRESS}/{short}.zip"))
    edges, features, labels = (
        _table(folder / file, dtype) for file, dtype in zip(raw_files, ("int64", "float32", "int64"), strict=True)
    )
    train, val, test = (torch.from_numpy(np.sort(_table(folder / file, "int64")[:, 0])) for file in split_files)
    return assemble(
        name,
        edges=both_directions(edges[:, 0], edges[:, 1], len(features)),
        features=features,
        labels=labels,
        split=(train, val, test),
    )


def _table(path: Path, dtype: str) -> np.ndarray:
    with reading(path, "a gzipped table of numbers"):
        return pd.read_csv(path, compression="gzip", header=None, dtype=dtype).to_numpy()
