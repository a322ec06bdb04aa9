"""load: names, paths, options, folders; and the two graphs that come from files only."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import gnnscale.data
from gnnscale.data import Dataset, dataset_names, load

DOCS = Path(__file__).resolve().parents[2] / "docs" / "data.md"


def test_the_public_names():
    assert sorted(gnnscale.data.__all__) == ["Dataset", "dataset_names", "load"]
    assert all("\n" not in line for line in dataset_names().values())


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("coraa", "no dataset and no file named 'coraa'; did you mean 'cora'?"),
        ("Cora", "did you mean 'cora'?"),
        ("ogbn_arxiv", "did you mean 'ogbn-arxiv'?"),
        ("xyzzy", "no file named 'xyzzy'; choose one of cora, citeseer"),
        ("mine.npz", "mine.npz does not exist; give an .npz file or a graph saved by DGL"),
        ("a/folder", "a/folder does not exist"),
    ],
)
def test_unknown_names_and_missing_files(tmp_path, name, sentence):
    with pytest.raises(FileNotFoundError, match=re.escape(sentence)):
        load(name, tmp_path)


def test_folders_instead_of_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is a folder; give an .npz file"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"data_dir .*nowhere is not a folder"):
        load("cora", tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "option", "sentence"),
    [
        ("synthetic", "num_node", "synthetic takes no option 'num_node'; did you mean num_nodes?"),
        ("rmat", "xyz", "rmat takes no option 'xyz'; it takes num_nodes, num_edges"),
        ("cora", "seed", "cora takes no option 'seed'; it takes none."),
        ("mine.npz", "undirectd", "mine.npz takes no option 'undirectd'; did you mean undirected?"),
    ],
)
def test_options_that_a_dataset_does_not_take(name, option, sentence):
    with pytest.raises(TypeError, match=re.escape(sentence)):
        load(name, **{option: 1})


def test_the_split_is_a_number():
    with pytest.raises(TypeError, match="split is '0'; give the number of a split"):
        load("synthetic", split="0")


def test_a_dataset_cannot_be_changed():
    data = load("rmat", num_nodes=100, num_edges=200)
    with pytest.raises(AttributeError):
        data.name = "other"
    assert isinstance(data, Dataset)
    assert data.graph.ndata["feat"].dtype == torch.float32
    assert data.graph.ndata["label"].dtype == torch.int64


def test_tolokers(shared):
    data = load("tolokers", shared, split=3)
    assert (data.num_nodes, data.num_edges, data.num_features) == (11758, 1_038_000, 10)
    assert (data.metric, data.num_classes, data.num_splits) == ("roc_auc", 2, 10)
    with np.load(shared / "tolokers" / "tolokers.npz") as file:
        assert data.train_ids.tolist() == np.flatnonzero(file["train_masks"][3]).tolist()
        np.testing.assert_array_equal(data.graph.ndata["feat"], file["node_features"])
    source, target = data.graph.edges()
    keys = source * data.num_nodes + target
    assert len(keys.unique()) == data.num_edges
    assert torch.equal(keys.sort().values, (target * data.num_nodes + source).sort().values)
    # The folder itself does as well.
    assert load("tolokers", shared / "tolokers").name == "tolokers"


def test_facebook(shared):
    data = load("facebook", shared)
    assert (data.num_nodes, data.num_features, data.num_classes) == (22470, 4714, 4)
    source, target = data.graph.edges()
    loops = int((source == target).sum())
    assert (data.num_edges + loops) // 2 == 171_002
    assert len((source * data.num_nodes + target).unique()) == data.num_edges
    words = json.loads((shared / "facebook" / "features.json").read_text())
    for node in ("554", "10772", "0"):
        assert data.graph.ndata["feat"][int(node)].nonzero().flatten().tolist() == sorted(set(words[node]))
    # 1 is the page of a consulate, and government is the second type in the alphabet.
    assert data.graph.ndata["label"][1] == 1
    assert [len(part) for part in (data.train_ids, data.val_ids, data.test_ids)] == [80, 120, 22270]
    assert torch.equal(data.train_ids, load("facebook", shared).train_ids)


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("edges.csv", "id_1,id_2\n0,9\n", "edges.csv is not a table .*ids outside 0 to 1"),
        ("edges.csv", "a,b\n0,1\n", "edges.csv is not a table with id_1 and id_2"),
        ("features.json", "[1]", "features.json is not a JSON"),
        ("features.json", '{"7": [1]}', "features.json is not a JSON object of node id"),
        ("target.csv", "id,page_type\n0,a\n0,b\n", "target.csv is not .*ids are not 0 to N - 1"),
    ],
)
def test_facebook_with_a_damaged_file(tmp_path, file, content, sentence):
    good = {
        "edges.csv": "id_1,id_2\n0,1\n",
        "features.json": '{"0": [0, 2], "1": []}',
        "target.csv": "id,page_type\n1,a\n0,b\n",
    }
    for name, text in good.items():
        (tmp_path / name).write_text(text)
    data = load("facebook", tmp_path)
    assert data.graph.ndata["feat"].tolist() == [[1, 0, 1], [0, 0, 0]]
    assert data.graph.ndata["label"].tolist() == [1, 0]
    (tmp_path / file).write_text(content)
    with pytest.raises(ValueError, match=sentence):
        load("facebook", tmp_path)


def test_every_dataset_is_on_the_page():
    page = DOCS.read_text()
    for name in dataset_names():
        assert f"`{name}`" in page
