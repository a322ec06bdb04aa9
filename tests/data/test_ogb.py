"""OGB's raw files are read without the package ogb."""

import numpy as np
import pandas as pd
import pytest
import torch

from gnnscale.data import load

TABLES = {
    "raw/edge": [[0, 1], [1, 2], [2, 1], [3, 4]],
    "raw/node-feat": np.arange(10.0).reshape(5, 2) / 7,
    "raw/node-label": [[0], [1], [2], [0], [1]],
    "train": [[2], [0]],
    "valid": [[3]],
    "test": [[4], [1]],
}


def write(folder, rule):
    for name, table in TABLES.items():
        path = folder / (f"{name}.csv.gz" if "/" in name else f"split/{rule}/{name}.csv.gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(table).to_csv(path, header=False, index=False, compression="gzip")


@pytest.mark.parametrize(("name", "rule"), [("ogbn-arxiv", "time"), ("ogbn-products", "sales_ranking")])
@pytest.mark.parametrize("layout", ["ogbn_{}", ""])
def test_both_directions_and_the_official_split(tmp_path, offline, name, rule, layout):
    write(tmp_path / layout.format(name.removeprefix("ogbn-")), rule)
    data = load(name, tmp_path)
    edges = list(zip(*(end.tolist() for end in data.graph.edges()), strict=True))
    assert edges == [(0, 1), (1, 0), (1, 2), (2, 1), (3, 4), (4, 3)]
    assert [part.tolist() for part in (data.train_ids, data.val_ids, data.test_ids)] == [[0, 2], [3], [1, 4]]
    assert data.num_classes == 3
    torch.testing.assert_close(data.graph.ndata["feat"], torch.arange(10.0).reshape(5, 2) / 7)


def test_missing_files_are_named(tmp_path, offline):
    with pytest.raises(FileNotFoundError, match=r"ogbn-arxiv .* cannot be downloaded .* raw/edge.csv.gz"):
        load("ogbn-arxiv", tmp_path)


def test_a_damaged_table_is_one_sentence(tmp_path):
    write(tmp_path, "time")
    (tmp_path / "raw/node-feat.csv.gz").write_bytes(b"garbage")
    with pytest.raises(ValueError, match=r"node-feat.csv.gz is not a gzipped table"):
        load("ogbn-arxiv", tmp_path)
